//! An opened model, whose tensors C may look at.

use std::ffi::{CStr, CString, c_char, c_void};

use onnx_dcomp_load::{AlignedBytes, Loaded, LoadedWeight};

use crate::failure::{Code, Failure};

/// `onnx_dcomp_tensor`.
#[repr(C)]
#[derive(Debug)]
pub struct Tensor {
    name: *const c_char,
    data_type: i32,
    in_graph: i32,
    rank: usize,
    shape: *const i64,
    bytes: usize,
    data: *const c_void,
}

/// `onnx_dcomp_model`.
pub struct Model {
    graph: Vec<u8>,
    tensors: Vec<Owned>,
}

struct Owned {
    name: CString,
    shape: Vec<i64>,
    data_type: i32,
    in_graph: bool,
    data: AlignedBytes,
}

impl Model {
    pub(crate) fn new(loaded: Loaded) -> Result<Self, Failure> {
        let beside = loaded.weights.into_iter().map(|weight| Owned::new(weight, false));
        let inside = loaded.in_graph.into_iter().map(|weight| Owned::new(weight, true));
        Ok(Self { graph: loaded.graph, tensors: beside.chain(inside).collect::<Result<_, _>>()? })
    }

    pub(crate) fn graph(&self) -> &[u8] {
        &self.graph
    }

    /// Number of tensors.
    pub(crate) fn len(&self) -> usize {
        self.tensors.len()
    }

    pub(crate) fn tensor(&self, index: usize) -> Option<Tensor> {
        self.tensors.get(index).map(Owned::view)
    }

    pub(crate) fn named(&self, name: &CStr) -> Option<Tensor> {
        self.tensors.iter().find(|tensor| tensor.name.as_c_str() == name).map(Owned::view)
    }
}

impl Owned {
    fn new(weight: LoadedWeight, in_graph: bool) -> Result<Self, Failure> {
        let odd = |what: &str| Failure::new(Code::Broken, format!("tensor `{}`: {what}", weight.name));
        let name = CString::new(weight.name.as_str()).map_err(|_| odd("its name contains a zero"))?;
        let shape = weight.shape.iter().map(|&length| i64::try_from(length));
        let shape = shape.collect::<Result<_, _>>().map_err(|_| odd("its shape exceeds 64 bits"))?;
        Ok(Self { name, shape, data_type: weight.data_type, in_graph, data: weight.values.bytes().into() })
    }

    /// What C sees; it points into `self`.
    fn view(&self) -> Tensor {
        Tensor {
            name: self.name.as_ptr(),
            data_type: self.data_type,
            in_graph: self.in_graph.into(),
            rank: self.shape.len(),
            shape: self.shape.as_ptr(),
            bytes: self.data.len(),
            data: self.data.as_ptr().cast(),
        }
    }
}
