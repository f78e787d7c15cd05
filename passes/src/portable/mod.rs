//! `portable`: weights become what nodes of standard operators compute, at the model's own operator set.
//!
//! The file needs nothing of ours: a runtime computes the weights while it loads the model, and then optimises as if
//! they had been plain. The operators are those that onnxruntime and tract were measured to fold away: Cast, Gather,
//! Mul, Add, Reshape, Slice, Concat, CumSum, ConstantOfShape, ScatterElements; see `encoding` for how a weight is put
//! into them. DequantizeLinear is not among them: older versions of tract compute it wrongly, onnxruntime does not fold
//! it. Of all ways the one with the fewest bytes is taken, plain values among them, so that no weight grows.
//!
//! Nothing here changes a value. What cannot be expressed in fewer bytes stays plain, and is named; a weight on a
//! dithered lattice is an error, since nobody asks for one to have it written out.
//!
//! Cost: some 5 ns an element for each way; memory: the output.

mod encoding;
mod nodes;
pub(crate) mod radix;
mod read;

use std::collections::HashSet;

use onnx_dcomp_forms::FormKind;
use onnx_dcomp_ir::graph::subgraphs_mut;
use onnx_dcomp_ir::{Evidence, Model, Weight, WeightId};
use onnx_dcomp_proto::GraphProto;

pub use self::read::{Computed, fold_back};

use self::encoding::Encodable;
use self::nodes::Added;
use crate::graph_bytes::standard_version;
use crate::pack::{Holder, replaceable, take_out};
use crate::registry::Configured;
use crate::selection::{NamePattern, Settings, check_select};
use crate::{Pass, PassError, PassReport};

/// The oldest version of the standard operators that has what every weight needs: Cast to a type by number, Reshape to a
/// shape that is an input, Mul that broadcasts.
const OLDEST_OPSET: i64 = 7;

/// What onnxruntime folds at most; a larger weight would be computed anew in every run.
const LARGEST_BYTES: u64 = 1 << 30;

crate::options! {
    /// Options of [`Portable`].
    pub struct PortableOptions {
        /// Weights to write so, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Writes weights in standard operators; see [the module](crate::portable).
pub struct Portable {
    settings: Settings<PortableOptions>,
}

impl Configured for Portable {
    type Options = PortableOptions;
    const NAME: &'static str = "portable";
    const SUMMARY: &'static str = "weights become what nodes of standard operators compute: runs everywhere";
    const SOURCE: &'static str = "constant folding, as every runtime does it";

    fn configured(settings: Settings<PortableOptions>) -> Self {
        Self { settings }
    }
}

impl Pass for Portable {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, _: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let opset = standard_version(&model.proto.opset_import);
        let mut main = model.proto.graph.take().unwrap_or_default();
        let mut functions = std::mem::take(&mut model.proto.functions);
        // Old versions of ONNX want each initializer declared as an input; a Constant node is shorter, and as good.
        let model_declares = model.proto.ir_version() < Model::OVERRIDABLE_IR_VERSION;
        let in_main = if model_declares { Holder::Constant } else { Holder::Initializer };
        let mut writer = Writer { pass: self, model, opset, stored: Vec::new(), plain: Vec::new() };
        let mut result = writer.graph(&mut main, in_main);
        for function in &mut functions {
            if result.is_err() {
                break;
            }
            writer.opset = standard_version(&function.opset_import);
            // A function body is a graph without initializers and declared types.
            let mut body = GraphProto { node: std::mem::take(&mut function.node), ..GraphProto::default() };
            result = writer.graph(&mut body, Holder::Constant);
            function.node = body.node;
        }
        let Writer { stored, plain, .. } = writer;
        model.proto.graph = Some(main);
        model.proto.functions = functions;
        result?;
        let mut report = PassReport::default();
        report.note(format!("{} weights in standard operators", stored.len()));
        if !plain.is_empty() {
            report.note(format!("{} weights would not shrink, and stay plain: {}", plain.len(), plain.join(", ")));
        }
        for (id, bytes) in stored {
            model.weight_mut(id).stored_bytes = Some(bytes);
        }
        Ok(report)
    }
}

/// The state of one run.
struct Writer<'a> {
    pass: &'a Portable,
    model: &'a Model,
    opset: i64,
    stored: Vec<(WeightId, u64)>,
    /// Names of the weights that stay as they are.
    plain: Vec<String>,
}

impl Writer<'_> {
    /// Writes the weights of `graph` and of the graphs below it.
    fn graph(&mut self, graph: &mut GraphProto, holder: Holder) -> Result<(), PassError> {
        for node in &mut graph.node {
            for subgraph in subgraphs_mut(node) {
                self.graph(subgraph, holder)?;
            }
        }
        let mut weights = replaceable(self.model, graph);
        weights.retain(|weight| self.is_meant(self.model.weight(weight.id)));
        // What the large ones share, the small ones get for nothing.
        weights.sort_by_key(|weight| (std::cmp::Reverse(self.model.weight(weight.id).len()), weight.id));
        if let Some(first) = weights.first().filter(|_| self.opset < OLDEST_OPSET) {
            let reason = format!(
                "standard operators can give it from operator set {OLDEST_OPSET} on, the model imports {}; convert the \
                 model (onnx.version_converter), or use another target",
                self.opset
            );
            let subject = self.model.weight(first.id).name.clone();
            return Err(PassError::Subject { pass: Portable::NAME, subject, reason });
        }
        let mut added = Added::new(graph, holder, self.opset);
        let mut written = Vec::new();
        for weight in weights {
            let held = self.model.weight(weight.id);
            match self.write(held, &weight.name, weight.plain_bytes, &mut added)? {
                Some(bytes) => {
                    self.stored.push((weight.id, bytes));
                    written.push(weight.name);
                }
                None => self.plain.push(held.name.clone()),
            }
        }
        take_out(graph, &written.iter().map(String::as_str).collect::<HashSet<_>>());
        graph.node.splice(0..0, added.nodes);
        graph.initializer.append(&mut added.tensors);
        Ok(())
    }

    fn is_meant(&self, weight: &Weight) -> bool {
        let options = self.pass.settings.for_weight(weight);
        options.is_some_and(|options| options.select.matches(&weight.name)) && weight.dtype().is_float()
    }

    /// Adds the nodes that give `weight` under `name`; the bytes that they take, or `None` where those are not fewer.
    fn write(
        &self,
        weight: &Weight,
        name: &str,
        plain_bytes: u64,
        added: &mut Added,
    ) -> Result<Option<u64>, PassError> {
        let encodable = Encodable::new(&weight.form, &weight.shape);
        let mut best = None;
        for way in encodable.ways(self.opset).into_iter().filter(|_| weight.dense_bytes() <= LARGEST_BYTES) {
            let mark = added.mark();
            encodable.write(way, added);
            let bytes = added.bytes_since(&mark);
            added.return_to(mark);
            if bytes < best.map_or(plain_bytes, |(bytes, _)| bytes) {
                best = Some((bytes, way));
            }
        }
        match best {
            Some((bytes, way)) => {
                encodable.write(way, added);
                added.call_last(name);
                Ok(Some(bytes))
            }
            None if weight.form.kind() == FormKind::Lattice => Err(PassError::Subject {
                pass: Portable::NAME,
                subject: weight.name.clone(),
                reason:
                    "it lies on a dithered lattice, which standard operators cannot give in fewer bytes than plain \
                         values; the nearest that they can is quantize(scheme=fixed)"
                        .to_owned(),
            }),
            None => Ok(None),
        }
    }
}
