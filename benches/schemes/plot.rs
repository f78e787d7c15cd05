//! The picture of the curves: one panel a model, output against the logarithm of bytes.

use std::fmt::Write;

/// What one scheme reached on one model.
pub(crate) struct Curve {
    pub(crate) model: String,
    pub(crate) scheme: String,
    /// Decibels of the outputs and bytes of the file, by rising decibels.
    pub(crate) points: Vec<[f64; 2]>,
}

impl Curve {
    /// Puts the curve in the place of the one that `curves` has of the same model and scheme; else behind the model's
    /// others.
    pub(crate) fn replace(self, curves: &mut Vec<Self>) {
        let is_same = |other: &&mut Self| other.model == self.model && other.scheme == self.scheme;
        match curves.iter_mut().find(is_same) {
            Some(other) => *other = self,
            None => {
                let last = curves.iter().rposition(|other| other.model == self.model);
                curves.insert(last.map_or(curves.len(), |last| last + 1), self);
            }
        }
    }
}

/// The curves as a table.
pub(crate) fn write(curves: &[Curve]) -> String {
    let mut text = String::from("model;scheme;output SQNR in dB;bytes\n");
    for curve in curves {
        for [decibels, bytes] in &curve.points {
            let _ = writeln!(text, "{};{};{decibels:.2};{bytes}", curve.model, curve.scheme);
        }
    }
    text
}

/// Reads what [`write`] wrote.
pub(crate) fn read(text: &str) -> Result<Vec<Curve>, String> {
    let mut curves: Vec<Curve> = Vec::new();
    for line in text.lines().skip(1) {
        let wrong = || format!("not a point of a curve: `{line}`");
        let [model, scheme, decibels, bytes] = line.split(';').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let point = [decibels.parse().map_err(|_| wrong())?, bytes.parse().map_err(|_| wrong())?];
        match curves.last_mut().filter(|curve| curve.model == model && curve.scheme == scheme) {
            Some(curve) => curve.points.push(point),
            None => {
                curves.push(Curve { model: model.to_owned(), scheme: scheme.to_owned(), points: vec![point] });
            }
        }
    }
    Ok(curves)
}

/// Size of the picture, and of the plot in each panel; lengths are in pixels.
const WIDTH: f64 = 940.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 56.0;
const PLOT_WIDTH: f64 = 276.0;
const PLOT_HEIGHT: f64 = 330.0;
/// From one label to the next.
const LINE: f64 = 16.0;

/// Decibels that are shown.
const DECIBELS: [f64; 2] = [0.0, 35.0];

const STYLE: &str = "
text { font: 12px system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif; fill: #57606a; }
.title { font-size: 15px; font-weight: 600; fill: #1f2328; }
.ground { fill: #ffffff; } .grid { stroke: #d0d7de; stroke-width: 0.6; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.dashed { stroke-dasharray: 2 5; } .leader { stroke-width: 0.8; opacity: 0.6; fill: none; }
text.label { stroke: none; }
.trellis { stroke: #0969da; fill: #0969da; } .uniform { stroke: #1a7f37; fill: #1a7f37; }
.lattice { stroke: #bc4c00; fill: #bc4c00; } .low-rank { stroke: #8250df; fill: #8250df; }
.deep { stroke: #cf222e; fill: #cf222e; }
path.curve, path.leader { fill: none; }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1; } .title { fill: #f0f6fc; } .ground { fill: #0d1117; } .grid { stroke: #30363d; }
.trellis { stroke: #58a6ff; fill: #58a6ff; } .uniform { stroke: #3fb950; fill: #3fb950; }
.lattice { stroke: #f0883e; fill: #f0883e; } .low-rank { stroke: #bc8cff; fill: #bc8cff; }
.deep { stroke: #ff7b72; fill: #ff7b72; }
}
";

/// The picture, as SVG that stands alone and follows the reader's light or dark.
pub(crate) fn draw(curves: &[Curve], titles: [&str; 2]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>Bytes of the whole file against the error of the outputs, by scheme</title>\n\
         <style>{STYLE}</style>\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>\n"
    );
    for (place, title) in titles.into_iter().enumerate() {
        let own: Vec<&Curve> = curves.iter().filter(|curve| curve.model == title).collect();
        let _ = writeln!(svg, "<g transform=\"translate({} {TOP})\">", LEFT + place as f64 * WIDTH / 2.0);
        panel(&mut svg, title, &own);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, title: &str, curves: &[&Curve]) {
    let shown: Vec<Vec<[f64; 2]>> = curves.iter().map(|curve| within(&curve.points)).collect();
    let bytes = || shown.iter().flatten().map(|point| point[1]);
    let (least, most) = (bytes().fold(f64::INFINITY, f64::min) * 0.9, bytes().fold(0.0, f64::max) * 1.1);
    let x = |decibels: f64| (decibels - DECIBELS[0]) / (DECIBELS[1] - DECIBELS[0]) * PLOT_WIDTH;
    let y = |bytes: f64| (most / bytes).ln() / (most / least).ln() * PLOT_HEIGHT;

    let _ = writeln!(svg, "<text class=\"title\" x=\"0\" y=\"-30\">{title}</text>");
    let _ = writeln!(svg, "<text x=\"0\" y=\"-11\">whole file, kB</text>");
    let (middle, below) = (PLOT_WIDTH / 2.0, PLOT_HEIGHT + 38.0);
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">output SQNR on test samples, dB</text>"
    );
    let rounds = (0..8).flat_map(|power| [1.0, 2.0, 3.0, 5.0, 7.0].map(|digit| digit * 10f64.powi(power)));
    for round in rounds.filter(|&round| (least..=most).contains(&round)) {
        let at = y(round);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M0 {at:.1}H{PLOT_WIDTH}\"/>");
        let _ = writeln!(svg, "<text x=\"-8\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", at + 4.0, round / 1000.0);
    }
    for decibels in (0..=60).step_by(5).map(f64::from).filter(|&d| (DECIBELS[0]..=DECIBELS[1]).contains(&d)) {
        let at = x(decibels);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} 0V{PLOT_HEIGHT}\"/>");
        let _ =
            writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{decibels}</text>", PLOT_HEIGHT + 18.0);
    }
    let mut ends = Vec::new();
    for (curve, points) in curves.iter().zip(&shown) {
        let Some(&[decibels, bytes]) = points.last() else { continue };
        let class = curve.scheme.split([' ', ',']).next().unwrap_or_default();
        let dashed = if curve.scheme.ends_with("no data") { " dashed" } else { "" };
        let path: Vec<String> = points.iter().map(|&[d, b]| format!("{:.1} {:.1}", x(d), y(b))).collect();
        let _ = writeln!(svg, "<path class=\"curve {class}{dashed}\" d=\"M{}\"/>", path.join("L"));
        ends.push(([x(decibels), y(bytes)], class, curve.scheme.as_str()));
    }
    ends.sort_by(|(a, ..), (b, ..)| a[1].total_cmp(&b[1]));
    let heights = apart(&ends.iter().map(|(end, ..)| end[1]).collect::<Vec<_>>());
    for ((end, class, scheme), height) in ends.iter().zip(heights) {
        let [from, edge] = [end[0] + 3.0, PLOT_WIDTH + 14.0];
        let _ = writeln!(svg, "<path class=\"leader {class}\" d=\"M{from:.1} {:.1}L{edge} {height:.1}\"/>", end[1]);
        let _ = writeln!(
            svg,
            "<text class=\"label {class}\" x=\"{}\" y=\"{:.1}\">{scheme}</text>",
            edge + 4.0,
            height + 4.0
        );
    }
}

/// The part of a curve within [`DECIBELS`]: straight lines over the logarithm of bytes, cut at the borders.
fn within(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut cut = Vec::new();
    for pair in points.windows(2) {
        let [[d0, b0], [d1, b1]] = [pair[0], pair[1]];
        let at = |decibels: f64| [decibels, (b0.ln() + (decibels - d0) / (d1 - d0) * (b1 / b0).ln()).exp()];
        let (low, high) = (d0.max(DECIBELS[0]), d1.min(DECIBELS[1]));
        if low < high {
            if cut.is_empty() {
                cut.push(at(low));
            }
            cut.push(at(high));
        }
    }
    cut
}

/// Heights for labels at rising `wanted`, each at least [`LINE`] below the one before, moved as little as possible:
/// labels that touch stand together around the mean of what they want.
fn apart(wanted: &[f64]) -> Vec<f64> {
    let mut groups: Vec<Vec<f64>> = Vec::new();
    let first = |group: &[f64]| group.iter().sum::<f64>() / group.len() as f64 - LINE * (group.len() - 1) as f64 / 2.0;
    for &height in wanted {
        let mut group = vec![height];
        while let Some(before) = groups.pop_if(|before| first(before) + LINE * before.len() as f64 > first(&group)) {
            group.splice(0..0, before);
        }
        groups.push(group);
    }
    groups.iter().flat_map(|group| (0..group.len()).map(move |place| first(group) + LINE * place as f64)).collect()
}
