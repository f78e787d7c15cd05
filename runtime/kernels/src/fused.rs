//! Operators that compute on compressed weights: `DcompSparseGemm`, `DcompCodebookGemm` and `DcompSparseConv`.
//!
//! The products take an input of shape `[…, columns]` (f32), a constant payload (uint8) that holds one weight, and optionally a
//! bias of `rows` elements; they give the product of shape `[…, rows]`. With the attribute `transB` = 1 the weight has the
//! shape `[rows, columns]`, otherwise `[columns, rows]`: as in `Gemm` and `MatMul`, in whose place they stand. The
//! operator's type says how the weight is held in memory while the model runs: as its non-zeros, or as codes of four
//! bits.
//!
//! `DcompSparseConv` takes the place of a `Conv` of one or two dimensions: an input of shape `[images, channels, …]`
//! (f32), a constant payload (uint8) that holds the filters, of shape `[filters, channels / group, …]`, and optionally a
//! bias of as many elements as there are filters. Its attributes `strides`, `pads`, `dilations`, `group` and `auto_pad`
//! are those of `Conv` (operator set 11). The filters are held as their non-zeros.
//!
//! The outputs of all three go through the standard operator that the attribute `activation`, a string, names: `Relu`.

use onnx_dcomp_codec::{DecodeError, Limits, decode_forms};
use onnx_dcomp_forms::Form;

use crate::threads::Threads;
use crate::{Epilogue, NibbleMatrix, Order, SparseConvolution, SparseMatrix, Window, WindowAttributes};

/// The operator whose weight is held as its non-zeros.
pub const SPARSE_OPERATOR: &str = "DcompSparseGemm";

/// The operator whose weight is held as codes of four bits.
pub const CODEBOOK_OPERATOR: &str = "DcompCodebookGemm";

/// The operator whose filters are held as their non-zeros.
pub const CONVOLUTION_OPERATOR: &str = "DcompSparseConv";

/// The attribute that says how the weight of a product lies, an integer.
pub const TRANSPOSED_ATTRIBUTE: &str = "transB";

/// The attribute that names what the outputs go through, a string.
pub const ACTIVATION_ATTRIBUTE: &str = "activation";

/// Why a payload cannot be computed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FusedError {
    /// The payload is damaged, or of a newer version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It holds something else than one matrix.
    #[error("the payload of a fused product must hold one matrix, and holds {found}")]
    NoMatrix {
        /// What it holds.
        found: String,
    },
    /// What the operator's attributes say fits no filters, or not these.
    #[error("its attributes do not fit: {0}")]
    Attributes(String),
    /// The matrix cannot be held as the operator asks.
    #[error("a matrix of shape {shape:?} cannot be held as {operator} asks: it has too many distinct values")]
    Unsuited {
        /// The matrix's shape.
        shape: Vec<usize>,
        /// The operator's type.
        operator: String,
    },
}

/// The one weight that `payload` holds.
fn sole_weight(payload: &[u8]) -> Result<(Vec<usize>, Form), FusedError> {
    let mut forms = decode_forms(payload, &Limits::default())?;
    match forms.pop() {
        Some(weight) if forms.is_empty() => Ok(weight),
        last => Err(FusedError::NoMatrix { found: format!("{} weights", forms.len() + usize::from(last.is_some())) }),
    }
}

/// A matrix that stays compressed, ready to multiply.
#[derive(Debug, Clone)]
pub enum FusedMatrix {
    /// Its non-zeros.
    Sparse(SparseMatrix),
    /// Codes of four bits.
    Nibbles(NibbleMatrix),
}

impl FusedMatrix {
    /// The matrix in `payload`, held as the operator of type `operator` asks.
    ///
    /// # Errors
    /// [`FusedError`]: nothing else than a sound payload of one suited matrix is accepted.
    pub fn decode(payload: &[u8], operator: &str, is_transposed: bool) -> Result<Self, FusedError> {
        let (shape, form) = sole_weight(payload)?;
        let (rows, columns, order) = match (&shape[..], is_transposed) {
            (&[rows, columns], true) => (rows, columns, Order::Rows),
            (&[columns, rows], false) => (rows, columns, Order::Columns),
            _ => return Err(FusedError::NoMatrix { found: format!("a weight of shape {shape:?}") }),
        };
        let matrix = match operator {
            SPARSE_OPERATOR => SparseMatrix::new(&form, rows, columns, order).map(Self::Sparse),
            _ => NibbleMatrix::new(&form, rows, columns, order).map(Self::Nibbles),
        };
        matrix.ok_or_else(|| FusedError::Unsuited { shape, operator: operator.to_owned() })
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        match self {
            Self::Sparse(matrix) => matrix.rows(),
            Self::Nibbles(matrix) => matrix.rows(),
        }
    }

    /// Number of inputs.
    pub fn columns(&self) -> usize {
        match self {
            Self::Sparse(matrix) => matrix.columns(),
            Self::Nibbles(matrix) => matrix.columns(),
        }
    }

    /// Bytes of memory that the matrix takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Sparse(matrix) => matrix.bytes(),
            Self::Nibbles(matrix) => matrix.bytes(),
        }
    }

    /// The products with each vector of `inputs`, and what `epilogue` makes of them.
    ///
    /// `inputs` and `outputs` hold vectors of [`Self::columns`] and [`Self::rows`] elements, as many of each; a bias has
    /// [`Self::rows`].
    pub fn multiply(&self, inputs: &[f32], epilogue: Epilogue<'_>, outputs: &mut [f32], threads: &dyn Threads) {
        let (rows, count) = (self.rows(), inputs.len() / self.columns());
        if count == 0 {
            return;
        }
        let work = |first: usize, sums: &mut [f32]| {
            for (row, sums) in sums.chunks_exact_mut(count).enumerate() {
                sums.fill(epilogue.start(first + row));
            }
            let rows = first..first + sums.len() / count;
            match self {
                Self::Sparse(matrix) => matrix.multiply_rows(rows, inputs, sums),
                Self::Nibbles(matrix) => matrix.multiply_rows(rows, inputs, sums),
            }
            epilogue.activation.apply(sums);
        };
        let multiplications = count.saturating_mul(self.bytes());
        if count == 1 {
            threads.run(outputs, 1, multiplications, &work);
            return;
        }
        let mut sums = vec![0f32; rows * count];
        threads.run(&mut sums, count, multiplications, &work);
        for (vector, output) in outputs.chunks_exact_mut(rows).enumerate() {
            let of_vector = sums.iter().skip(vector).step_by(count);
            output.iter_mut().zip(of_vector).for_each(|(output, &sum)| *output = sum);
        }
    }
}

/// A convolution whose filters stay compressed, ready to run.
#[derive(Debug, Clone)]
pub struct FusedConvolution {
    convolution: SparseConvolution,
    /// Dimensions of an image: one or two.
    axes: usize,
}

impl FusedConvolution {
    /// The convolution with the filters in `payload` and the attributes of its node.
    ///
    /// # Errors
    /// [`FusedError`]: nothing else than a sound payload of one set of filters that fits the attributes is accepted.
    pub fn decode(payload: &[u8], groups: i64, attributes: &WindowAttributes) -> Result<Self, FusedError> {
        let (shape, form) = sole_weight(payload)?;
        let &[filters, channels, ref kernel @ ..] = &shape[..] else {
            return Err(FusedError::NoMatrix { found: format!("a weight of shape {shape:?}") });
        };
        let window = Window::new(kernel, attributes).map_err(FusedError::Attributes)?;
        let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0 && filters % groups == 0);
        let groups =
            groups.ok_or_else(|| FusedError::Attributes(format!("{filters} filters do not divide into its groups")))?;
        let convolution = SparseConvolution::new(&form, filters, channels, window, groups);
        let unsuited = || FusedError::Unsuited { shape: shape.clone(), operator: CONVOLUTION_OPERATOR.to_owned() };
        Ok(Self { convolution: convolution.ok_or_else(unsuited)?, axes: kernel.len() })
    }

    /// The filters, and how they move.
    pub fn convolution(&self) -> &SparseConvolution {
        &self.convolution
    }

    /// Dimensions of an image: one or two.
    pub fn axes(&self) -> usize {
        self.axes
    }

    /// The shape of what comes out for an input of that `shape`.
    ///
    /// # Errors
    /// In words, where such an input does not fit.
    pub fn output_shape(&self, shape: &[usize]) -> Result<Vec<usize>, String> {
        let (channels, axes) = (self.convolution.channels(), self.axes);
        let misfit =
            || format!("its input has the shape {shape:?} where images of {channels} channels and {axes} axes go");
        let (images, size) = self.split(shape).ok_or_else(misfit)?;
        let place = self.convolution.window().place(size);
        let place =
            place.ok_or_else(|| format!("its input has the shape {shape:?}, which is smaller than a filter"))?;
        let mut output = vec![images, self.convolution.filters()];
        output.extend(&place.size[2 - axes..]);
        let bytes = output.iter().try_fold(size_of::<f32>(), |bytes, &length| bytes.checked_mul(length));
        match bytes.filter(|&bytes| isize::try_from(bytes).is_ok()) {
            Some(_) => Ok(output),
            None => Err(format!("its output has the shape {output:?}, which no memory holds")),
        }
    }

    /// Convolves an input of that `shape`; `outputs` has the shape that [`Self::output_shape`] says, and a bias an element
    /// for each filter.
    ///
    /// # Errors
    /// In words, where the shapes do not fit, or memory does not suffice.
    pub fn convolve(
        &self,
        inputs: &[f32],
        shape: &[usize],
        epilogue: Epilogue<'_>,
        outputs: &mut [f32],
        threads: &dyn Threads,
    ) -> Result<(), String> {
        let filters = self.convolution.filters();
        let (_, size) = self.split(shape).ok_or_else(|| format!("an input of shape {shape:?} is none of images"))?;
        if epilogue.bias.is_some_and(|bias| bias.len() != filters) {
            return Err(format!("its bias has not {filters} elements"));
        }
        let done = self.convolution.convolve(inputs, size, epilogue, outputs, threads);
        done.map_err(|error| format!("an image of {size:?} with its padding is too large: {error}"))
    }

    /// Number of images, and their height and width; `None` where an input of that `shape` does not fit.
    fn split(&self, shape: &[usize]) -> Option<(usize, [usize; 2])> {
        match (self.axes, shape) {
            (1, &[images, channels, width]) => Some((images, channels, [1, width])),
            (2, &[images, channels, height, width]) => Some((images, channels, [height, width])),
            _ => None,
        }
        .filter(|(_, channels, _)| *channels == self.convolution.channels())
        .map(|(images, _, size)| (images, size))
    }
}
