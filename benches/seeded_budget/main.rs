//! Whether a budget is kept on samples that the search has not seen: the search itself, again and again, with the halves
//! of the test side drawn anew by each seed.
//!
//! ```text
//! cargo bench --bench seeded_budget -- [--seeds A..B] [--max-drop POINTS] [--held-out N] [--model NAME] [--data SET]
//! ```
//!
//! Default: ResNet-20 on CIFAR-10, 0.5 points, seeds 0..20. The evidence is gathered once, and each candidate is made
//! and run on all of the test side once: which class it gives to each sample is kept in the build folder, for all seeds
//! and for the next call. Seeds then differ in nothing but the samples that the search looks at and those that confirm.
//!
//! `--held-out` draws N samples that neither half gets. What the chosen file loses there was looked at by nobody, while
//! the confirming half has a say in the choice where the first candidate fails on it.
//!
//! CPU seconds are those that a run alone takes with its candidates: gathering evidence, making the candidates, running
//! them and the original on the samples that it looked at.

mod known;
#[path = "../measuring/mod.rs"]
#[allow(dead_code, reason = "losses are counted here, sample by sample")]
mod measuring;

use std::ops::Range;

use clap::Parser;
use known::Known;
use measuring::Failure;
use onnx_dcomp::budget::search::search;
use onnx_dcomp::budget::{Confidence, Evaluator, Goal, Measured, Side, Source};
use onnx_dcomp_engine::dataset::half::lots;
use onnx_dcomp_engine::metrics::classification::Changed;
use onnx_dcomp_engine::validate::DropMetric;

/// What the command line asks for.
#[derive(Parser)]
struct Request {
    /// The seeds, without the last.
    #[arg(long, default_value = "0..20", value_parser = seeds)]
    seeds: Range<u64>,
    /// The budget, in percentage points of top-1.
    #[arg(long, default_value_t = 0.5)]
    max_drop: f64,
    /// How certain it must be that the budget is kept on other samples.
    #[arg(long, default_value = "50 %")]
    confidence: Confidence,
    /// Samples that neither half gets.
    #[arg(long, default_value_t = 0)]
    held_out: usize,
    /// The model's file, without its ending.
    #[arg(long, default_value = "resnet20_cifar10")]
    model: String,
    /// The data's folder.
    #[arg(long, default_value = "cifar10")]
    data: String,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let both = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    both.ok_or_else(|| format!("expected seeds such as 0..20, found `{text}`"))
}

/// The evaluations that one search may take.
const MOST_EVALUATIONS: usize = 40;

/// One seed's view of what is known.
struct Drawn<'a> {
    known: &'a mut Known,
    sides: [Vec<usize>; 2],
    /// Samples that were run, over those of the test side.
    evaluations: usize,
    cpu_seconds: f64,
}

impl Drawn<'_> {
    fn on(&self, quality: Option<f64>, places: impl Iterator<Item = usize> + Clone) -> Result<Measured, Failure> {
        let samples = places.clone().count();
        let (mut changed, mut same) = (Changed::default(), 0);
        for (label, original, compressed) in self.known.said(quality, places)? {
            changed.lost += u64::from(original == label && compressed != label);
            changed.gained += u64::from(original != label && compressed == label);
            same += u64::from(original == compressed);
        }
        let percent = 100.0 / samples.max(1) as f64;
        Ok(Measured {
            drop_points: percent * (changed.lost as f64 - changed.gained as f64),
            standard_error: changed.standard_error(samples as u64),
            agreement_percent: Some(percent * same as f64),
            sqnr_db: f64::NAN,
            broken: None,
        })
    }
}

impl Evaluator for Drawn<'_> {
    type Candidate = Option<f64>;

    fn metric(&self) -> DropMetric {
        DropMetric::Top1
    }

    fn source(&self) -> Source {
        Source::Samples
    }

    fn samples(&self, side: Side) -> usize {
        self.sides[side as usize].len()
    }

    fn make(&mut self, quality: Option<f64>) -> Result<(Option<f64>, u64), onnx_dcomp::Error> {
        let candidate = self.known.candidate(quality).map_err(|error| onnx_dcomp::Error::Usage(error.to_string()))?;
        self.cpu_seconds += candidate.making_cpu_seconds;
        Ok((quality, candidate.bytes))
    }

    fn measure(&mut self, made: &mut Option<f64>, side: Side, samples: usize) -> Result<Measured, onnx_dcomp::Error> {
        let all = &self.sides[side as usize];
        let places = (0..samples).map(|index| all[index * all.len() / samples]);
        let measured = self.on(*made, places).map_err(|error| onnx_dcomp::Error::Usage(error.to_string()))?;
        // A part that is not enough is run only once.
        self.evaluations += 1;
        self.cpu_seconds += self.known.running_cpu_seconds() * samples as f64;
        Ok(measured)
    }
}

fn main() -> Result<(), Failure> {
    let request = Request::parse();
    let mut known = Known::open(&request.model, &request.data)?;
    let (model, points, confidence) = (&request.model, request.max_drop, request.confidence);
    println!("{model}, top-1 falls by at most {points} points, with a confidence of {confidence}");
    println!("| seed | bytes | aim, dB | loss searched | confirmed | 95 % | tries | evaluations | held out | CPU s |");
    println!("|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|");
    let (mut runs, mut at_once, mut kept, mut held, mut most) = (0, 0, 0, Vec::new(), 0);
    for seed in request.seeds.clone() {
        let [mut held_out, rest] = lots(known.samples(), seed);
        // The first lot is cut to what is held out, the others are lotted anew.
        let rest = [held_out.split_off(request.held_out.min(held_out.len())), rest].concat();
        let sides = lots(rest.len(), seed).map(|places| places.into_iter().map(|place| rest[place]).collect());
        let mut drawn = Drawn { known: &mut known, sides, evaluations: 0, cpu_seconds: 0.0 };
        let goal = Goal { confidence: request.confidence, ..Goal::max_drop(request.max_drop) };
        let found = search(&goal, &mut drawn)?;
        let cpu_seconds = drawn.cpu_seconds;
        let unseen = drawn.on(found.quality, held_out.into_iter())?;
        let (evaluations, trace) = (found.search.candidates.len(), &found.search);
        let chosen = trace.chosen.and_then(|place| trace.candidates.get(place));
        let Some(confirmed) = trace.confirmation else { continue };
        let is_kept = chosen.is_some() && confirmed.drop_points <= request.max_drop;
        runs += 1;
        kept += usize::from(is_kept);
        at_once += usize::from(is_kept && confirmed.tries == 1);
        most = most.max(evaluations + confirmed.tries);
        let [low, high] = confirmed.interval_95;
        let cpu_seconds = cpu_seconds + known.evidence_cpu_seconds() + known.original_cpu_seconds();
        let beside = match request.held_out {
            0 => "–".to_owned(),
            _ => {
                held.push(unseen.drop_points);
                format!("{:+.2}", unseen.drop_points)
            }
        };
        println!(
            "| {seed} | {} | {} | {:+.2} | {:+.2} | {low:+.2} to {high:+.2} | {} | {} | {beside} | {cpu_seconds:.0} |",
            chosen.map_or_else(|| "none".to_owned(), |chosen| chosen.bytes.to_string()),
            found.quality.map_or_else(|| "∞".to_owned(), |quality| format!("{quality}")),
            chosen.map_or(f64::NAN, |chosen| chosen.drop_points),
            confirmed.drop_points,
            confirmed.tries,
            evaluations + confirmed.tries,
        );
    }
    println!(
        "\nkept on the confirming half in {kept} of {runs} runs, in {at_once} by the first candidate; at most {most} of \
         {MOST_EVALUATIONS} evaluations"
    );
    if !held.is_empty() {
        let within = held.iter().filter(|&&points| points <= request.max_drop).count();
        let mean = held.iter().sum::<f64>() / held.len() as f64;
        println!("on {} samples held out: kept in {within} of {runs}, mean loss {mean:+.2} points", request.held_out);
    }
    Ok(())
}
