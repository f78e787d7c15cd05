//! How fast compressed models run, against the dense originals, in both runtimes.
//!
//! ```text
//! cargo build --release --workspace
//! cargo bench --bench latency -- [MODEL …] [--seconds N] [--packed FOLDER]
//! ```
//!
//! Each model is compressed with no options and no data (or `FOLDER/MODEL.onnx` is taken), and runs one synthetic input
//! on one thread: the original, the packed file as `onnx_dcomp::load` opens it, and in onnxruntime also through the
//! operator library alone, as it is and as one node (target `session`). Rounds of all of them follow each other for N seconds (default 6) for each model and runtime,
//! in turning order, so that what else the machine does hits all alike; a column is the median over the rounds of time
//! over the original's time in the same round. Models are looked for in `DCOMP_DATA` (default `../shared`).

#[path = "rounds/mod.rs"]
mod rounds;

use std::path::{Path, PathBuf};
use std::time::Duration;

use onnx_dcomp::{Compiler, RuntimeKind, RuntimeOptions, load};
use onnx_dcomp_engine::backend::open_with_library;
use onnx_dcomp_engine::evidence::synthetic::{Inputs, generator};
use onnx_dcomp_engine::{ModelSource, PreprocessOptions, Session, Tensor, available};
use onnx_dcomp_ir::Model;
use rounds::{Failure, measure, median, operator_library};

const MODELS: [&str; 7] = [
    "lenet300",
    "lenet5",
    "resnet20_cifar10",
    "resnet32_cifar10",
    "squeezenet_deepcomp",
    "espnet_cityscapes",
    "fcn8s_camvid",
];

/// What the command line asks for.
struct Request {
    models: Vec<String>,
    seconds: f64,
    packed: Option<PathBuf>,
}

impl Request {
    fn parse() -> Result<Self, Failure> {
        let mut request = Self { models: Vec::new(), seconds: 6.0, packed: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--bench" => {}
                "--seconds" => request.seconds = value()?.parse()?,
                "--packed" => request.packed = Some(value()?.into()),
                _ => request.models.push(argument),
            }
        }
        Ok(request)
    }
}

fn main() -> Result<(), Failure> {
    let request = Request::parse()?;
    let root = std::env::var_os("DCOMP_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let library = operator_library();
    let folder = tempfile::tempdir()?;
    println!("| model | runtime | dense, ms | loaded | operator library: `session` | `packed` |");
    println!("|---|---|---:|---:|---:|---:|");
    for name in MODELS {
        let is_wanted = request.models.is_empty() || request.models.iter().any(|wanted| name.contains(wanted.as_str()));
        let model = root.join("models").join(format!("{name}.onnx"));
        if !is_wanted || !model.exists() {
            continue;
        }
        let packed = match &request.packed {
            Some(folder) => folder.join(format!("{name}.onnx")),
            None => {
                let packed = folder.path().join(format!("{name}.onnx"));
                Compiler::new(&model).output(&packed).run()?;
                packed
            }
        };
        let one_node = folder.path().join(format!("{name}.session.onnx"));
        let mut enclosed = Model::open(&packed)?;
        enclosed.enclose()?;
        enclosed.save(&one_node)?;
        for runtime in RuntimeKind::ALL {
            if let Err(error) = available(runtime) {
                eprintln!("skipped: {error}");
                continue;
            }
            let options = RuntimeOptions::default();
            let mut sessions = vec![load(&model, runtime, &options)?, load(&packed, runtime, &options)?];
            if let Some(library) = library.as_deref().filter(|_| runtime == RuntimeKind::Onnxruntime) {
                for file in [&one_node, &packed] {
                    sessions.push(open_with_library(library, ModelSource::path(file), &options)?);
                }
            }
            let input = input(&model, sessions[0].as_ref())?;
            let rounds = measure(&mut sessions, &input, Duration::from_secs_f64(request.seconds))?;
            let dense = median(rounds.iter().map(|round| round[0] * 1e3));
            let ratio = |session: usize| median(rounds.iter().map(|round| round[session] / round[0]));
            let through =
                |session| if session < sessions.len() { format!("{:.3}", ratio(session)) } else { String::new() };
            println!("| `{name}` | {runtime} | {dense:.3} | {:.3} | {} | {} |", ratio(1), through(2), through(3));
        }
    }
    Ok(())
}

/// One synthetic input of the model at `path`.
fn input(path: &Path, session: &dyn Session) -> Result<Vec<Tensor>, Failure> {
    let preprocess = PreprocessOptions::beside(path)?.unwrap_or_default();
    let preprocess = preprocess.resolve(session.inputs(), session.outputs())?;
    let model = Model::open(path)?;
    let mut inputs = Inputs::new(&model, &preprocess);
    inputs.use_full_size();
    Ok(inputs.draw(1, &mut generator(0))?.swap_remove(0))
}
