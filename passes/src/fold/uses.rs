//! Who defines and who reads each name of a graph, kept up to date while nodes are merged.

use std::collections::{HashMap, HashSet};

use onnx_dcomp_proto::GraphProto;

use super::store::mentioned;

/// Definitions and uses in one graph. Positions are those of the graph when this was made.
pub(crate) struct Uses {
    producers: HashMap<String, usize>,
    readers: HashMap<String, Vec<usize>>,
    pinned: HashSet<String>,
    initializers: HashMap<String, usize>,
}

impl Uses {
    /// Of `graph`; the names in `protected` count as used from outside.
    pub(crate) fn of(graph: &GraphProto, protected: &HashSet<String>) -> Self {
        let mut pinned = protected.clone();
        pinned.extend(graph.output.iter().map(|output| output.name().to_owned()));
        let mut producers = HashMap::new();
        let mut readers: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                readers.entry(name.clone()).or_default().push(index);
            }
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                producers.insert(name.clone(), index);
            }
            mentioned(node, &mut pinned);
        }
        let initializers = graph.initializer.iter().enumerate().map(|(i, t)| (t.name().to_owned(), i)).collect();
        Self { producers, readers, pinned, initializers }
    }

    /// The node that defines `name`.
    pub(crate) fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    /// The position of the initializer `name`.
    pub(crate) fn initializer(&self, name: &str) -> Option<usize> {
        self.initializers.get(name).copied()
    }

    /// Whether a subgraph, a graph output or something outside of the graph mentions `name`.
    pub(crate) fn is_pinned(&self, name: &str) -> bool {
        self.pinned.contains(name)
    }

    /// Number of node inputs that read `name`.
    pub(crate) fn reads(&self, name: &str) -> usize {
        self.readers.get(name).map_or(0, Vec::len)
    }

    /// Whether exactly one node input reads `name`, and nothing else does.
    pub(crate) fn is_read_once(&self, name: &str) -> bool {
        self.reads(name) == 1 && !self.is_pinned(name)
    }

    /// Notes that node `index` does not read `name` any more.
    pub(crate) fn forget_reader(&mut self, name: &str, index: usize) {
        if let Some(readers) = self.readers.get_mut(name)
            && let Some(at) = readers.iter().position(|&reader| reader == index)
        {
            readers.swap_remove(at);
        }
    }

    /// Notes that node `index` now defines `name`.
    pub(crate) fn set_producer(&mut self, name: &str, index: usize) {
        self.producers.insert(name.to_owned(), index);
    }
}
