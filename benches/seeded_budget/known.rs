//! What is known of the candidates, for all seeds: their bytes, and the class that they give to each sample.

use std::path::PathBuf;

use onnx_dcomp_engine::metrics::argmax;
use onnx_dcomp_engine::{Label, ModelSource, RuntimeOptions, Sample, Tensor, open};
use onnx_dcomp_ir::Model;
use serde::{Deserialize, Serialize};

use crate::measuring::{CALIBRATION_SAMPLES, Failure, Knowledge, Setting, Source, run};

/// Samples that run together.
const BATCH: usize = 64;

/// One candidate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Candidate {
    /// The aim, in decibels; `None` where no value was changed.
    quality: Option<f64>,
    pub(crate) bytes: u64,
    pub(crate) making_cpu_seconds: f64,
    /// The class of each sample of the test side.
    classes: Vec<u16>,
}

/// What stays from one call to the next.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    version: String,
    labels: Vec<u16>,
    original: Vec<u16>,
    evidence_cpu_seconds: f64,
    running_cpu_seconds: f64,
    candidates: Vec<Candidate>,
}

/// Candidates of one model, made when they are first asked for.
pub(crate) struct Known {
    setting: Setting,
    evidence: Option<Knowledge>,
    file: PathBuf,
    kept: Kept,
}

impl Known {
    /// The model `name` on the data `data`; what an earlier call of this version found is taken over.
    pub(crate) fn open(name: &str, data: &str) -> Result<Self, Failure> {
        let setting = Setting::open(name, data, None, Some("train"), None)?;
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("seeded_budget-{name}.json"));
        let kept: Option<Kept> = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        // Other sources make other candidates.
        let version = measuring_version()?;
        let mut known = Self {
            setting,
            evidence: None,
            file,
            kept: kept.filter(|kept| kept.version == version).unwrap_or_default(),
        };
        if known.kept.labels.is_empty() {
            let before = cpu_seconds()?;
            let said = classes(&known.setting, &known.setting.folded)?;
            known.kept.running_cpu_seconds = (cpu_seconds()? - before) / said.len().max(1) as f64;
            known.kept.version = version;
            (known.kept.labels, known.kept.original) = said.into_iter().unzip();
            known.save()?;
        }
        Ok(known)
    }

    /// Number of samples of the test side.
    pub(crate) fn samples(&self) -> usize {
        self.kept.labels.len()
    }

    pub(crate) fn evidence_cpu_seconds(&self) -> f64 {
        self.kept.evidence_cpu_seconds
    }

    /// For one sample.
    pub(crate) fn running_cpu_seconds(&self) -> f64 {
        self.kept.running_cpu_seconds
    }

    pub(crate) fn original_cpu_seconds(&self) -> f64 {
        self.kept.running_cpu_seconds * self.samples() as f64
    }

    /// The candidate for an aim, or the one whose values are unchanged.
    pub(crate) fn candidate(&mut self, quality: Option<f64>) -> Result<&Candidate, Failure> {
        let place = self.kept.candidates.iter().position(|candidate| candidate.quality == quality);
        let place = match place {
            Some(place) => place,
            None => {
                let made = self.make(quality)?;
                self.kept.candidates.push(made);
                self.save()?;
                self.kept.candidates.len() - 1
            }
        };
        self.kept.candidates.get(place).ok_or_else(|| "the candidate was just made".into())
    }

    /// Label, and the class that the original and a candidate give, for some samples.
    pub(crate) fn said(
        &self,
        quality: Option<f64>,
        places: impl Iterator<Item = usize>,
    ) -> Result<impl Iterator<Item = (u16, u16, u16)>, Failure> {
        let candidate = self.kept.candidates.iter().find(|candidate| candidate.quality == quality);
        let classes = &candidate.ok_or("the candidate was not made")?.classes;
        Ok(places.map(|place| (self.kept.labels[place], self.kept.original[place], classes[place])))
    }

    fn make(&mut self, quality: Option<f64>) -> Result<Candidate, Failure> {
        if self.evidence.is_none() {
            let before = cpu_seconds()?;
            self.evidence = Some(self.setting.knowledge(&self.setting.folded, Source::Samples, CALIBRATION_SAMPLES)?);
            self.kept.evidence_cpu_seconds = cpu_seconds()? - before;
        }
        let nothing = Knowledge::default();
        let evidence = self.evidence.as_ref().unwrap_or(&nothing);
        let before = cpu_seconds()?;
        let mut model: Model = self.setting.folded.clone();
        if let Some(quality) = quality {
            run(&format!("quantize(quality={quality})"), &mut model, evidence)?;
        }
        let mut packed = model.clone();
        run("strip, pack", &mut packed, evidence)?;
        let bytes = packed.to_bytes()?.len() as u64;
        let making_cpu_seconds = cpu_seconds()? - before;
        let classes = classes(&self.setting, &model)?.into_iter().map(|(_, class)| class).collect();
        eprintln!("  aim {quality:?}: {bytes} bytes, made in {making_cpu_seconds:.1} CPU seconds");
        Ok(Candidate { quality, bytes, making_cpu_seconds, classes })
    }

    fn save(&self) -> Result<(), Failure> {
        Ok(std::fs::write(&self.file, serde_json::to_vec(&self.kept)?)?)
    }
}

/// Label and class of each sample, as `model`, which is not packed, sees it.
fn classes(setting: &Setting, model: &Model) -> Result<Vec<(u16, u16)>, Failure> {
    let bytes = model.to_bytes()?;
    let source = ModelSource::bytes("model", &bytes);
    let mut session = open(setting.runtime, source, &RuntimeOptions { threads: 1 })?;
    let mut said = Vec::new();
    for start in (0..setting.data.len()).step_by(BATCH) {
        let end = (start + BATCH).min(setting.data.len());
        let samples: Vec<Sample> = (start..end).map(|place| setting.data.sample(place)).collect::<Result<_, _>>()?;
        let inputs: Vec<&Tensor> = samples.iter().filter_map(|sample| sample.inputs.first()).collect();
        let outputs = session.run(&[Tensor::concatenate(&inputs)?])?;
        let output = outputs.first().ok_or("the model has no output")?;
        for (row, sample) in samples.iter().enumerate() {
            let Label::Class(label) = sample.label else { return Err("a sample has no class".into()) };
            said.push((label as u16, argmax(&output.rows(row, row + 1).to_f32()) as u16));
        }
    }
    Ok(said)
}

/// What tells the candidates of one build from those of another: when the program was built.
fn measuring_version() -> Result<String, Failure> {
    let built = std::fs::metadata(std::env::current_exe()?)?.modified()?;
    Ok(format!("{:?}", built.duration_since(std::time::UNIX_EPOCH)?))
}

/// Processor time of this program so far, as the system counts it.
fn cpu_seconds() -> Result<f64, Failure> {
    /// What Linux counts in a second, on every machine that it runs on today.
    const TICKS: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in brackets, may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|ticks| ticks.parse::<f64>().ok());
    let both = ticks(11).zip(ticks(12)).ok_or("the system does not count processor time as Linux does")?;
    Ok((both.0 + both.1) / TICKS)
}
