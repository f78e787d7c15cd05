//! What each piece gives: bytes at equal distortion with the piece taken out.

use crate::measuring::{CALIBRATION_SAMPLES, Failure, Knowledge, Setting, Source};
use crate::{Point, measure};

/// The aims, in decibel, of the whole compressor that the others are compared with.
const REFERENCES: [f64; 2] = [16.0, 26.0];

/// How far to both sides of the reference the others are measured, in decibel.
const SPREAD: f64 = 1.5;

/// The compressor without one of its pieces.
struct Variant {
    name: &'static str,
    /// Options of `quantize`.
    options: &'static str,
    coder: &'static str,
    evidence: Knowledge,
}

/// Prints the table of one model.
pub(crate) fn print(setting: &mut Setting, title: &str) -> Result<(), Failure> {
    let whole = setting.knowledge(&setting.folded, Source::Samples, CALIBRATION_SAMPLES)?;
    let synthetic = setting.knowledge(&setting.folded, Source::Synthetic, CALIBRATION_SAMPLES)?;
    let mut without_sensitivity = whole.clone();
    without_sensitivity.evidence.sensitivity.clear();
    let mut without_bias = whole.clone();
    without_bias.evidence.bias.clear();
    let variant =
        |name, options, coder, evidence: &Knowledge| Variant { name, options, coder, evidence: evidence.clone() };
    let variants = [
        variant("error feedback", ", feedback=off", "small", &whole),
        variant("fitting layers to what those before them leave", ", follow=off", "small", &whole),
        variant("rate term", ", bit-price=0", "small", &whole),
        variant("calibration on samples (against synthetic inputs)", "", "small", &synthetic),
        variant("context mixing (against static rANS)", "", "fast", &whole),
        variant("measured sensitivity (against 1 / energy)", "", "small", &without_sensitivity),
        variant("bias correction, and the covariance with it", "", "small", &without_bias),
        variant("trellis (against a uniform grid)", ", scheme=uniform", "small", &whole),
    ];
    let all = variant("all", "", "small", &whole);
    let mut references = Vec::new();
    for quality in REFERENCES {
        let aim = all.measure(setting, quality)?.sqnr_db;
        references.push([quality, aim, all.bytes_at(setting, quality, aim)?]);
    }
    let mut table = format!("\n| {title} |");
    references.iter().for_each(|[_, aim, _]| table.push_str(&format!(" at {aim:.1} dB |")));
    table.push_str(&format!("\n|---|{}\n| all pieces, bytes |", "---:|".repeat(references.len())));
    references.iter().for_each(|[.., bytes]| table.push_str(&format!(" {bytes:.0} |")));
    for variant in variants {
        table.push_str(&format!("\n| without {} |", variant.name));
        for &[quality, aim, bytes] in &references {
            let more = 100.0 * (variant.bytes_at(setting, quality, aim)? / bytes - 1.0);
            table.push_str(&format!(" {more:+.1} % |"));
        }
    }
    println!("{table}");
    Ok(())
}

impl Variant {
    fn measure(&self, setting: &mut Setting, quality: f64) -> Result<Point, Failure> {
        let lossy = format!("quantize(quality={quality:.2}{})", self.options);
        measure(setting, &lossy, &format!("strip, pack(coder={})", self.coder), &self.evidence)
    }

    /// Bytes at `aim` decibel of the outputs: by a line through the logarithms at three points around it, found from
    /// what `quality` gives.
    fn bytes_at(&self, setting: &mut Setting, quality: f64, aim: f64) -> Result<f64, Failure> {
        let mut centre = quality;
        let mut middle = self.measure(setting, centre)?;
        for _ in 0..2 {
            let off = aim - middle.sqnr_db;
            if off.abs() < 1.0 {
                break;
            }
            centre += off;
            middle = self.measure(setting, centre)?;
        }
        let ends = [self.measure(setting, centre - SPREAD)?, self.measure(setting, centre + SPREAD)?];
        let points: Vec<[f64; 2]> =
            ends.iter().chain([&middle]).map(|point| [point.sqnr_db - aim, (point.bytes as f64).ln()]).collect();
        let mean = |place: usize| points.iter().map(|point| point[place]).sum::<f64>() / points.len() as f64;
        let (x, y) = (mean(0), mean(1));
        let slope = points.iter().map(|p| (p[0] - x) * (p[1] - y)).sum::<f64>()
            / points.iter().map(|p| (p[0] - x).powi(2)).sum::<f64>();
        Ok((y - slope * x).exp())
    }
}
