//! Sessions of the host's onnxruntime that are made in here, and what they are made of.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

use onnx_dcomp_load::AlignedBytes;
use ort_sys::{
    ExecutionMode, ONNXTensorElementDataType as Kind, OrtAllocator, OrtAllocatorType, OrtEnv, OrtLoggingLevel,
    OrtMemType, OrtMemoryInfo, OrtSession, OrtSessionOptions, OrtValue,
};

use crate::api::{Api, Failure, call};
use crate::tensor;

/// Something of onnxruntime's that is given back when it is dropped.
macro_rules! owned {
    ($(#[$documentation:meta])* $name:ident($raw:ty), $release:ident) => {
        $(#[$documentation])*
        pub(crate) struct $name {
            api: Api,
            raw: *mut $raw,
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: onnxruntime made it for this owner, who has not given it back before.
                unsafe { ((*self.api.table()).$release)(self.raw) };
            }
        }
    };
}

owned! {
    /// A hold on the environment that all sessions of a process share.
    Environment(OrtEnv), ReleaseEnv
}

owned! {
    /// Options for sessions.
    Options(OrtSessionOptions), ReleaseSessionOptions
}

owned! {
    /// A tensor.
    Value(OrtValue), ReleaseValue
}

owned! {
    /// Where a tensor lies.
    Place(OrtMemoryInfo), ReleaseMemoryInfo
}

owned! {
    /// A session; it may run in several threads at once.
    RawSession(OrtSession), ReleaseSession
}

// SAFETY: the options are never changed after they were made; onnxruntime copies them.
unsafe impl Send for Options {}
// SAFETY: as above.
unsafe impl Sync for Options {}

impl Options {
    /// A copy of `options` for a session within a run: without what writes files, since profiles and optimised models are
    /// the host's session's alone, and with its nodes run one after another. Where sessions share threads, a run might
    /// else wait for the thread that it is in.
    ///
    /// # Safety
    /// `options` are onnxruntime's.
    pub(crate) unsafe fn copied(api: Api, options: *const OrtSessionOptions) -> Result<Self, Failure> {
        let mut raw = ptr::null_mut();
        call!(api, CloneSessionOptions(options, &raw mut raw))?;
        let copy = Self { api, raw };
        let no_path: ort_sys::os_char = 0;
        call!(api, SetOptimizedModelFilePath(copy.raw, &raw const no_path))?;
        call!(api, DisableProfiling(copy.raw))?;
        call!(api, SetSessionExecutionMode(copy.raw, ExecutionMode::ORT_SEQUENTIAL))?;
        Ok(copy)
    }

    /// A copy with `initializers`.
    ///
    /// # Safety
    /// The initializers outlive the options, and whatever is made with these until it is made.
    unsafe fn with(&self, initializers: &[Initializer]) -> Result<Self, Failure> {
        // SAFETY: they are onnxruntime's.
        let copy = unsafe { Self::copied(self.api, self.raw) }?;
        let names: Vec<*const c_char> = initializers.iter().map(|initializer| initializer.name.as_ptr()).collect();
        // SAFETY: the caller's promise.
        let value = |Initializer { kind, shape, data, .. }: &Initializer| unsafe {
            Value::around(self.api, *kind, shape, data)
        };
        let owned = initializers.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let values: Vec<*const OrtValue> = owned.iter().map(|value| value.raw.cast_const()).collect();
        // The options get a share of each value.
        call!(self.api, AddExternalInitializers(copy.raw, names.as_ptr(), values.as_ptr(), names.len()))?;
        Ok(copy)
    }
}

impl Value {
    /// Takes over `raw`.
    ///
    /// # Safety
    /// It is a value of onnxruntime's that has no other owner.
    pub(crate) unsafe fn owning(api: Api, raw: *mut OrtValue) -> Self {
        Self { api, raw }
    }

    /// The value, which stays with its owner.
    pub(crate) fn as_ptr(&self) -> *mut OrtValue {
        self.raw
    }

    /// A tensor of `kind` and `shape` whose elements are `bytes`.
    ///
    /// # Safety
    /// `bytes` outlive the value.
    unsafe fn around(api: Api, kind: Kind, shape: &[i64], bytes: &AlignedBytes) -> Result<Self, Failure> {
        let (mut place, mut raw) = (ptr::null_mut(), ptr::null_mut());
        let (allocator, memory) = (OrtAllocatorType::OrtDeviceAllocator, OrtMemType::OrtMemTypeDefault);
        call!(api, CreateCpuMemoryInfo(allocator, memory, &raw mut place))?;
        let place = Place { api, raw: place };
        // onnxruntime checks that there are enough bytes, and changes no initializer.
        let (data, length) = (bytes.as_ptr().cast_mut().cast(), bytes.len());
        let (shape, rank) = (shape.as_ptr(), shape.len());
        call!(api, CreateTensorWithDataAsOrtValue(place.raw, data, length, shape, rank, kind, &raw mut raw))?;
        Ok(Self { api, raw })
    }
}

/// A weight that is handed over.
pub(crate) struct Initializer {
    pub(crate) name: CString,
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<i64>,
    pub(crate) data: AlignedBytes,
}

/// onnxruntime's own allocator for a processor's memory; it lives as long as the process.
fn allocator(api: Api) -> Result<*mut OrtAllocator, Failure> {
    let mut allocator = ptr::null_mut();
    call!(api, GetAllocatorWithDefaultOptions(&raw mut allocator))?;
    Ok(allocator)
}

/// A session with the names that it knows its inputs and outputs by.
pub(crate) struct Session {
    // In this order they are given back.
    session: RawSession,
    _environment: Environment,
    api: Api,
    inputs: Names,
    outputs: Names,
}

struct Names {
    pointers: Vec<*const c_char>,
    // What they point to.
    _text: Vec<CString>,
}

// SAFETY: onnxruntime lets several threads run a session, and give it back; names do not change.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Session {
    /// A session of the ONNX message `graph`, with `options` and with `initializers` handed over, as one that the host
    /// makes from a file. By onnxruntime's word the initializers may go once it is made: it has copied them.
    pub(crate) fn new(
        api: Api,
        graph: &[u8],
        initializers: Vec<Initializer>,
        options: &Options,
    ) -> Result<Self, Failure> {
        let mut raw = ptr::null_mut();
        // There is one environment in a process; this one gets another owner.
        let level = OrtLoggingLevel::ORT_LOGGING_LEVEL_WARNING;
        call!(api, CreateEnv(level, c"onnx-dcomp".as_ptr(), &raw mut raw)).map_err(|failure| {
            format!(
                "this onnxruntime opens no session for an operator; its Python package does so from 1.23 on. Update it, \
                 compress with the target `packed`, or turn the model into plain ONNX with `onnx-dcomp decompress` ({})",
                api.in_words(failure)
            )
        })?;
        let environment = Environment { api, raw };
        // SAFETY: they live until the session is made, and the options go before them.
        let options = unsafe { options.with(&initializers) }?;
        let mut raw = ptr::null_mut();
        let data = graph.as_ptr().cast();
        call!(api, CreateSessionFromArray(environment.raw, data, graph.len(), options.raw, &raw mut raw))?;
        let session = RawSession { api, raw };
        drop((options, initializers));
        let (mut inputs, mut outputs) = (0, 0);
        call!(api, SessionGetInputCount(session.raw, &raw mut inputs))?;
        call!(api, SessionGetOutputCount(session.raw, &raw mut outputs))?;
        let allocator = allocator(api)?;
        let inputs =
            Names::read(api, inputs, |at, name| call!(api, SessionGetInputName(session.raw, at, allocator, name)))?;
        let outputs =
            Names::read(api, outputs, |at, name| call!(api, SessionGetOutputName(session.raw, at, allocator, name)))?;
        Ok(Self { session, _environment: environment, api, inputs, outputs })
    }

    /// Number of inputs and of outputs.
    pub(crate) fn arity(&self) -> (usize, usize) {
        (self.inputs.pointers.len(), self.outputs.pointers.len())
    }

    /// The element type of output `index`; `None` for what is no tensor.
    pub(crate) fn output_element(&self, index: usize) -> Result<Option<Kind>, Failure> {
        let mut info = ptr::null_mut();
        call!(self.api, SessionGetOutputTypeInfo(self.session.raw, index, &raw mut info))?;
        // SAFETY: made above.
        unsafe { tensor::element(self.api, info) }
    }

    /// Runs the session; an output that is null becomes a new value, which the caller owns.
    ///
    /// # Safety
    /// All pointers are onnxruntime's values or null; nobody else has those of `outputs` during the call.
    pub(crate) unsafe fn run(&self, inputs: &[*const OrtValue], outputs: &mut [*mut OrtValue]) -> Result<(), Failure> {
        if (inputs.len(), outputs.len()) != self.arity() {
            return Err("another number of inputs or outputs than it has".to_owned().into());
        }
        let (names, to) = (&self.inputs.pointers, &self.outputs.pointers);
        // No options: what the host set for its own run is not shown to operators.
        let (session, options) = (self.session.raw, ptr::null());
        let (values, filled) = (inputs.as_ptr(), outputs.as_mut_ptr());
        call!(self.api, Run(session, options, names.as_ptr(), values, names.len(), to.as_ptr(), to.len(), filled))
    }
}

impl Names {
    /// Reads `count` names with `read`, which lets onnxruntime's allocator make the text.
    fn read(
        api: Api,
        count: usize,
        read: impl Fn(usize, *mut *mut c_char) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let allocator = allocator(api)?;
        let name = |index| {
            let mut text = ptr::null_mut();
            read(index, &raw mut text)?;
            // SAFETY: onnxruntime gave a string that is the caller's own.
            let name = unsafe { CStr::from_ptr(text) }.to_owned();
            call!(api, AllocatorFree(allocator, text.cast::<c_void>()))?;
            Ok(name)
        };
        let text = (0..count).map(name).collect::<Result<Vec<CString>, Failure>>()?;
        Ok(Self { pointers: text.iter().map(|name| name.as_ptr()).collect(), _text: text })
    }
}
