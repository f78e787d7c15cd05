//! `fold`: everything that can be computed before the model runs.
//!
//! - BatchNormalization, and Mul, Add, Sub and Div by a constant per channel, move into the weights of the Conv,
//!   ConvTranspose, Gemm or MatMul before them, also through a Concat or an Add of such layers. What cannot move becomes
//!   Mul and Add where that is shorter.
//! - Computations on constants and on shapes become constants; a batch size that only the input knows survives as 0 or
//!   -1 in the target of a Reshape. Constant nodes become initializers.
//! - Nodes that return their input as it is go: Identity, Dropout in inference, Reshape to the same shape, and so on.
//! - Equal tensors and equal computations become one.
//! - Nodes, initializers and operator set imports that nothing needs go, also in subgraphs and functions.
//!
//! Outputs stay equal but for the rounding of the folded weights, which are computed in `f64` and rounded once to their
//! own type. What a subgraph captures, what training information or annotations name, and what whoever runs the model
//! may override counts as used. The model never gets larger. The data of a weight that does not change is not read.

mod absorb;
mod affine;
mod dead;
mod dim;
mod duplicates;
pub(crate) mod evaluate;
mod knowledge;
mod layout;
mod rearrange;
mod shapes;
mod simplify;
mod split;
mod store;
pub(crate) mod tensor;
mod uses;

use std::collections::HashSet;

use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_proto::GraphProto;

use crate::graph_bytes::{graph_bytes, protected_names, standard_version};
use crate::registry::Configured;
use crate::{NoOptions, Pass, PassError, PassReport, Settings, node};
use absorb::Sweep;
use dead::Dead;
use knowledge::Knowledge;
use store::Store;

/// Rounds of rewriting after which the pass stops, whatever is left. Each removes a node at least, so this only bounds
/// the work on long chains.
const MAX_ROUNDS: usize = 64;

/// The pass `fold`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fold;

impl Configured for Fold {
    type Options = NoOptions;
    const NAME: &'static str = "fold";
    const SUMMARY: &'static str =
        "what can be computed before the model runs: constants, BatchNormalization, dead code";
    const SOURCE: &'static str = "Jacob et al., Quantization and Training of Neural Networks, 2018, section 3.2";

    fn configured(_: Settings<NoOptions>) -> Self {
        Self
    }
}

/// What was done, counted.
#[derive(Debug, Default)]
struct Counts {
    normalizations: usize,
    arithmetic: usize,
    split: usize,
    constants: usize,
    no_ops: usize,
    shortened: usize,
    equal_tensors: usize,
    equal_nodes: usize,
    dead: Dead,
    imports: usize,
}

impl Pass for Fold {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, _evidence: &Evidence) -> Result<PassReport, PassError> {
        let before = model.clone();
        let Some(mut graph) = model.proto.graph.take() else { return Ok(PassReport::default()) };
        let mut counts = Counts::default();
        let context = Context {
            opset: standard_version(&model.proto.opset_import),
            ir_version: model.proto.ir_version(),
            protected: protected_names(&before.proto),
        };
        let mut store = Store::new(model, &graph);
        context.fold_graph(&mut graph, &mut store, &mut counts);
        model.proto.graph = Some(graph);
        for function in &mut model.proto.functions {
            counts.dead += dead::remove_in_function(function);
        }
        counts.imports = remove_unused_imports(model);
        model.remove_unreferenced();
        if file_bytes(model) > file_bytes(&before) {
            *model = before;
            let mut report = PassReport::default();
            report.note("left the model as it was: folding would have made it larger");
            return Ok(report);
        }
        Ok(counts.report())
    }
}

struct Context {
    opset: i64,
    ir_version: i64,
    protected: HashSet<String>,
}

impl Context {
    fn fold_graph(&self, graph: &mut GraphProto, store: &mut Store, counts: &mut Counts) {
        let mut has_split = false;
        for _ in 0..MAX_ROUNDS {
            if self.round(graph, store, counts) {
                continue;
            }
            if has_split {
                break;
            }
            // Only when nothing can absorb a BatchNormalization any more.
            has_split = true;
            counts.split += split::run(graph, store, &self.gather(graph, store));
        }
        // The formal inputs of a body are no initializers, which old IR versions could not tell apart.
        if self.ir_version >= Model::OVERRIDABLE_IR_VERSION {
            for inner in graph.node.iter_mut().flat_map(node::subgraphs_mut) {
                self.fold_graph(inner, store, counts);
            }
        }
    }

    /// Rewrites `graph` once; says whether anything changed.
    fn round(&self, graph: &mut GraphProto, store: &mut Store, counts: &mut Counts) -> bool {
        let protected = &self.protected;
        let constants = simplify::store_constants(graph, store, &self.gather(graph, store), protected);
        let mut dead = dead::remove(graph, protected, self.ir_version);

        let knowledge = self.gather(graph, store);
        let no_ops = simplify::remove_no_ops(graph, &knowledge, protected);
        let knowledge = self.gather(graph, store);
        let shortened = simplify::shorten_reshapes(graph, store, &knowledge)
            + simplify::shorten_slices(graph, store, &knowledge, protected)
            + simplify::drop_default_inputs(graph, &knowledge);

        let knowledge = self.gather(graph, store);
        let absorbed = Sweep::run(graph, store, &knowledge, protected);

        let equal_tensors = duplicates::merge_initializers(graph, store.model, self.ir_version, protected);
        let equal_nodes = duplicates::merge_nodes(graph, protected);
        dead += dead::remove(graph, protected, self.ir_version);

        counts.constants += constants;
        counts.no_ops += no_ops;
        counts.shortened += shortened;
        counts.normalizations += absorbed.normalizations;
        counts.arithmetic += absorbed.arithmetic;
        counts.equal_tensors += equal_tensors;
        counts.equal_nodes += equal_nodes;
        counts.dead += dead;
        let rewritten = constants + no_ops + shortened + absorbed.normalizations + absorbed.arithmetic;
        rewritten + equal_tensors + equal_nodes + dead.nodes + dead.initializers > 0
    }

    fn gather(&self, graph: &GraphProto, store: &Store) -> Knowledge {
        Knowledge::gather(graph, store.model, self.opset, self.ir_version)
    }
}

/// Removes the imports of operator sets that no node uses, but for the standard one; returns how many.
fn remove_unused_imports(model: &mut Model) -> usize {
    let mut used: HashSet<String> = HashSet::from([String::new()]);
    fn collect(graph: &GraphProto, used: &mut HashSet<String>) {
        for node in &graph.node {
            used.insert(node::domain(node).to_owned());
            node::subgraphs(node).for_each(|inner| collect(inner, used));
        }
    }
    let proto = &mut model.proto;
    let training = proto.training_info.iter().flat_map(|t| t.initialization.iter().chain(&t.algorithm));
    proto.graph.iter().chain(training).for_each(|graph| collect(graph, &mut used));
    for function in &proto.functions {
        used.insert(function.domain().to_owned());
        used.extend(function.opset_import.iter().map(|import| import.domain().to_owned()));
        for node in &function.node {
            used.insert(node::domain(node).to_owned());
            node::subgraphs(node).for_each(|inner| collect(inner, &mut used));
        }
    }
    let before = proto.opset_import.len();
    proto.opset_import.retain(|import| import.domain() == "ai.onnx" || used.contains(import.domain()));
    before - proto.opset_import.len()
}

/// Bytes of the plain file.
fn file_bytes(model: &Model) -> u64 {
    model.weights().map(|(_, weight)| weight.dense_bytes() + 6).sum::<u64>() + graph_bytes(model)
}

impl Counts {
    fn report(&self) -> PassReport {
        let mut report = PassReport::default();
        let mut note = |count: usize, what: &str| {
            if count > 0 {
                report.note(format!("{count} {what}"));
            }
        };
        note(self.normalizations, "BatchNormalization nodes moved into the layer before");
        note(self.split, "BatchNormalization nodes became Mul and Add");
        note(self.arithmetic, "Mul, Add, Sub or Div nodes moved into the layer before");
        note(self.constants, "computations on constants became constants");
        note(self.no_ops, "nodes without effect removed");
        note(self.shortened, "Reshape, Slice and Pad nodes shortened");
        note(self.equal_tensors, "tensors that another one equals merged");
        note(self.equal_nodes, "computations that another one equals merged");
        note(self.dead.nodes, "dead nodes removed");
        note(self.dead.initializers, "unused tensors removed");
        note(self.imports, "unused operator set imports removed");
        report
    }
}
