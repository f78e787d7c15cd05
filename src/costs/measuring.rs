//! Finding out what layers take: models of one layer run until their time is known.

use std::time::{Duration, Instant};

use bytes::Bytes;
use onnx_dcomp_engine::{ModelSource, RuntimeKind, RuntimeOptions, Session, Tensor, available, open};
use onnx_dcomp_ir::{Evidence, Model};
use onnx_dcomp_passes::Pipeline;
use onnx_dcomp_passes::fuse::{convolution_work, product_work};
use onnx_dcomp_proto::attribute_proto::AttributeType;
use onnx_dcomp_proto::tensor_proto::DataType;
use onnx_dcomp_proto::tensor_shape_proto::{Dimension, dimension};
use onnx_dcomp_proto::type_proto::{Tensor as TensorType, Value};
use onnx_dcomp_proto::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};

use super::Costs;
use crate::{Error, Watch};

/// Outputs and inputs of a matrix that no cache keeps from run to run: 128 MB.
const WIDE: [usize; 2] = [4096, 8192];
/// Of one that a cache keeps: 4 MB.
const NARROW: [usize; 2] = [1024, 1024];
/// Filters, and an image, of a convolution.
const FILTERS: [usize; 4] = [128, 128, 3, 3];
const SIZE: usize = 28;
/// One in so many weights is not zero, where they are sparse.
const SPARSE: usize = 10;
/// How long a model is measured.
const TIME: Duration = Duration::from_millis(400);
/// Fewest runs.
const RUNS: usize = 5;

/// A model of one layer.
struct Layer {
    operator: &'static str,
    weight: Vec<usize>,
    input: Vec<usize>,
    /// One in so many weights is not zero.
    one_in: usize,
}

impl Layer {
    fn product(weight: [usize; 2], one_in: usize) -> Self {
        Self { operator: "Gemm", weight: weight.to_vec(), input: vec![1, weight[1]], one_in }
    }

    fn convolution(one_in: usize) -> Self {
        Self { operator: "Conv", weight: FILTERS.to_vec(), input: vec![1, FILTERS[1], SIZE, SIZE], one_in }
    }

    /// Weights that are not zero.
    fn nonzeros(&self) -> usize {
        self.values().filter(|&value| value != 0.0).count()
    }

    /// Weights with 15 values besides zero, or 16 where none is zero, which look drawn at random.
    fn values(&self) -> impl Iterator<Item = f32> {
        let one_in = self.one_in as u64;
        (0..self.weight.iter().product::<usize>() as u64).map(move |index| {
            let random = (index ^ 0x5DEE_CE66).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let level = (random >> 32) % 16;
            let is_kept = (random >> 40).is_multiple_of(one_in) && (level > 0 || one_in == 1);
            if is_kept { level as f32 * 0.01 - 0.07 } else { 0.0 }
        })
    }

    fn dense(&self) -> Vec<u8> {
        let weight: Vec<u8> = self.values().flat_map(f32::to_le_bytes).collect();
        let weight = TensorProto {
            name: Some("w".to_owned()),
            dims: self.weight.iter().map(|&length| length as i64).collect(),
            data_type: Some(DataType::Float as i32),
            raw_data: Some(weight.into()),
            ..TensorProto::default()
        };
        let attribute = match self.operator {
            "Gemm" => AttributeProto {
                name: Some("transB".to_owned()),
                r#type: Some(AttributeType::Int as i32),
                i: Some(1),
                ..AttributeProto::default()
            },
            _ => AttributeProto {
                name: Some("pads".to_owned()),
                r#type: Some(AttributeType::Ints as i32),
                ints: vec![1; 4],
                ..AttributeProto::default()
            },
        };
        let node = NodeProto {
            op_type: Some(self.operator.to_owned()),
            input: vec!["x".to_owned(), "w".to_owned()],
            output: vec!["y".to_owned()],
            attribute: vec![attribute],
            ..NodeProto::default()
        };
        let output: Vec<usize> = [&[1, self.weight[0]], &self.input[2..]].concat();
        let graph = GraphProto {
            name: Some("layer".to_owned()),
            node: vec![node],
            initializer: vec![weight],
            input: vec![value("x", &self.input)],
            output: vec![value("y", &output)],
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { version: Some(13), ..OperatorSetIdProto::default() };
        ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() }
            .encode_to_vec()
    }

    fn fused(&self) -> Result<Vec<u8>, Error> {
        let mut model = Model::from_bytes(Bytes::from(self.dense()), None)?;
        // Coded as fast as it can be: it is decoded once.
        let passes = "recognise, fuse(when=always, coder=fast)";
        let pipeline = Pipeline::parse(passes).map_err(|error| Error::pipeline(passes, error))?;
        let failed = |source| Error::Pass { file: "a layer to measure".to_owned(), source: Box::new(source) };
        pipeline.run(&mut model, &Evidence::default(), &mut ()).map_err(failed)?;
        Ok(model.to_bytes()?)
    }

    /// Picoseconds for a run of the dense layer, in the runtime that is the fastest.
    fn time_dense(&self) -> Result<f64, Error> {
        let model = self.dense();
        let runtimes = RuntimeKind::ALL.into_iter().filter(|&runtime| available(runtime).is_ok());
        let times = runtimes.map(|runtime| self.time(runtime, &model)).collect::<Result<Vec<f64>, Error>>()?;
        Ok(times.into_iter().fold(f64::INFINITY, f64::min))
    }

    /// Picoseconds for a run of the fused layer.
    fn time_fused(&self) -> Result<f64, Error> {
        self.time(RuntimeKind::Tract, &self.fused()?)
    }

    fn time(&self, runtime: RuntimeKind, model: &[u8]) -> Result<f64, Error> {
        let mut session = open(runtime, ModelSource::bytes("layer", model), &RuntimeOptions::default())?;
        let values = (0..self.input.iter().product::<usize>()).map(|index| (index as f32 * 0.37).sin()).collect();
        let input = [Tensor::from_f32(self.input.clone(), values)?];
        Ok(time(session.as_mut(), &input)?.as_secs_f64() * 1e12)
    }
}

/// The median of as many runs as there is time for; the first one does not count.
fn time(session: &mut dyn Session, input: &[Tensor]) -> Result<Duration, Error> {
    session.run(input)?;
    let (begin, mut runs) = (Instant::now(), Vec::new());
    while begin.elapsed() < TIME || runs.len() < RUNS {
        let started = Instant::now();
        session.run(input)?;
        runs.push(started.elapsed());
    }
    runs.sort();
    Ok(runs[runs.len() / 2])
}

fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    let length =
        |&length: &usize| Dimension { value: Some(dimension::Value::DimValue(length as i64)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: shape.iter().map(length).collect() };
    let tensor = TensorType { elem_type: Some(DataType::Float as i32), shape: Some(shape) };
    let kind = TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind), ..ValueInfoProto::default() }
}

pub(super) fn measure(watch: &dyn Watch) -> Result<Costs, Error> {
    watch.begin("measuring what layers take", Some(6));
    let costs = measure_all(watch);
    watch.end();
    costs
}

fn measure_all(watch: &dyn Watch) -> Result<Costs, Error> {
    // Three digits are more than two runs agree on.
    let done = |picoseconds: f64, units: f64| {
        watch.advance(1);
        let digits = 10f64.powf((picoseconds / units).abs().log10().floor() - 2.0);
        let rounded = (picoseconds / units / digits).round() * digits;
        (rounded * 1e6).round() / 1e6
    };
    let elements = |layer: &Layer| layer.weight.iter().product::<usize>() as f64;
    let [wide, narrow, codes] =
        [(WIDE, 1), (NARROW, 1), (WIDE, 1)].map(|(weight, one_in)| Layer::product(weight, one_in));
    let (sparse, dense_filters, filters) =
        (Layer::product(WIDE, SPARSE), Layer::convolution(1), Layer::convolution(SPARSE));
    let places = (SIZE * SIZE) as f64;
    Ok(Costs {
        dense: done(wide.time_dense()?, elements(&wide)),
        cached: done(narrow.time_dense()?, elements(&narrow)),
        nonzero: done(sparse.time_fused()?, product_work(sparse.nonzeros(), WIDE[1], WIDE[0])),
        code: done(codes.time_fused()?, elements(&codes)),
        multiplication: done(dense_filters.time_dense()?, places * elements(&dense_filters)),
        filter: done(filters.time_fused()?, places * convolution_work(filters.nonzeros(), &FILTERS)),
    })
}
