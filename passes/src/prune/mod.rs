//! `prune`: the smallest elements become zero.
//!
//! The weight stays in its form, so that later passes can go on: dense weights keep their zeros among the values (a
//! later `share` or `quantize` keeps exact zeros exact, and the coders see sparsity by themselves), codebooks send
//! them to code 0, grids to level 0. Levels of a trellis or a lattice depend on each other, so that these are left alone.
//!
//! The number of zeros is exact: of equal magnitudes those that come first are taken.
//!
//! Sources: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015, section 3;
//! LeCun, Denker and Solla, "Optimal Brain Damage", 1990, for what `sensitivity` approximates: the error of the output
//! that zeroing an element adds is its square times the weight's sensitivity.
//! Cost: four reads of each weight, no copy for the choice.

mod threshold;

use onnx_dcomp_forms::{Codebook, Form, Grid, GridKind, Sparse, Values};
use onnx_dcomp_ir::{Evidence, Model, Weight, WeightId};
use rayon::prelude::*;

use crate::registry::Configured;
use crate::selection::{NOT_FINITE, NamePattern, Settings, check_select, reason_to_leave};
use crate::{Pass, PassError, PassReport};
use threshold::{Cut, Scored, cuts};

crate::choices! {
    /// What makes an element worth keeping.
    pub enum Criterion {
        /// Its magnitude.
        Magnitude = "magnitude",
    }
}

crate::choices! {
    /// Which elements compete with each other.
    pub enum Scope {
        /// Those of one weight: each weight reaches the sparsity.
        Layer = "layer",
        /// Those of all weights, by their plain magnitude. May empty layers of small values.
        Global = "global",
        /// Those of all weights, by their magnitude over the standard deviation of their weight.
        Normalised = "normalised",
        /// Those of all weights, by how much the network's output would feel their loss.
        Sensitivity = "sensitivity",
    }
}

crate::options! {
    /// Options of [`Prune`].
    pub struct PruneOptions {
        /// Fraction of the elements to zero; those that are zero already count.
        pub sparsity: f64 = 0.5, within 0.0..1.0;
        /// What makes an element worth keeping.
        pub criterion: Criterion = Criterion::Magnitude;
        /// Which elements compete: those of one weight, or those of all weights that have the same options.
        pub scope: Scope = Scope::Layer;
        /// Weights to prune, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Zeroes the elements of smallest magnitude; see [the module](crate::prune).
pub struct Prune {
    settings: Settings<PruneOptions>,
}

impl Configured for Prune {
    type Options = PruneOptions;
    const NAME: &'static str = "prune";
    const SUMMARY: &'static str = "zeroes the elements of smallest magnitude";
    const SOURCE: &'static str = "Han et al., Learning both Weights and Connections, 2015";

    fn configured(settings: Settings<PruneOptions>) -> Self {
        Self { settings }
    }
}

impl From<PruneOptions> for Prune {
    fn from(options: PruneOptions) -> Self {
        Self::configured(options.into())
    }
}

/// One weight that may be pruned.
struct Task {
    id: WeightId,
    options: PruneOptions,
    dense: Values,
}

impl Pass for Prune {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, evidence: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let tasks = self.tasks(model);
        let shared: &Model = model;
        let mut pruned: Vec<(WeightId, Form)> = Vec::with_capacity(tasks.len());
        for group in groups(&tasks) {
            let scope = group.first().map_or(Scope::Layer, |task| task.options.scope);
            let factors: Vec<f32> =
                group.par_iter().map(|task| factor(task, scope, shared.weight(task.id), evidence)).collect();
            let scored: Vec<Scored<'_>> =
                group.iter().zip(factors).map(|(task, factor)| Scored { values: &task.dense, factor }).collect();
            let len: usize = scored.iter().map(|weight| weight.values.len()).sum();
            let sparsity = group.first().map_or(0.0, |task| task.options.sparsity);
            let cuts = cuts(&scored, (sparsity * len as f64).round() as usize);
            let forms = group
                .par_iter()
                .zip(cuts)
                .map(|(task, cut)| (task.id, zeroed(&shared.weight(task.id).form, &task.dense, &cut)));
            pruned.extend(forms.collect::<Vec<_>>());
        }

        let mut report = PassReport::default();
        let (mut zeros, mut elements) = (0, 0);
        for (id, form) in pruned {
            let weight = model.weight_mut(id);
            let nonzeros = form.nonzeros();
            if nonzeros == 0 {
                report.note(format!("`{}` lost all its elements", weight.name));
            }
            zeros += form.len() - nonzeros;
            elements += form.len();
            weight.form = form;
        }
        if elements > 0 {
            let percent = 100.0 * zeros as f64 / elements as f64;
            report.note(format!("{zeros} of {elements} elements are zero in {} weights ({percent:.1} %)", tasks.len()));
        }
        Ok(report)
    }
}

impl Prune {
    /// The weights to prune. Those that may not be touched get the reason written down.
    fn tasks(&self, model: &mut Model) -> Vec<Task> {
        let candidates: Vec<(WeightId, PruneOptions)> = model
            .weights()
            .filter_map(|(id, weight)| Some((id, self.settings.for_weight(weight)?)))
            .filter(|(id, options)| options.select.matches(&model.weight(*id).name))
            .collect();
        let mut tasks = Vec::new();
        for (id, options) in candidates {
            let weight = model.weight_mut(id);
            // On these grids no level is a zero that leaves its neighbours what they are.
            if matches!(&weight.form, Form::Grid(grid) if grid.kind() != GridKind::Uniform) {
                continue;
            }
            let reason = reason_to_leave(weight).or_else(|| {
                let dense = weight.form.dense();
                if !dense.all_finite() {
                    return Some(NOT_FINITE.to_owned());
                }
                tasks.push(Task { id, options, dense });
                None
            });
            weight.left_alone = reason;
        }
        tasks
    }
}

/// The weights whose elements compete with each other.
fn groups(tasks: &[Task]) -> Vec<Vec<&Task>> {
    let mut groups: Vec<Vec<&Task>> = Vec::new();
    for task in tasks {
        let is_alike = |group: &&mut Vec<&Task>| group.first().is_some_and(|first| first.options == task.options);
        match groups.iter_mut().find(is_alike) {
            Some(group) if task.options.scope != Scope::Layer => group.push(task),
            _ => groups.push(vec![task]),
        }
    }
    groups
}

/// What the magnitudes of a weight are multiplied by, so that those of different weights compare.
fn factor(task: &Task, scope: Scope, weight: &Weight, evidence: &Evidence) -> f32 {
    let len = task.dense.len() as f64;
    let energy = || -> f64 { task.dense.iter().map(|value| f64::from(value).powi(2)).sum() };
    let factor = match scope {
        Scope::Layer | Scope::Global => 1.0,
        Scope::Normalised => {
            let mean = task.dense.iter().map(f64::from).sum::<f64>() / len;
            (energy() / len - mean * mean).max(0.0).sqrt().recip()
        }
        Scope::Sensitivity => evidence.sensitivity_of(&weight.name, energy()).sqrt(),
    };
    // A constant weight has no deviation to measure by; nothing of it is worth less than elsewhere.
    factor.clamp(f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)) as f32
}

/// `form` with the elements of `cut` at exact positive zero. Only uniform grids come here.
fn zeroed(form: &Form, dense: &Values, cut: &Cut) -> Form {
    match form {
        Form::Codebook(codebook) => zeroed_codebook(codebook, dense, cut),
        Form::Grid(grid) => {
            let mut levels = grid.levels().to_vec();
            cut.for_each(dense, |index| levels[index] = 0);
            let grid = Grid::new(levels, grid.steps().clone(), grid.kind(), grid.dtype());
            Form::Grid(grid.expect("the steps were taken from a grid"))
        }
        Form::Dense(_) => Form::Dense(zeroed_values(dense, cut)),
        Form::Sparse(_) => Form::Sparse(Sparse::from_dense(&zeroed_values(dense, cut))),
    }
}

fn zeroed_values(dense: &Values, cut: &Cut) -> Values {
    let size = dense.dtype().element_bytes();
    let mut bytes = dense.bytes().to_vec();
    cut.for_each(dense, |index| bytes[index * size..(index + 1) * size].fill(0));
    Values::new(dense.dtype(), bytes).expect("the buffer keeps its length")
}

/// Code 0 becomes the exact zero, where it was not yet. A codebook that is full of other values has no room for it.
fn zeroed_codebook(codebook: &Codebook, dense: &Values, cut: &Cut) -> Form {
    let mut codes = codebook.codes().to_vec();
    let mut centroids = codebook.centroids().clone();
    if !codebook.has_zero() {
        if centroids.len() == Codebook::MAX_CENTROIDS {
            return Form::Dense(zeroed_values(dense, cut));
        }
        codes.iter_mut().for_each(|code| *code += 1);
        let mut bytes = vec![0u8; centroids.dtype().element_bytes()];
        bytes.extend_from_slice(centroids.bytes());
        centroids = Values::new(centroids.dtype(), bytes).expect("one whole element was put in front");
    }
    cut.for_each(dense, |index| codes[index] = 0);
    Form::Codebook(Codebook::new(codes, centroids).expect("every code keeps its centroid"))
}
