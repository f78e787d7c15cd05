//! How sparse each layer may be.
//!
//! Iterative Deep Compression (submitted to ICLR, 2018) prunes in rounds: each layer loses some more of its weights, the
//! network is trained again, and what a layer bears is found by trying, not chosen by hand. Nothing is trained here.
//! Instead the weights that are left make up for those that go (see [`onnx_dcomp_passes::prune`]), and a round counts
//! where the network then still keeps its budget: first all layers together, as long as they bear it, then layer by
//! layer, the one with the most to gain first, in steps that shrink where they were too wide.

use crate::Error;

/// How often the network is measured at most.
pub const MOST_EVALUATIONS: usize = 24;

/// A step takes such a part of the elements that are left: the first, and the last that all layers take together, and
/// that one takes.
const FIRST_STEP: f64 = 0.5;
const LAST_COMMON_STEP: f64 = 0.25;
const LAST_STEP: f64 = 0.06;

/// Finds for each layer, of which `elements` has the number of elements, a sparsity in `0.0..1.0`, so that `keeps` holds
/// of all together; with the number of times that it was asked, at most [`MOST_EVALUATIONS`]. It is taken for granted
/// that it holds where all are 0.
///
/// # Errors
/// Those of `keeps`.
///
/// ```
/// use onnx_dcomp::budget::sparsity::search;
///
/// let most = [0.9, 0.3];
/// let keeps = |tried: &[f64]| Ok(tried.iter().zip(most).all(|(tried, most)| *tried <= most));
/// let (found, _) = search(&[1000, 1000], keeps)?;
/// assert!(found[0] > 0.85 && found[0] <= 0.9);
/// assert!(found[1] > 0.2 && found[1] <= 0.3);
/// # Ok::<(), onnx_dcomp::Error>(())
/// ```
pub fn search(
    elements: &[usize],
    mut keeps: impl FnMut(&[f64]) -> Result<bool, Error>,
) -> Result<(Vec<f64>, usize), Error> {
    let mut found = vec![0.0; elements.len()];
    let mut evaluations = 0;
    let mut common = FIRST_STEP;
    while common >= LAST_COMMON_STEP && evaluations < MOST_EVALUATIONS && !elements.is_empty() {
        let tried: Vec<f64> = found.iter().map(|&sparsity| raised(sparsity, common)).collect();
        evaluations += 1;
        if keeps(&tried)? {
            found = tried;
        } else {
            common /= 2.0;
        }
    }
    let mut steps = vec![FIRST_STEP; elements.len()];
    while evaluations < MOST_EVALUATIONS {
        let gain = |layer: usize| elements[layer] as f64 * (1.0 - found[layer]) * steps[layer];
        let open = (0..elements.len()).filter(|&layer| steps[layer] >= LAST_STEP);
        let Some(layer) = open.max_by(|&a, &b| gain(a).total_cmp(&gain(b)).then(b.cmp(&a))) else { break };
        let mut tried = found.clone();
        tried[layer] = raised(found[layer], steps[layer]);
        evaluations += 1;
        if keeps(&tried)? {
            found = tried;
        } else {
            steps[layer] /= 2.0;
        }
    }
    Ok((found, evaluations))
}

/// The sparsity after a part of what is left has gone.
fn raised(sparsity: f64, part: f64) -> f64 {
    1.0 - (1.0 - sparsity) * (1.0 - part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_keeps_the_budget_within_the_evaluations() {
        for layers in [0, 1, 2, 5, 40] {
            let elements: Vec<usize> = (1..=layers).map(|layer| 100 * layer).collect();
            let most: Vec<f64> = (0..layers).map(|layer| (layer * 37 % 100) as f64 / 100.0).collect();
            let mut asked = 0;
            let keeps = |tried: &[f64]| {
                asked += 1;
                Ok(tried.iter().zip(&most).all(|(tried, most)| tried <= most))
            };
            let (found, evaluations) = search(&elements, keeps).unwrap();
            assert!(found.iter().zip(&most).all(|(found, most)| found <= most), "{found:?} of {most:?}");
            assert_eq!(evaluations, asked);
            assert!(evaluations <= MOST_EVALUATIONS);
        }
    }

    #[test]
    fn the_layer_with_the_most_elements_comes_first() {
        let mut first = None;
        let keeps = |tried: &[f64]| {
            let is_common = tried.iter().all(|&sparsity| sparsity > 0.0);
            if !is_common {
                first.get_or_insert_with(|| tried.to_vec());
            }
            Ok(!is_common)
        };
        search(&[10, 1000, 100], keeps).unwrap();
        assert_eq!(first, Some(vec![0.0, 0.5, 0.0]));
    }
}
