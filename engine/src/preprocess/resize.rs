//! Resizing one channel of an image.

/// `plane` (row by row, `from` = height and width) at the size `to`.
///
/// Halving takes the mean of each 2x2 block, as bilinear sampling at the blocks' centres does. Any other ratio uses a
/// triangle filter as wide as a source or a destination pixel, whichever is wider: bilinear interpolation when
/// enlarging, area-weighted (free of aliases) when shrinking.
pub fn resize(plane: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    if from == to || from.contains(&0) || to.contains(&0) || plane.len() != from[0] * from[1] {
        return if from == to { plane.to_vec() } else { vec![0.0; to[0] * to[1]] };
    }
    if from[0] == 2 * to[0] && from[1] == 2 * to[1] {
        return halve(plane, from[1]);
    }
    let columns = Taps::new(from[1], to[1]);
    let narrow: Vec<f32> = plane.chunks_exact(from[1]).flat_map(|row| columns.apply(|column| row[column])).collect();
    let rows = Taps::new(from[0], to[0]);
    let mut out = vec![0.0; to[0] * to[1]];
    for (row, (first, weights)) in out.chunks_exact_mut(to[1]).zip(&rows.0) {
        for (offset, &weight) in weights.iter().enumerate() {
            let start = (first + offset) * to[1];
            for (value, &source) in row.iter_mut().zip(&narrow[start..start + to[1]]) {
                *value += weight * source;
            }
        }
    }
    out
}

fn halve(plane: &[f32], width: usize) -> Vec<f32> {
    let pairs = |row: &[f32]| row.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect::<Vec<_>>();
    plane
        .chunks_exact(2 * width)
        .flat_map(|rows| {
            let (upper, lower) = (pairs(&rows[..width]), pairs(&rows[width..]));
            upper.into_iter().zip(lower).map(|(a, b)| (a + b) * 0.25).collect::<Vec<_>>()
        })
        .collect()
}

/// For each destination position the first source position and the weights from there on, which sum to one.
struct Taps(Vec<(usize, Vec<f32>)>);

impl Taps {
    fn new(from: usize, to: usize) -> Self {
        let ratio = from as f64 / to as f64;
        let radius = ratio.max(1.0);
        let taps = (0..to).map(|position| {
            let centre = (position as f64 + 0.5) * ratio;
            let first = (centre - radius).floor().max(0.0) as usize;
            let last = ((centre + radius).ceil() as usize).min(from);
            let triangle = |source: usize| (1.0 - (source as f64 + 0.5 - centre).abs() / radius).max(0.0);
            let sum: f64 = (first..last).map(triangle).sum();
            (first, (first..last).map(|source| (triangle(source) / sum) as f32).collect())
        });
        Self(taps.collect())
    }

    fn apply<'a>(&'a self, source: impl Fn(usize) -> f32 + 'a) -> impl Iterator<Item = f32> + 'a {
        self.0.iter().map(move |(first, weights)| {
            weights.iter().enumerate().map(|(offset, weight)| weight * source(first + offset)).sum()
        })
    }
}
