//! Running in onnxruntime, through its shared library. Packed models are decoded here, and their weights handed over as
//! external initializers.
//!
//! The library is found when the first session is opened: where `ORT_DYLIB_PATH` points; else in a Python environment
//! named `.venv` in the current folder or one above it; else where `python3` has its `onnxruntime` package.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;
use half::{bf16, f16};
use onnx_dcomp_ir::Model;
use onnx_dcomp_load::{LoadError, Loaded, is_packed, is_packed_file};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{DynValue, Outlet, PrimitiveTensorElementType, TensorElementType, TensorRef, ValueType};

use super::{ModelSource, RuntimeKind, RuntimeOptions, Session, check_inputs};
use crate::error::EngineError;
use crate::tensor::{Dimension, ElementType, Tensor, TensorData, TensorInfo};

/// One environment serves the process; onnxruntime allows no second one.
static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();

/// A model in onnxruntime.
pub(super) struct OnnxruntimeSession {
    name: String,
    session: OrtSession,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

pub(super) fn available() -> Result<(), EngineError> {
    environment().map(|_| ())
}

fn environment() -> Result<&'static Environment, EngineError> {
    let made = ENVIRONMENT.get_or_init(|| {
        let library = find_library()?;
        let builder = ort::init_from(&library).map_err(|error| error.to_string())?;
        builder.with_telemetry(false).build().map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|reason| EngineError::RuntimeUnavailable { runtime: "onnxruntime", reason: reason.clone() })
}

fn find_library() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(path),
            false => Err(format!("ORT_DYLIB_PATH points to {}, which is no file", path.display())),
        };
    }
    let current = std::env::current_dir().unwrap_or_default();
    let in_environment = current.ancestors().find_map(|folder| {
        let lib = folder.join(".venv").join("lib");
        entries(&lib).into_iter().find_map(|python| library_in(&python.join("site-packages/onnxruntime/capi")))
    });
    in_environment.or_else(ask_python).ok_or_else(|| {
        "its shared library was not found; set ORT_DYLIB_PATH to a libonnxruntime, or `pip install onnxruntime` in an \
         environment named `.venv` or for `python3`"
            .to_owned()
    })
}

fn ask_python() -> Option<PathBuf> {
    // The package is located, not imported: importing it takes a second and may print.
    const LOCATE: &str = "import importlib.util as u; print(u.find_spec('onnxruntime').submodule_search_locations[0])";
    let answer = Command::new("python3").args(["-c", LOCATE]).output().ok().filter(|answer| answer.status.success())?;
    let package = String::from_utf8(answer.stdout).ok()?;
    library_in(&Path::new(package.trim()).join("capi"))
}

/// onnxruntime's library in `folder`; the newest by name where there are several.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.starts_with("libonnxruntime.so")
            || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
            || name == "onnxruntime.dll"
    };
    entries(folder).into_iter().rfind(is_library)
}

/// What `folder` holds, sorted; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    found.sort();
    found
}

/// What becomes of the nodes that decode payloads.
pub(super) enum Operators<'a> {
    /// They give way to external initializers.
    Loaded,
    /// They stay, and this library has the operators.
    Library(&'a Path),
}

pub(super) fn open(
    source: ModelSource<'_>,
    operators: &Operators<'_>,
    options: &RuntimeOptions,
) -> Result<OnnxruntimeSession, EngineError> {
    let name = source.name();
    let environment = environment()?;
    let session = commit(environment, source, operators, options).map_err(|error| match error {
        LoadError::Onnxruntime(reason) => refused(&name, &reason),
        other => EngineError::Load(other),
    })?;
    let infos = |outlets: &[Outlet]| -> Result<Vec<TensorInfo>, EngineError> {
        outlets
            .iter()
            .map(|outlet| {
                info(outlet).ok_or_else(|| EngineError::OpenModel {
                    runtime: "onnxruntime",
                    model: name.clone(),
                    reason: format!("`{}` is no tensor of a known type", outlet.name()),
                })
            })
            .collect()
    };
    let (inputs, outputs) = (infos(session.inputs())?, infos(session.outputs())?);
    Ok(OnnxruntimeSession { name, session, inputs, outputs })
}

fn commit(
    environment: &Environment,
    source: ModelSource<'_>,
    operators: &Operators<'_>,
    options: &RuntimeOptions,
) -> Result<OrtSession, LoadError> {
    let text = |error: ort::Error<SessionBuilder>| LoadError::Onnxruntime(error.to_string());
    let mut builder = OrtSession::builder(environment)
        .map_err(|error| LoadError::Onnxruntime(error.to_string()))?
        .with_intra_threads(options.threads.max(1))
        .map_err(text)?
        // What goes wrong comes back as an error; printed as well, it would only be said twice.
        .with_log_level(LogLevel::Fatal)
        .map_err(text)?
        .with_deterministic_compute(true)
        .map_err(text)?;
    match *operators {
        Operators::Library(library) => builder = builder.with_operator_library(library).map_err(text)?,
        Operators::Loaded => {
            if let Some(loaded) = packed(&source) {
                return onnx_dcomp_load::onnxruntime::session(loaded?, builder);
            }
        }
    }
    let session = match source {
        ModelSource::Path(path) => builder.commit_from_file(path),
        ModelSource::Bytes { bytes, folder, .. } => {
            if let Some(folder) = folder {
                let folder = folder.to_string_lossy();
                let folder = if folder.is_empty() { Cow::Borrowed(".") } else { folder };
                builder = builder
                    .with_config_entry("session.model_external_initializers_file_folder_path", folder)
                    .map_err(text)?;
            }
            builder.commit_from_memory(bytes)
        }
    };
    session.map_err(|error| LoadError::Onnxruntime(error.to_string()))
}

/// The model with its payloads decoded; `None` where it has none, or where onnxruntime had better say what is wrong
/// with it.
fn packed(source: &ModelSource<'_>) -> Option<Result<Loaded, LoadError>> {
    let model = match *source {
        ModelSource::Path(path) => Model::open(path).ok()?,
        ModelSource::Bytes { bytes, folder, .. } if is_packed_file(bytes) => {
            Model::from_bytes(Bytes::copy_from_slice(bytes), folder).ok()?
        }
        ModelSource::Bytes { .. } => return None,
    };
    is_packed(&model).then(|| Loaded::of(model))
}

/// onnxruntime names the operator that it lacks in a sentence; everything else is passed on as it is.
fn refused(model: &str, reason: &str) -> EngineError {
    let unknown = || {
        // "ai.dcomp:DcompDecode(-1) is not a registered function/op": domain, type, version.
        let (head, _) = reason.split_once(" is not a registered function/op")?;
        head.rsplit(char::is_whitespace).next()?.split('(').next()
    };
    let known_elsewhere = || reason.split_once("No Op registered for ")?.1.split_whitespace().next();
    let unregistered = known_elsewhere().or_else(unknown);
    match unregistered {
        Some(operator) => EngineError::UnsupportedOperator {
            runtime: "onnxruntime",
            model: model.to_owned(),
            operator: operator.trim_start_matches(':').replace(':', "::"),
            node: node_name(reason).unwrap_or("unnamed").to_owned(),
        },
        None => EngineError::OpenModel { runtime: "onnxruntime", model: model.to_owned(), reason: reason.to_owned() },
    }
}

/// The node in `… node. Name:'conv1' …` or `In Node, ("conv1", …`.
fn node_name(reason: &str) -> Option<&str> {
    let quoted = |start: &str, end: char| reason.split_once(start).and_then(|(_, rest)| rest.split(end).next());
    quoted("Name:'", '\'').or_else(|| quoted("In Node, (\"", '"')).filter(|name| !name.is_empty())
}

fn info(outlet: &Outlet) -> Option<TensorInfo> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else { return None };
    let dimensions = shape
        .iter()
        .zip(dimension_symbols.iter())
        .map(|(&length, symbol)| match usize::try_from(length) {
            Ok(length) => Dimension::Fixed(length),
            Err(_) => Dimension::Dynamic(Some(symbol.clone()).filter(|symbol| !symbol.is_empty())),
        })
        .collect();
    Some(TensorInfo { name: outlet.name().to_owned(), element: element(*ty)?, shape: Some(dimensions) })
}

fn element(kind: TensorElementType) -> Option<ElementType> {
    Some(match kind {
        TensorElementType::Float32 => ElementType::F32,
        TensorElementType::Float64 => ElementType::F64,
        TensorElementType::Float16 => ElementType::F16,
        TensorElementType::Bfloat16 => ElementType::BF16,
        TensorElementType::Int8 => ElementType::I8,
        TensorElementType::Int16 => ElementType::I16,
        TensorElementType::Int32 => ElementType::I32,
        TensorElementType::Int64 => ElementType::I64,
        TensorElementType::Uint8 => ElementType::U8,
        TensorElementType::Uint16 => ElementType::U16,
        TensorElementType::Uint32 => ElementType::U32,
        TensorElementType::Uint64 => ElementType::U64,
        TensorElementType::Bool => ElementType::Bool,
        _ => return None,
    })
}

impl Session for OnnxruntimeSession {
    fn runtime(&self) -> RuntimeKind {
        RuntimeKind::Onnxruntime
    }

    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        check_inputs(&self.inputs, inputs, &self.name, RuntimeKind::Onnxruntime)?;
        run(&mut self.session, inputs).map_err(|error| EngineError::RunModel {
            runtime: "onnxruntime",
            model: self.name.clone(),
            reason: error.to_string(),
        })
    }
}

fn run(session: &mut OrtSession, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
    let fed: Vec<SessionInputValue<'_>> = inputs.iter().map(to_ort).collect::<ort::Result<_>>()?;
    let given = session.run(fed.as_slice())?;
    given.values().map(|value| from_ort(&value)).collect()
}

fn to_ort(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape = tensor.shape().to_vec();
    Ok(match tensor.data() {
        TensorData::F32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::F64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::F16(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::BF16(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::I8(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::I16(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::I32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::I64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::U8(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::U16(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::U32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::U64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        TensorData::Bool(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
    })
}

fn from_ort(value: &DynValue) -> ort::Result<Tensor> {
    fn values<T: PrimitiveTensorElementType + Clone>(value: &DynValue) -> ort::Result<Vec<T>> {
        Ok(value.try_extract_tensor::<T>()?.1.to_vec())
    }
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(ort::Error::new("an output is no tensor"));
    };
    let data = match element(*ty) {
        Some(ElementType::F32) => TensorData::F32(values(value)?),
        Some(ElementType::F64) => TensorData::F64(values(value)?),
        Some(ElementType::F16) => TensorData::F16(values::<f16>(value)?),
        Some(ElementType::BF16) => TensorData::BF16(values::<bf16>(value)?),
        Some(ElementType::I8) => TensorData::I8(values(value)?),
        Some(ElementType::I16) => TensorData::I16(values(value)?),
        Some(ElementType::I32) => TensorData::I32(values(value)?),
        Some(ElementType::I64) => TensorData::I64(values(value)?),
        Some(ElementType::U8) => TensorData::U8(values(value)?),
        Some(ElementType::U16) => TensorData::U16(values(value)?),
        Some(ElementType::U32) => TensorData::U32(values(value)?),
        Some(ElementType::U64) => TensorData::U64(values(value)?),
        Some(ElementType::Bool) => TensorData::Bool(values(value)?),
        None => return Err(ort::Error::new(format!("an output holds {ty}, which is not supported"))),
    };
    let shape = shape.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
    Tensor::new(shape, data).map_err(|error| ort::Error::new(error.to_string()))
}
