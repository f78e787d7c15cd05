//! Where each target runs, how fast, and in how much memory: every host with every target.
//!
//! ```text
//! cargo build --release --workspace
//! cargo bench --bench hosts -- MODEL [--rounds N] [--seconds N]
//! ```
//!
//! The model, whose inputs must be one tensor, is compressed for every target with no data, at balanced quality; for
//! `fused`, where that pays where weights are zero, it is pruned to a tenth of its weights and gets 16 values each (its
//! accuracy is not looked at here). Each host opens each file in a process of its own and runs one synthetic input on one
//! thread for N seconds (default 1), in N rounds (default 3). A cell holds the time of one run over that of the dense file in
//! the same host (the median over the rounds) and the memory that is resident after it, all of the process; or why there
//! is nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onnx_dcomp::{Compiler, Plan, RuntimeKind, RuntimeOptions, Target, load};
use onnx_dcomp_engine::evidence::synthetic::{Inputs, generator};
use onnx_dcomp_engine::{PreprocessOptions, Tensor};
use onnx_dcomp_ir::Model;
use tract_onnx::prelude::{DatumExt, Framework, InferenceModelExt, IntoRunnable, Tensor as TractTensor, tvec};

type Failure = Box<dyn std::error::Error>;

/// A program that runs models.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Host {
    Tract,
    StockTract,
    Loaded,
    CInterface,
    Library,
    Stock,
}

impl Host {
    const ALL: [Self; 6] = [Self::Tract, Self::StockTract, Self::Loaded, Self::CInterface, Self::Library, Self::Stock];

    fn name(self) -> &'static str {
        match self {
            Self::Tract => "tract",
            Self::StockTract => "stock-tract",
            Self::Loaded => "loaded",
            Self::CInterface => "c",
            Self::Library => "library",
            Self::Stock => "stock",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Tract => "tract, our operators registered",
            Self::StockTract => "tract, nothing of ours",
            Self::Loaded => "onnxruntime in Rust, `load`",
            Self::CInterface => "onnxruntime in Python, C interface",
            Self::Library => "onnxruntime in Python, operator library",
            Self::Stock => "onnxruntime in Python, nothing of ours",
        }
    }

    /// The library of ours that the host loads.
    fn library(self) -> Option<PathBuf> {
        let stem = match self {
            Self::CInterface => "onnx_dcomp_c",
            Self::Library => "onnx_dcomp_ort",
            _ => return None,
        };
        let name = format!("{}{stem}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let program = std::env::current_exe().ok()?;
        program.ancestors().skip(1).take(2).map(|folder| folder.join(&name)).find(|path| path.is_file())
    }

    /// The process that measures.
    fn command(self, model: &Path, input: &Path, seconds: f64) -> Result<Command, Failure> {
        let mut command = match self {
            Self::Tract | Self::StockTract | Self::Loaded => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["measure", self.name()]);
                command
            }
            Self::CInterface | Self::Library | Self::Stock => {
                let mut command = Command::new(python());
                command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/hosts/host.py"));
                command.arg(self.name()).arg(self.library().unwrap_or_default());
                command
            }
        };
        command.arg(model).arg(input).arg(seconds.to_string()).stderr(Stdio::null());
        Ok(command)
    }
}

/// The Python that `DCOMP_PYTHON` names, that of `.venv`, or the system's.
fn python() -> PathBuf {
    let named = std::env::var_os("DCOMP_PYTHON").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    named.or_else(|| beside.is_file().then_some(beside)).unwrap_or_else(|| "python3".into())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["measure", host, model, input, seconds] => {
            measure(host, Path::new(model), Path::new(input), Duration::from_secs_f64(seconds.parse()?))
        }
        _ => compare(&Request::parse(arguments)?),
    }
}

/// What the command line asks for.
struct Request {
    model: PathBuf,
    rounds: usize,
    seconds: f64,
}

impl Request {
    fn parse(arguments: Vec<String>) -> Result<Self, Failure> {
        let (mut model, mut rounds, mut seconds) = (None, 3, 1.0);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--rounds" => rounds = value()?.parse()?,
                "--seconds" => seconds = value()?.parse()?,
                _ => model = Some(PathBuf::from(argument)),
            }
        }
        Ok(Self { model: model.ok_or("which model?")?, rounds, seconds })
    }
}

/// Compresses the model for every target, and prints the table.
fn compare(request: &Request) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("input.npy");
    write_input(&request.model, &input)?;
    let targets: Vec<Target> = Target::ALL.into_iter().filter(|target| *target != Target::Dense).collect();
    let mut files = vec![request.model.clone()];
    for target in &targets {
        let file = folder.path().join(format!("{target}.onnx"));
        let plan = match target {
            Target::Fused => Plan::Passes("fold, prune(sparsity=0.9), share(clusters=16), strip, pack".to_owned()),
            _ => Plan::default(),
        };
        let compiler = Compiler::new(&request.model).output(&file).plan(plan).target(*target);
        compiler.evidence(folder.path().join("evidence")).run()?;
        files.push(file);
    }
    println!(
        "| host | dense | {} |",
        targets.iter().map(|target| format!("`{target}`")).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|---:|{}", "---:|".repeat(targets.len()));
    for host in Host::ALL {
        let mut measured: Vec<Vec<Option<(f64, f64)>>> = Vec::new();
        for _ in 0..request.rounds {
            let run = |file: &PathBuf| in_process(host, file, &input, request.seconds);
            measured.push(files.iter().map(run).collect::<Result<_, _>>()?);
        }
        let dense = median(measured.iter().filter_map(|round| round[0]).map(|(time, _)| time));
        let Some(dense) = dense else {
            println!("| {} | is not here |{}", host.title(), " |".repeat(targets.len()));
            continue;
        };
        let memory = |file: usize| {
            median(measured.iter().filter_map(|round| round[file]).map(|(_, memory)| memory)).unwrap_or_default()
        };
        let mut row = format!("| {} | {dense:.2} ms, {:.0} MB |", host.title(), memory(0));
        for file in 1..files.len() {
            let ratio = |round: &Vec<Option<(f64, f64)>>| Some(round[file]?.0 / round[0]?.0);
            row.push_str(&match median(measured.iter().filter_map(ratio)) {
                Some(ratio) => format!(" {ratio:.2} ×, {:.0} MB |", memory(file)),
                None => " no |".to_owned(),
            });
        }
        println!("{row}");
    }
    Ok(())
}

/// Milliseconds for a run, and megabytes that are resident; `None` where the host does not run the file.
fn in_process(host: Host, file: &Path, input: &Path, seconds: f64) -> Result<Option<(f64, f64)>, Failure> {
    let done = host.command(file, input, seconds)?.output()?;
    if !done.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8(done.stdout)?;
    let numbers: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    Ok(numbers.first().zip(numbers.get(1)).map(|(time, memory)| (*time, memory / 1e3)))
}

/// Runs the model in this process and prints milliseconds and resident kilobytes.
fn measure(host: &str, model: &Path, input: &Path, time: Duration) -> Result<(), Failure> {
    let input = read_input(input)?;
    let mut run: Box<dyn FnMut() -> Result<(), Failure>> = if host == Host::StockTract.name() {
        let fact = f32::fact(input.shape()).into();
        let model = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(model)?.with_input_fact(0, fact)?;
        let model = model.into_optimized()?.into_runnable()?;
        let tensor = TractTensor::from_shape(input.shape(), &input.to_f32())?;
        Box::new(move || {
            model.run(tvec!(tensor.clone().into()))?;
            Ok(())
        })
    } else {
        let is_tract = host == Host::Tract.name();
        let runtime = if is_tract { RuntimeKind::Tract } else { RuntimeKind::Onnxruntime };
        let mut session = load(model, runtime, &RuntimeOptions::default())?;
        let inputs = [input];
        Box::new(move || {
            session.run(&inputs)?;
            Ok(())
        })
    };
    run()?;
    let (begin, mut taken) = (Instant::now(), Vec::new());
    while begin.elapsed() < time || taken.len() < 5 {
        let started = Instant::now();
        run()?;
        taken.push(started.elapsed().as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    println!("{} {}", median(taken.into_iter()).unwrap_or_default() * 1e3, resident.unwrap_or("0"));
    Ok(())
}

/// Writes one synthetic input of the model at `path`.
fn write_input(path: &Path, to: &Path) -> Result<(), Failure> {
    let session = load(path, RuntimeKind::Tract, &RuntimeOptions::default())?;
    let preprocess = PreprocessOptions::beside(path)?.unwrap_or_default();
    let preprocess = preprocess.resolve(session.inputs(), session.outputs())?;
    let model = Model::open(path)?;
    let mut inputs = Inputs::new(&model, &preprocess);
    inputs.use_full_size();
    let input = inputs.draw(1, &mut generator(0))?.swap_remove(0).swap_remove(0);
    let values = ndarray::ArrayD::from_shape_vec(input.shape().to_vec(), input.to_f32().into_owned())?;
    Ok(ndarray_npy::write_npy(to, &values)?)
}

fn read_input(file: &Path) -> Result<Tensor, Failure> {
    let values: ndarray::ArrayD<f32> = ndarray_npy::read_npy(file)?;
    let shape = values.shape().to_vec();
    Ok(Tensor::from_f32(shape, values.into_raw_vec_and_offset().0)?)
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
