//! Which layers a model has, and the patches that their kernels meet.

use std::collections::HashMap;

use onnx_dcomp_forms::DType;
use onnx_dcomp_ir::{GraphIndex, Model, WeightId, marker};
use onnx_dcomp_proto::{NodeProto, TypeProto, ValueInfoProto, type_proto};

use crate::tensor::{ElementType, Tensor};

/// One node that multiplies its input with a kernel.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Name of the kernel in the weight table.
    pub weight: String,
    /// Its place there.
    pub id: WeightId,
    /// Name of the bias in the weight table.
    pub bias: Option<String>,
    /// The tensor that the kernel is multiplied with.
    pub input: String,
    /// How patches are taken from it; `None` where that is not known.
    pub patch: Option<Patch>,
    /// Whether the kernel's rows, one for each output, lie one after the other.
    pub rows_are_contiguous: bool,
    /// Whether something else reads the kernel too.
    pub is_shared: bool,
}

/// How the columns of a row map to the layer's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patch {
    /// The last axis of the input.
    Vector {
        /// Its length.
        columns: usize,
    },
    /// A window of an image in NCHW order.
    Window(Window),
}

/// The window of a convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Channels that one kernel sees.
    pub channels: usize,
    /// Number of groups.
    pub groups: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Distance of neighbouring windows.
    pub strides: [usize; 2],
    /// Distance of neighbouring elements in the window.
    pub dilations: [usize; 2],
    /// Padding at the top, left, bottom and right.
    pub pads: [usize; 4],
}

impl Patch {
    /// Elements of a patch.
    pub fn columns(&self) -> usize {
        match self {
            Self::Vector { columns } => *columns,
            Self::Window(window) => window.channels * window.kernel[0] * window.kernel[1],
        }
    }

    /// Number of neighbouring columns that belong together: those of one channel.
    pub fn columns_per_channel(&self) -> usize {
        match self {
            Self::Vector { .. } => 1,
            Self::Window(window) => window.kernel[0] * window.kernel[1],
        }
    }

    /// How many patches `input` has; 0 where it does not fit.
    pub fn count(&self, input: &Tensor) -> usize {
        match self {
            Self::Vector { columns } if input.shape().last() == Some(columns) && *columns > 0 => input.len() / columns,
            Self::Vector { .. } => 0,
            Self::Window(window) => match *input.shape() {
                [n, c, h, w] if c == window.channels * window.groups => {
                    let [rows, columns] = window.places([h, w]);
                    n * window.groups * rows * columns
                }
                _ => 0,
            },
        }
    }

    /// Copies patch `number` of [`Patch::count`] into `row`.
    pub fn copy(&self, values: &[f32], shape: &[usize], number: usize, row: &mut [f32]) {
        match self {
            Self::Vector { columns } => row.copy_from_slice(&values[number * columns..(number + 1) * columns]),
            Self::Window(window) => window.copy(values, shape, number, row),
        }
    }
}

impl Window {
    /// Rows and columns of the layer's output, for an input of `size`.
    fn places(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = size[axis] + self.pads[axis] + self.pads[axis + 2];
            let extent = (self.kernel[axis].saturating_sub(1)) * self.dilations[axis] + 1;
            padded.checked_sub(extent).map_or(0, |room| room / self.strides[axis] + 1)
        })
    }

    fn copy(&self, values: &[f32], shape: &[usize], number: usize, row: &mut [f32]) {
        let (channels, height, width) = (shape[1], shape[2], shape[3]);
        let [rows, columns] = self.places([height, width]);
        let (group, place) = (number % self.groups, number / self.groups);
        let image = place / (rows * columns);
        let (y, x) = (place / columns % rows * self.strides[0], place % columns * self.strides[1]);
        let mut slots = row.iter_mut();
        for channel in group * self.channels..(group + 1) * self.channels {
            let plane = &values[(image * channels + channel) * height * width..][..height * width];
            for ky in 0..self.kernel[0] {
                let py = (y + ky * self.dilations[0]).checked_sub(self.pads[0]).filter(|&py| py < height);
                for kx in 0..self.kernel[1] {
                    let px = (x + kx * self.dilations[1]).checked_sub(self.pads[1]).filter(|&px| px < width);
                    let value = py.zip(px).map_or(0.0, |(py, px)| plane[py * width + px]);
                    if let Some(slot) = slots.next() {
                        *slot = value;
                    }
                }
            }
        }
    }
}

/// The layers of the main graph whose kernels are in the weight table, in the order of their nodes.
pub fn layers(model: &Model) -> Vec<Layer> {
    let graph = model.graph();
    let mut weights: HashMap<&str, WeightId> =
        graph.initializer.iter().filter_map(|tensor| Some((tensor.name(), marker::weight_of(tensor)?))).collect();
    for node in graph.node.iter().filter(|node| node.op_type() == "Constant") {
        let tensor = node.attribute.first().and_then(|attribute| attribute.t.as_ref());
        if let (Some(output), Some(id)) = (node.output.first(), tensor.and_then(marker::weight_of)) {
            weights.insert(output, id);
        }
    }
    let index = GraphIndex::new(graph);
    let mut found: Vec<Layer> = Vec::new();
    for node in &graph.node {
        let input = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
        let (Some(activation), Some(&id)) = (input(0), input(1).and_then(|name| weights.get(name.as_str()))) else {
            continue;
        };
        let weight = model.weight(id);
        // A kernel that several nodes share has seen one of its inputs, which must do for all.
        if let Some(known) = found.iter_mut().find(|layer| layer.id == id) {
            known.is_shared = true;
            continue;
        }
        let may_be = weight.dtype().is_float() && weight.len() >= Model::MIN_WEIGHT_LEN;
        let Some((patch, rows_are_contiguous)) = patch(node, &weight.shape).filter(|_| may_be) else { continue };
        let kernel = &node.input[1];
        let is_shared = index.consumers(kernel).len() > 1 || index.is_captured(kernel) || index.is_output(kernel);
        let bias = input(2).and_then(|name| weights.get(name.as_str())).map(|&id| model.weight(id).name.clone());
        let (weight, input) = (weight.name.clone(), activation.clone());
        found.push(Layer { weight, id, bias, input, patch, rows_are_contiguous, is_shared });
    }
    found
}

/// How the rows of a kernel of `shape` meet the input of `node`; `None` where it is no layer.
#[allow(clippy::type_complexity, reason = "the inner option is the layer's own: its patches are not known")]
fn patch(node: &NodeProto, shape: &[usize]) -> Option<(Option<Patch>, bool)> {
    let int = |name: &str| node.attribute.iter().find(|a| a.name() == name).and_then(|a| a.i);
    match (node.op_type(), shape) {
        ("Conv", &[_, channels, kh, kw]) => Some((window(node, channels, [kh, kw]), true)),
        ("Conv" | "ConvTranspose", _) => Some((None, false)),
        ("Gemm", &[_, columns]) if int("transB") == Some(1) && int("transA").unwrap_or(0) == 0 => {
            Some((Some(Patch::Vector { columns }), true))
        }
        ("Gemm" | "MatMul", &[columns, _]) => Some((Some(Patch::Vector { columns }), false)),
        ("MatMul", _) => Some((None, false)),
        _ => None,
    }
}

fn window(node: &NodeProto, channels: usize, kernel: [usize; 2]) -> Option<Patch> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    let pair = |name: &str| {
        let ints = attribute(name).map(|attribute| attribute.ints.as_slice()).unwrap_or(&[1, 1]);
        Some([usize::try_from(*ints.first()?).ok()?.max(1), usize::try_from(*ints.get(1)?).ok()?.max(1)])
    };
    let dilations = pair("dilations")?;
    let automatic = attribute("auto_pad").and_then(|a| a.s.as_deref()).unwrap_or(b"NOTSET");
    let pads = match automatic {
        b"NOTSET" => {
            let pads = attribute("pads").map(|attribute| attribute.ints.as_slice()).unwrap_or(&[0, 0, 0, 0]);
            let pads: Vec<usize> = pads.iter().map(|&pad| usize::try_from(pad).ok()).collect::<Option<_>>()?;
            pads.try_into().ok()?
        }
        b"VALID" => [0; 4],
        _ => {
            let [y, x] = [0, 1].map(|axis| kernel[axis].saturating_sub(1) * dilations[axis] / 2);
            [y, x, y, x]
        }
    };
    let groups = attribute("group").and_then(|attribute| attribute.i).map_or(Some(1), |i| usize::try_from(i).ok())?;
    let strides = pair("strides")?;
    (groups > 0).then_some(Patch::Window(Window { channels, groups, kernel, strides, dilations, pads }))
}

/// The type of a weight's elements.
fn element_of(dtype: DType) -> ElementType {
    match dtype {
        DType::F64 => ElementType::F64,
        DType::F16 => ElementType::F16,
        DType::BF16 => ElementType::BF16,
        _ => ElementType::F32,
    }
}

/// The declaration of a value of which the element type is known, as a number of ONNX, and nothing else.
pub(super) fn declaration(name: &str, element: i32) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(element), ..type_proto::Tensor::default() };
    let value = Some(type_proto::Value::TensorType(tensor));
    let declared = TypeProto { value, ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(declared), ..ValueInfoProto::default() }
}

/// The model with the layers' inputs as further outputs, and where each is found: `Ok` among the outputs, `Err` among
/// the graph's own inputs.
pub fn with_outputs(model: &Model, layers: &[Layer]) -> (Model, Vec<Result<usize, usize>>) {
    let mut probed = model.clone();
    let index = GraphIndex::new(model.graph());
    let graph = probed.graph_mut();
    let initializers: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    let inputs: Vec<String> = graph
        .input
        .iter()
        .map(|input| input.name().to_owned())
        .filter(|name| !initializers.contains(&name.as_str()))
        .collect();
    let positions = layers
        .iter()
        .map(|layer| {
            if let (None, Some(input)) =
                (index.producer(&layer.input), inputs.iter().position(|name| *name == layer.input))
            {
                return Err(input);
            }
            Ok(graph.output.iter().position(|output| output.name() == layer.input).unwrap_or_else(|| {
                graph.output.push(declaration(&layer.input, element_of(model.weight(layer.id).dtype()).to_onnx()));
                graph.output.len() - 1
            }))
        })
        .collect();
    (probed, positions)
}
