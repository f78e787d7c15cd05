//! One entry of the weight table.

use std::fmt;

use onnx_dcomp_forms::{DType, Form, Values};

use crate::Role;

/// The place of a weight in the weight table of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightId(pub(crate) u32);

impl WeightId {
    /// Position in the table, for arrays beside it.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for WeightId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where in the model a weight lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The main graph.
    Main,
    /// A subgraph of an If, Loop or Scan: the nodes and attributes that lead there, such as `loop_1.body`.
    Subgraph(String),
    /// The body of a function that the model defines.
    Function {
        /// The function's domain.
        domain: String,
        /// The function's name.
        name: String,
    },
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("main graph"),
            Self::Subgraph(path) => write!(f, "subgraph {path}"),
            Self::Function { domain, name } if domain.is_empty() => write!(f, "function {name}"),
            Self::Function { domain, name } => write!(f, "function {domain}::{name}"),
        }
    }
}

/// A tensor constant worth compressing.
#[derive(Debug, Clone)]
pub struct Weight {
    /// A name for people and rules: the tensor's, made unique over the whole model. It stays when a pass renames the
    /// tensor.
    pub name: String,
    /// Where the weight was found.
    pub scope: Scope,
    /// The shape, outermost axis first.
    pub shape: Vec<usize>,
    /// What the operators do with it.
    pub role: Role,
    /// The operator that gave it its role, such as `Conv`; `None` where nothing reads the weight.
    pub operator: Option<String>,
    /// The axis of the output channels, where the role has one.
    pub channel_axis: Option<usize>,
    /// How the weight is held now.
    pub form: Form,
    /// The values that the file held. Cheap to clone: they share the file's map.
    pub original: Values,
    /// Why no pass may change the weight, in words for people; `None` where passes may.
    pub left_alone: Option<String>,
    /// Whether whoever runs the model may give another value: an initializer that is also a graph input, from IR
    /// version 4 on. Such a weight must stay an initializer.
    pub overridable: bool,
    /// Bytes that the weight takes in its packed form; `None` as long as it is not packed.
    pub stored_bytes: Option<u64>,
}

impl Weight {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.original.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.original.is_empty()
    }

    /// Type of an element.
    pub fn dtype(&self) -> DType {
        self.original.dtype()
    }

    /// Bytes of the plain tensor.
    pub fn dense_bytes(&self) -> u64 {
        self.original.bytes().len() as u64
    }
}
