//! One weight in standard operators.
//!
//! | way | operators, for each slab |
//! |---|---|
//! | affine | integers; Cast, Mul |
//! | codes | bytes; Cast, Gather of the digits of each byte; two such added up; Gather of the values |
//! | sparse | gaps as codes; CumSum; the values there as codes; ScatterElements into ConstantOfShape |
//!
//! A slab decodes to at most [`SLAB_BYTES`]: tract keeps what a constant computation gives only where that is no larger
//! than this, or than what went in. Slabs are joined by Concat, and shaped by Reshape.

use std::ops::Range;

use half::f16;
use onnx_dcomp_forms::{Codebook, DType, Form, GridKind, Steps, Values, trellis};
use onnx_dcomp_proto::TensorProto;
use onnx_dcomp_proto::tensor_proto::DataType;

use super::nodes::{Added, data_type, int, tensor};
use super::radix::{Digits, Radix, full_counts};

/// The most bytes that a slab decodes to.
const SLAB_BYTES: usize = 4 << 20;

/// Slabs hold a multiple of this many elements: of the digits in a byte, whatever the radix.
const WHOLE_BYTES: usize = 120;

/// Density above which positions are not worth a look.
const SPARSE_DENSITY: f64 = 0.8;

/// The first version of the standard operators with CumSum and ScatterElements.
const SPARSE_OPSET: i64 = 11;

/// A weight as integers: of a grid, or codes of a table.
pub(super) struct Encodable<'a> {
    shape: &'a [usize],
    /// The type that the weight has.
    dtype: DType,
    /// Code of each element, and what the codes stand for, before steps are multiplied in.
    codebook: Option<Codebook>,
    /// What each channel is multiplied with, and the shape that makes it fit the weight.
    scale: Option<(Vec<usize>, Values)>,
    /// The multiple of a step of each element; `None` where the weight is on no grid, or they exceed 16 bits.
    multiples: Option<Vec<i16>>,
}

/// How the elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A Cast and a Mul.
    Affine,
    /// Codes of every element.
    Codes,
    /// Gaps and codes of the elements that are not zero.
    Sparse,
}

/// Elements of a part of the weight on their way.
struct Part {
    name: String,
    layout: Layout,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// As the weight has it.
    Final,
    /// One after the other.
    Flat,
    /// A row for each byte, all elements in use.
    Rows,
}

impl<'a> Encodable<'a> {
    /// What of `form` standard operators can give.
    pub(super) fn new(form: &Form, shape: &'a [usize]) -> Self {
        let dtype = form.dtype();
        let mut own = Self { shape, dtype, codebook: None, scale: None, multiples: None };
        if let Form::Grid(grid) = form
            && !matches!(grid.kind(), GridKind::Lattice { .. })
        {
            let steps: Vec<f32> =
                (0..grid.steps().channels()).map(|channel| grid.steps().of_channel(channel)).collect();
            own.multiples = multiples(grid.levels(), grid.kind());
            own.scale = Some((scale_shape(shape, grid.steps()), Values::from_f32(DType::F32, &steps)));
        }
        own.codebook = match (form, &own.multiples, &own.scale) {
            (Form::Codebook(codebook), ..) => Some(codebook.clone()),
            // With many steps the values are many, but the multiples are few.
            (_, Some(multiples), Some((_, steps))) if steps.len() > 1 => {
                let multiples: Vec<f32> = multiples.iter().map(|&multiple| f32::from(multiple)).collect();
                Codebook::recognise(&Values::from_f32(DType::F32, &multiples), Codebook::MAX_CENTROIDS)
            }
            _ => Codebook::recognise(&form.dense(), Codebook::MAX_CENTROIDS),
        };
        own
    }

    /// The ways that there are in version `opset` of the standard operators.
    pub(super) fn ways(&self, opset: i64) -> Vec<Way> {
        let mut ways = Vec::new();
        if self.multiples.is_some() {
            ways.push(Way::Affine);
        }
        if let Some(codebook) = &self.codebook {
            ways.push(Way::Codes);
            let nonzeros = codebook.codes().iter().filter(|&&code| code != 0).count();
            let is_sparse = nonzeros as f64 <= SPARSE_DENSITY * codebook.codes().len() as f64;
            if codebook.has_zero() && is_sparse && opset >= SPARSE_OPSET {
                ways.push(Way::Sparse);
            }
        }
        ways
    }

    /// Adds what computes the weight; its last node gives it.
    pub(super) fn write(&self, way: Way, added: &mut Added) {
        let len: usize = self.shape.iter().product();
        let element_bytes = self.dtype.element_bytes().max(size_of::<i32>());
        let slab = SLAB_BYTES / element_bytes / WHOLE_BYTES * WHOLE_BYTES;
        let slabs = (0..len).step_by(slab).map(|start| start..(start + slab).min(len));
        let is_whole = len <= slab;
        let (parts, is_scaled) = match (way, &self.multiples, &self.codebook) {
            (Way::Affine, Some(multiples), _) => {
                let parts = slabs.map(|range| self.affine(&multiples[range], is_whole, added)).collect();
                (parts, true)
            }
            (way, _, Some(codebook)) => {
                let mut table = Table::new(codebook, added);
                let mut part = |range: Range<usize>| {
                    let codes = &codebook.codes()[range];
                    match way {
                        Way::Sparse => table.sparse(codes, added),
                        _ => table.dense(codes, is_whole.then_some(self.shape), added),
                    }
                };
                (slabs.map(&mut part).collect(), self.has_multiples_in_codes())
            }
            _ => return,
        };
        let mut name = self.joined(parts, added);
        if let Some((dims, steps)) = self.scale.as_ref().filter(|_| is_scaled) {
            let steps = added.values(dims, steps);
            name = added.node("Mul", &[&name, &steps], Vec::new());
            if self.dtype != DType::F32 {
                added.cast(&name, data_type(self.dtype));
            }
        }
    }

    /// Whether codes stand for multiples of a step.
    fn has_multiples_in_codes(&self) -> bool {
        self.multiples.is_some() && self.scale.as_ref().is_some_and(|(_, steps)| steps.len() > 1)
    }

    fn affine(&self, multiples: &[i16], is_whole: bool, added: &mut Added) -> Part {
        let dims = if is_whole { self.shape } else { &[multiples.len()] };
        let is_short = multiples.iter().all(|&multiple| i8::try_from(multiple).is_ok());
        let stored = if is_short {
            added.constant(dims, DataType::Int8, multiples.iter().map(|&m| m as i8 as u8).collect::<Vec<u8>>())
        } else {
            added.constant(dims, DataType::Int16, multiples.iter().flat_map(|m| m.to_le_bytes()).collect::<Vec<u8>>())
        };
        let layout = if is_whole { Layout::Final } else { Layout::Flat };
        Part { name: added.cast(&stored, DataType::Float), layout }
    }

    fn joined(&self, parts: Vec<Part>, added: &mut Added) -> String {
        let shape: Vec<i64> = self.shape.iter().map(|&length| length as i64).collect();
        let is_ready = |layout| layout == Layout::Final || (layout == Layout::Flat && self.shape.len() == 1);
        let joined = match <[Part; 1]>::try_from(parts) {
            Ok([only]) => only,
            Err(parts) => {
                let flat: Vec<String> = parts.into_iter().map(|part| flat(part, added)).collect();
                Part { name: added.concat(&flat), layout: Layout::Flat }
            }
        };
        if is_ready(joined.layout) { joined.name } else { added.reshape(&joined.name, &shape) }
    }
}

fn flat(part: Part, added: &mut Added) -> String {
    if part.layout == Layout::Flat { part.name } else { added.reshape(&part.name, &[-1]) }
}

/// The multiple of the step that each level stands for; `None` where one exceeds 16 bits.
fn multiples(levels: &[i16], kind: GridKind) -> Option<Vec<i16>> {
    if kind != GridKind::Trellis {
        return Some(levels.to_vec());
    }
    let mut state = trellis::START;
    let mut multiple = |&level: &i16| {
        let multiple = trellis::multiple(state, level);
        state = trellis::advance(state, level);
        i16::try_from(multiple).ok()
    };
    levels.iter().map(&mut multiple).collect()
}

/// The shape with which one number for each channel fits a weight of `shape`.
fn scale_shape(shape: &[usize], steps: &Steps) -> Vec<usize> {
    let Steps::PerChannel { inner, exponents, .. } = steps else { return Vec::new() };
    let mut behind = 1;
    let mut dims = Vec::new();
    for &length in shape.iter().rev() {
        if behind == *inner && length == exponents.len() {
            dims.push(length);
            break;
        }
        dims.push(1);
        behind *= length;
    }
    dims.reverse();
    dims
}

/// From this many values on, to have them in 16 bits is worth a Cast.
const LEAST_HALVES: usize = 20;

/// `values` in 16 bits and then zeros, `places` in all; `None` where any value takes more bits.
fn halves(values: &Values, places: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2 * places);
    for (index, value) in values.iter().enumerate() {
        let half = f16::from_f32(value);
        let is_same = values.dtype() == DType::F32
            && value.is_finite()
            && u64::from(half.to_f32().to_bits()) == values.bits(index);
        is_same.then(|| bytes.extend_from_slice(&half.to_le_bytes()))?;
    }
    bytes.resize(2 * places, 0);
    Some(bytes)
}

/// The values that codes stand for.
struct Table<'a> {
    codebook: &'a Codebook,
    values: String,
    digits: Digits,
    /// The values of each byte, where a byte holds several codes; made with the first slab.
    of_bytes: Option<String>,
}

impl<'a> Table<'a> {
    fn new(codebook: &'a Codebook, added: &mut Added) -> Self {
        let count = codebook.centroids().len();
        // There is always a way: a codebook has no more values than digits can tell apart.
        let digits = Digits::of(count).unwrap_or(Digits { low: Radix { base: 256, per_byte: 1 }, high: None });
        // The table of a byte's values looks every digit up, whether it occurs or not.
        let places = if digits.high.is_none() && digits.low.per_byte > 1 { digits.low.base } else { count };
        let mut bytes = codebook.centroids().bytes().to_vec();
        bytes.resize(places * codebook.centroids().dtype().element_bytes(), 0);
        let values = match halves(codebook.centroids(), places).filter(|_| places >= LEAST_HALVES) {
            Some(halves) => {
                let halves = added.constant(&[places], DataType::Float16, halves);
                added.cast(&halves, DataType::Float)
            }
            None => added.constant(&[places], data_type(codebook.centroids().dtype()), bytes),
        };
        Self { codebook, values, digits, of_bytes: None }
    }

    /// Every element of a slab; `shape` is the weight's where the slab is all of it.
    fn dense(&mut self, codes: &[u16], shape: Option<&[usize]>, added: &mut Added) -> Part {
        let Digits { low: radix, high } = self.digits;
        let codes = codes.iter().map(|&code| usize::from(code));
        if high.is_some() {
            let indices = indices(codes, self.digits, 0, added);
            return Part { name: added.gather(&self.values, &indices), layout: Layout::Flat };
        }
        let count = codes.len();
        let bytes = radix.pack(codes);
        if radix.per_byte == 1 {
            let dims = shape.map_or_else(|| vec![count], <[usize]>::to_vec);
            let stored = added.constant(&dims, DataType::Uint8, bytes);
            let indices = added.cast(&stored, DataType::Int32);
            let layout = if shape.is_some() { Layout::Final } else { Layout::Flat };
            return Part { name: added.gather(&self.values, &indices), layout };
        }
        let of_bytes = match &self.of_bytes {
            Some(name) => name.clone(),
            None => {
                let digits = added.table(radix, 1, 0);
                self.of_bytes.insert(added.gather(&self.values, &digits)).clone()
            }
        };
        let stored = added.constant(&[bytes.len()], DataType::Uint8, bytes);
        let indices = added.cast(&stored, DataType::Int32);
        let rows = added.gather(&of_bytes, &indices);
        if count.is_multiple_of(radix.per_byte) {
            return Part { name: rows, layout: Layout::Rows };
        }
        let flat = added.reshape(&rows, &[-1]);
        Part { name: added.head(&flat, count), layout: Layout::Flat }
    }

    /// The elements of a slab that are not zero, and where they are.
    fn sparse(&mut self, codes: &[u16], added: &mut Added) -> Part {
        let gaps = Gaps::new(codes);
        let reach = gaps.cheapest_reach();
        let (mut steps, mut present) = (Vec::new(), Vec::new());
        // The first element is always there, so that every other position is a sum of gaps.
        present.push(codes.first().copied().unwrap_or_default());
        for (&gap, &code) in gaps.gaps.iter().zip(&gaps.codes) {
            let mut left = gap;
            while left > reach {
                steps.push(reach);
                present.push(0);
                left -= reach;
            }
            steps.push(left);
            present.push(code);
        }
        // No gap follows the last.
        steps.push(1);
        let digits = Digits::of(reach).unwrap_or(self.digits);
        let positions = indices(steps.into_iter().map(|gap| gap - 1), digits, 1, added);
        let axis = added.scalar(0);
        let positions = added.node("CumSum", &[&positions, &axis], vec![int("exclusive", 1)]);
        let values = self.dense(&present, None, added);
        let values = flat(values, added);
        let dtype = self.codebook.centroids().dtype();
        let zero = TensorProto {
            dims: vec![1],
            data_type: Some(data_type(dtype) as i32),
            raw_data: Some(vec![0; dtype.element_bytes()].into()),
            ..TensorProto::default()
        };
        let length = added.longs(&[codes.len() as i64]);
        let zeros = added.node("ConstantOfShape", &[&length], vec![tensor("value", zero)]);
        let name = added.node("ScatterElements", &[&zeros, &positions, &values], Vec::new());
        Part { name, layout: Layout::Flat }
    }
}

/// The elements of a slab that are not zero, but for its first.
struct Gaps {
    /// How far each is behind the one before it, the first behind the slab's first element.
    gaps: Vec<usize>,
    codes: Vec<u16>,
}

impl Gaps {
    fn new(codes: &[u16]) -> Self {
        let mut before = 0;
        let mut own = Self { gaps: Vec::new(), codes: Vec::new() };
        for (at, &code) in codes.iter().enumerate().skip(1).filter(|(_, code)| **code != 0) {
            own.gaps.push(at - before);
            own.codes.push(code);
            before = at;
        }
        own
    }

    /// The longest gap that is written as one, so that gaps and values take the least space. Longer ones are broken by
    /// elements that are zero.
    fn cheapest_reach(&self) -> usize {
        let values = self.codes.iter().copied().max().map_or(1, |most| usize::from(most) + 1);
        let bytes = |&reach: &usize| {
            let count: usize = self.gaps.iter().map(|gap| gap.div_ceil(reach)).sum();
            let of = |values| Digits::of(values).map_or(usize::MAX / 2, |digits| digits.bytes(count));
            (of(reach) + of(values), reach)
        };
        full_counts(256).into_iter().min_by_key(bytes).unwrap_or(256)
    }
}

/// Codes plus `offset` as `int32`, one after the other.
fn indices(
    codes: impl ExactSizeIterator<Item = usize> + Clone,
    digits: Digits,
    offset: usize,
    added: &mut Added,
) -> String {
    let Digits { low, high } = digits;
    let lower = stream(codes.clone().map(|code| code % low.base), low, 1, offset, added);
    let Some(high) = high else { return lower };
    let higher = stream(codes.map(|code| code / low.base), high, low.base, 0, added);
    added.node("Add", &[&higher, &lower], Vec::new())
}

/// `scale * digit + offset` as `int32`, one after the other.
fn stream(
    digits: impl ExactSizeIterator<Item = usize>,
    radix: Radix,
    scale: usize,
    offset: usize,
    added: &mut Added,
) -> String {
    let count = digits.len();
    let bytes = radix.pack(digits);
    let stored = added.constant(&[bytes.len()], DataType::Uint8, bytes);
    let stored = added.cast(&stored, DataType::Int32);
    if radix.per_byte == 1 {
        return added.scaled(stored, scale, offset);
    }
    let table = added.table(radix, scale, offset);
    let rows = added.gather(&table, &stored);
    let flat = added.reshape(&rows, &[-1]);
    if count.is_multiple_of(radix.per_byte) { flat } else { added.head(&flat, count) }
}
