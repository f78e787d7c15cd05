//! `DcompSession`: a packed model as a whole in one node, run by a session of its own.
//!
//! onnxruntime takes the outputs of foreign operators for unknown values. So the node does not give weights: when its
//! kernel is created, the model in it is decoded and handed to a second session of the same onnxruntime, with the
//! weights as external initializers, which optimises it as if the file had been dense. A run of the node is a run of that
//! session on the very inputs; outputs are written in place where their shapes are known, and copied otherwise.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use onnx_dcomp_load::{Loaded, LoadedWeight};
use ort_sys::{
    ONNXTensorElementDataType as Kind, OrtApi, OrtCustomOp, OrtKernelContext, OrtKernelInfo, OrtStatusPtr, OrtValue,
};

use crate::api::{Api, Failure};
use crate::host::{Initializer, Options, Session, Value};
use crate::kernel::label;
use crate::operator::{Runs, at_least_one, create_with, one, operator as base, variadic};
use crate::tensor;

/// Where the model stands among the inputs; those of the model follow.
const MODEL: usize = 0;

/// The operator with the options of the sessions that it is registered for.
#[repr(C)]
pub(crate) struct Operator {
    // onnxruntime passes a pointer to it, which leads to the rest.
    operator: OrtCustomOp,
    options: Options,
}

impl Operator {
    pub(crate) fn new(options: Options) -> Self {
        let mut operator = base::<Kernel>();
        operator.GetName = Some(name);
        operator.GetInputType = Some(any_type);
        operator.GetInputTypeCount = Some(one);
        operator.GetInputCharacteristic = Some(variadic);
        operator.GetVariadicInputMinArity = Some(at_least_one);
        operator.GetVariadicInputHomogeneity = Some(is_mixed);
        operator.GetOutputType = Some(any_type);
        operator.GetOutputCharacteristic = Some(variadic);
        operator.GetVariadicOutputMinArity = Some(at_least_one);
        operator.GetVariadicOutputHomogeneity = Some(is_mixed);
        operator.CreateKernelV2 = Some(create);
        Self { operator, options }
    }

    pub(crate) fn as_custom_op(&'static self) -> &'static OrtCustomOp {
        &self.operator
    }
}

unsafe extern "system" fn name(_: *const OrtCustomOp) -> *const c_char {
    c"DcompSession".as_ptr()
}

/// The values of one variable number are of different types.
unsafe extern "system" fn is_mixed(_: *const OrtCustomOp) -> c_int {
    0
}

unsafe extern "system" fn any_type(_: *const OrtCustomOp, _: usize) -> Kind {
    Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
}

unsafe extern "system" fn create(
    operator: *const OrtCustomOp,
    api: *const OrtApi,
    info: *const OrtKernelInfo,
    kernel: *mut *mut c_void,
) -> OrtStatusPtr {
    // SAFETY: onnxruntime passes the operator that was registered, whose first field it knows; the rest lives as long.
    let options = unsafe { &(*operator.cast::<Operator>()).options };
    // SAFETY: onnxruntime's promises, passed on; `info` describes the node.
    unsafe { create_with(api, kernel, |api| Kernel::new(api, info, options)) }
}

/// A node with its session.
struct Kernel {
    api: Api,
    /// What messages call the node.
    label: String,
    session: Session,
    /// Element types of the outputs.
    kinds: Vec<Kind>,
    /// Shapes of the last run; `None` where those of the outputs may follow from more than those of the inputs.
    shapes: Option<Mutex<Arc<Shapes>>>,
}

/// Shapes of a run.
#[derive(Default)]
struct Shapes {
    /// The rank of each input, and its dimensions.
    inputs: Vec<i64>,
    /// The dimensions of each output.
    outputs: Vec<Vec<i64>>,
}

fn named(api: Api, label: &str, failure: Failure) -> Failure {
    Failure::Ours(format!("node `{label}`: {}", api.in_words(failure)))
}

impl Kernel {
    /// # Safety
    /// `info` is what onnxruntime passed to create the kernel, which is not yet done.
    unsafe fn new(api: Api, info: *const OrtKernelInfo, options: &Options) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let label = unsafe { label(api, info) };
        // SAFETY: the caller's promise.
        unsafe { Self::open(api, info, options, &label) }.map_err(|failure| named(api, &label, failure))
    }

    /// # Safety
    /// See [`Self::new`].
    unsafe fn open(api: Api, info: *const OrtKernelInfo, options: &Options, label: &str) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { api.constant_bytes(info, MODEL) }?;
        let bytes = bytes.ok_or_else(|| "the model in it is no constant of the same graph".to_owned())?;
        let loaded = Loaded::from_payload(bytes.to_vec().into()).map_err(|error| error.to_string())?;
        let follows = loaded.shapes_follow;
        let Loaded { graph, weights, .. } = loaded;
        let initializers = weights.iter().map(initializer).collect::<Result<_, _>>()?;
        let session = Session::new(api, &graph, initializers, options)?;
        // SAFETY: the caller's promise.
        let (inputs, outputs) = unsafe { api.arity(info) }?;
        let (of_node, of_model) = ((inputs.saturating_sub(1), outputs), session.arity());
        if of_node != of_model {
            return Err(format!(
                "it has {} inputs beside the model and {} outputs, the model in it has {} and {}",
                of_node.0, of_node.1, of_model.0, of_model.1
            )
            .into());
        }
        let mut kinds = Vec::with_capacity(outputs);
        for index in 0..outputs {
            // SAFETY: the caller's promise.
            let declared = unsafe { api.output_element(info, index) }?;
            let given = session.output_element(index)?;
            match given.filter(|kind| given == declared && tensor::width(*kind).is_some()) {
                Some(kind) => kinds.push(kind),
                None => {
                    return Err(format!(
                        "its output {index} is declared as {declared:?}, the model in it gives {given:?}; they must be \
                         the same, and tensors of numbers"
                    )
                    .into());
                }
            }
        }
        Ok(Self { api, label: label.to_owned(), session, kinds, shapes: follows.then(Mutex::default) })
    }

    /// # Safety
    /// See [`Runs::run`].
    unsafe fn run_session(&self, context: *mut OrtKernelContext) -> Result<(), Failure> {
        let api = self.api;
        let (count, outputs) = self.session.arity();
        let (mut inputs, mut shapes) = (Vec::with_capacity(count), Vec::new());
        for index in 0..count {
            // SAFETY: the caller's promise.
            let value = unsafe { api.input_value(context, MODEL + 1 + index) }?;
            if value.is_null() {
                return Err(format!("its input {} is missing", MODEL + 1 + index).into());
            }
            inputs.push(value);
            if self.shapes.is_some() {
                let rank = shapes.len();
                shapes.push(0);
                // SAFETY: onnxruntime's value.
                unsafe { tensor::read_shape(api, value, &mut shapes) }?;
                shapes[rank] = (shapes.len() - rank - 1) as i64;
            }
        }
        let known = self.shapes.as_ref().map(|shapes| Arc::clone(&lock(shapes)));
        if let Some(known) = known.filter(|known| known.inputs == shapes && known.outputs.len() == outputs) {
            let place = |(index, shape): (usize, &Vec<i64>)| {
                // SAFETY: the caller's promise.
                unsafe { api.output_value(context, index, shape) }
            };
            let mut places = known.outputs.iter().enumerate().map(place).collect::<Result<Vec<_>, _>>()?;
            if places.iter().all(|place| !place.is_null()) {
                // SAFETY: onnxruntime's values; outputs are this run's own, of the types that the session gives.
                return unsafe { self.session.run(&inputs, &mut places) };
            }
        }
        let mut filled = vec![ptr::null_mut(); outputs];
        // SAFETY: onnxruntime's values, and null.
        let done = unsafe { self.session.run(&inputs, &mut filled) };
        // SAFETY: the run made them for this caller.
        let given =
            filled.into_iter().filter(|value| !value.is_null()).map(|value| unsafe { Value::owning(api, value) });
        let given: Vec<Value> = given.collect();
        done?;
        let mut shapes = Shapes { inputs: shapes, outputs: Vec::with_capacity(outputs) };
        for (index, (value, &kind)) in given.iter().zip(&self.kinds).enumerate() {
            // SAFETY: the caller's promise, and a value of this run.
            shapes.outputs.push(unsafe { copy(api, value.as_ptr(), context, index, kind) }?);
        }
        if let Some(known) = &self.shapes {
            *lock(known) = Arc::new(shapes);
        }
        Ok(())
    }
}

impl Runs for Kernel {
    fn api(&self) -> Api {
        self.api
    }

    unsafe fn run(&self, context: *mut OrtKernelContext) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        unsafe { self.run_session(context) }.map_err(|failure| named(self.api, &self.label, failure))
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies `value`, a tensor of `kind`, to output `index`, and gives its shape.
///
/// # Safety
/// `value` is onnxruntime's; `context` is what it passed to run a kernel whose output `index` is a tensor of `kind`.
unsafe fn copy(
    api: Api,
    value: *mut OrtValue,
    context: *mut OrtKernelContext,
    index: usize,
    kind: Kind,
) -> Result<Vec<i64>, Failure> {
    // SAFETY: the caller's promise.
    let from = unsafe { tensor::memory(api, value, kind) }?;
    // SAFETY: the caller's promise.
    let to = unsafe { api.output_value(context, index, &from.shape) }?;
    if to.is_null() {
        // Nobody wants it.
        return Ok(from.shape);
    }
    // SAFETY: the caller's promise.
    let to = unsafe { tensor::memory(api, to, kind) }?;
    if from.bytes != to.bytes {
        return Err(format!("its output {index} takes {} bytes where {} are given", to.bytes, from.bytes).into());
    }
    if from.bytes > 0 {
        // SAFETY: both are so long, and `to` is new.
        unsafe { ptr::copy_nonoverlapping(from.data, to.data, from.bytes) };
    }
    Ok(from.shape)
}

/// A weight as onnxruntime takes it.
fn initializer(weight: &LoadedWeight) -> Result<Initializer, String> {
    let LoadedWeight { name, shape, data_type, values } = weight;
    let odd = |what: &str| format!("tensor `{name}`: {what}");
    let shape: Result<Vec<i64>, _> = shape.iter().map(|&length| i64::try_from(length)).collect();
    Ok(Initializer {
        name: CString::new(name.as_str()).map_err(|_| odd("its name contains a zero"))?,
        kind: kind(*data_type).ok_or_else(|| odd("its type is unknown"))?,
        shape: shape.map_err(|_| odd("its shape exceeds 64 bits"))?,
        data: values.bytes().into(),
    })
}

/// onnxruntime's name of a type of weights, which is a number of ONNX' `TensorProto.DataType`.
fn kind(data_type: i32) -> Option<Kind> {
    Some(match data_type {
        1 => Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        2 => Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        3 => Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        10 => Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        11 => Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        16 => Kind::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        _ => return None,
    })
}
