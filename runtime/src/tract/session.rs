//! `DcompSession` for tract: the model in the node takes the node's place while tract reads the graph.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::Framework;
use tract_onnx::tract_hir::internal::*;

use crate::SESSION_OPERATOR;

/// Marks what is read of a model that stands in a node, so that no further one is read there.
const ENCLOSED: &str = "dcomp.enclosed";

const NESTED: &str = "a model in a node holds no other model in a node";

pub(super) fn build(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    ensure!(!context.template.properties.contains_key(ENCLOSED), "{NESTED}");
    let graph = context.parent_graphs.last().context("a node stands in a graph")?;
    let payload = payload(graph, node)?;
    let message = context.load_tensor(payload).with_context(|| format!("reading `{}`", payload.name))?;
    let kind = message.datum_type();
    ensure!(kind == DatumType::U8, "the model in a node is a uint8 tensor; this one holds {kind:?}");
    let message = read(context.framework, message.try_as_plain_ram()?.as_slice::<u8>()?)?;
    let mut template = context.template.clone();
    template.properties.insert(ENCLOSED.to_owned(), rctensor0(true));
    let mut parsed = context.framework.parse_with_template(&message, None, template)?;
    if let Some(name) = parsed.unresolved_inputs.first() {
        bail!("nothing defines `{name}` in the model in the node");
    }
    let (inputs, outputs) = (parsed.model.inputs.len(), parsed.model.outputs.len());
    ensure!(
        inputs + 1 == node.input.len() && outputs == node.output.len(),
        "the node has {} inputs and {} outputs, the model in it has {inputs} and {outputs}",
        node.input.len().saturating_sub(1),
        node.output.len()
    );
    for index in 0..inputs {
        // Whoever runs the graph says what its inputs are; what the file declares may give way to that.
        parsed.model.set_input_fact(index, InferenceFact::default())?;
    }
    Ok((Box::new(Enclosed { body: parsed.model }), Vec::new()))
}

/// The model in the only node of `model`, with the defaults of its inputs; `None` where nothing stands in a node.
///
/// Who parses a model does not need this: [`register`](super::register) does the same. It is for those who look at the
/// graph first.
///
/// # Errors
/// Where the node holds no model.
pub fn enclosed(onnx: &tract_onnx::Onnx, model: &ModelProto) -> TractResult<Option<ModelProto>> {
    let Some(graph) = &model.graph else { return Ok(None) };
    let [node] = graph.node.as_slice() else { return Ok(None) };
    if node.op_type != SESSION_OPERATOR {
        return Ok(None);
    }
    let payload = payload(graph, node)?;
    // External data is joined by whoever reads the file.
    if payload.raw_data.is_empty() {
        return Ok(None);
    }
    let mut inner = read(onnx, &payload.raw_data)?;
    let nodes = inner.graph.iter().flat_map(|graph| &graph.node);
    ensure!(nodes.into_iter().all(|node| node.op_type != SESSION_OPERATOR), "{NESTED}");
    let defaults = graph.initializer.iter().filter(|tensor| tensor.name != payload.name).cloned();
    inner.graph.get_or_insert_with(GraphProto::default).initializer.extend(defaults);
    Ok(Some(inner))
}

fn payload<'a>(graph: &'a GraphProto, node: &NodeProto) -> TractResult<&'a TensorProto> {
    let name = node.input.first().context("the node has no inputs; the first holds a model")?;
    let payload = graph.initializer.iter().find(|tensor| tensor.name == *name);
    payload.with_context(|| format!("the model in the node, `{name}`, is no initializer of the same graph"))
}

fn read(onnx: &tract_onnx::Onnx, mut message: &[u8]) -> TractResult<ModelProto> {
    onnx.proto_model_for_read(&mut message).context("the node holds no ONNX model")
}

/// The node before the shapes of its inputs are known.
#[derive(Debug, Clone)]
struct Enclosed {
    body: InferenceModel,
}

impl PartialEq for Enclosed {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Enclosed {}

impl Op for Enclosed {
    fn name(&self) -> StaticName {
        SESSION_OPERATOR.into()
    }

    not_a_typed_op!();
}

impl EvalOp for Enclosed {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.body.clone().into_runnable()?.run(inputs.into_iter().skip(1).collect())
    }
}

impl InferenceOp for Enclosed {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let mut inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        let mut outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
        loop {
            let mut changed = false;
            for (index, fact) in inputs.iter_mut().skip(1).enumerate() {
                changed |= self.body.input_fact_mut(index)?.unify_with_mut(fact)?;
            }
            for (index, fact) in outputs.iter_mut().enumerate() {
                changed |= self.body.output_fact_mut(index)?.unify_with_mut(fact)?;
            }
            changed |= self.body.analyse(false)?;
            if !changed {
                return Ok((inputs, outputs, observed.into_iter().cloned().collect()));
            }
        }
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.body.outputs.len())
    }

    fn to_typed(
        &self,
        _: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let body = self.body.clone().into_typed()?;
        let outside = |outlet: &OutletId| mapping.get(outlet).copied().context("its inputs are translated before it");
        let mut moved: HashMap<OutletId, OutletId> = HashMap::new();
        for (inner, outer) in body.inputs.iter().zip(node.inputs.iter().skip(1)) {
            moved.insert(*inner, outside(outer)?);
        }
        let inside = |moved: &HashMap<OutletId, OutletId>, outlet: &OutletId| {
            moved.get(outlet).copied().context("nodes come in the order of evaluation")
        };
        for id in body.eval_order()? {
            let node = body.node(id);
            if TypedModel::is_source(&node.op) {
                continue;
            }
            let inputs = node.inputs.iter().map(|outlet| inside(&moved, outlet)).collect::<TractResult<TVec<_>>>()?;
            let outlets = target.wire_node(&node.name, node.op.clone(), &inputs)?;
            moved.extend(outlets.iter().enumerate().map(|(slot, outlet)| (OutletId::new(id, slot), *outlet)));
        }
        body.outputs.iter().map(|outlet| inside(&moved, outlet)).collect()
    }

    as_op!();
}
