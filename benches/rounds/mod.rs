//! Sessions that run in turn, so that what else the machine does hits all alike.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use onnx_dcomp_engine::{Session, Tensor};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// A round runs each model for about so long, so that the clock's own cost does not show.
const ROUND: Duration = Duration::from_millis(4);

/// The operator library, beside the folder of this program where the workspace was built.
pub(crate) fn operator_library() -> Option<PathBuf> {
    let name = format!("{}onnx_dcomp_ort{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let program = std::env::current_exe().ok()?;
    let found = program.ancestors().skip(1).take(2).map(|folder| folder.join(&name)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not there; `cargo build --release --workspace` makes it");
    }
    found
}

/// Seconds for one run of each session, round by round.
pub(crate) fn measure(
    sessions: &mut [Box<dyn Session>],
    input: &[Tensor],
    time: Duration,
) -> Result<Vec<Vec<f64>>, Failure> {
    let mut repeats = 1u32;
    for session in sessions.iter_mut() {
        session.run(input)?;
        let started = Instant::now();
        session.run(input)?;
        repeats = repeats.max((ROUND.as_secs_f64() / started.elapsed().as_secs_f64()).ceil() as u32);
    }
    let (begin, mut rounds) = (Instant::now(), Vec::new());
    while begin.elapsed() < time || rounds.len() < 5 {
        let mut round = vec![0.0; sessions.len()];
        for turn in 0..sessions.len() {
            let index = (turn + rounds.len()) % sessions.len();
            let started = Instant::now();
            for _ in 0..repeats {
                sessions[index].run(input)?;
            }
            round[index] = started.elapsed().as_secs_f64() / f64::from(repeats);
        }
        rounds.push(round);
    }
    Ok(rounds)
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
