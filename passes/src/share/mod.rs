//! `share`: elements that are alike share one value.
//!
//! Clusters the elements of each weight by one-dimensional k-means and moves it to
//! [`Form::Codebook`]. Exact zeros stay exact zeros, as code 0. With `lambda` the clustering is entropy-constrained:
//! short codes attract. With `clusters=auto` each weight gets as many clusters as pay for themselves at one price of
//! bits for the whole network. With `feedback`, elements that follow make up for the error of those before them, and
//! centroids are fitted to the layer's outputs, where the second moment of its input is known.
//!
//! Sources: Han, Mao and Dally, "Deep Compression", 2016, section 3; Choi, El-Khamy and Lee, "Towards the limit of
//! network quantization", 2017; Chou, Lookabaugh and Gray, "Entropy-constrained vector quantization", 1989.
//! Cost: two to four reads of each weight; memory beside it: its codes, and some 20 MB a thread. `feedback` names its
//! own in `feedback.rs`; it takes sixteen bytes an element beside the weight.

mod allot;
mod atoms;
mod clusters;
pub(crate) mod feedback;

use onnx_dcomp_forms::{Codebook, DType, Form, Values};
use onnx_dcomp_ir::{Evidence, Model, Weight, WeightId};
use rayon::prelude::*;

pub use atoms::Atoms;
pub use clusters::{Clusters, Method};

use crate::curvature::Damped;
use crate::options::{OptionValue, unexpected};
use crate::quantize::Switch;
use crate::registry::Configured;
use crate::selection::{NOT_FINITE, NamePattern, Settings, check_select, reason_to_leave};
use crate::{Pass, PassError, PassReport};

crate::choices! {
    /// Where the centroids start.
    pub enum Init {
        /// Evenly between the smallest and the largest value. Keeps the rare large values, which matter most.
        Linear = "linear",
        /// So that each centroid starts with equally many elements.
        Density = "density",
        /// Denser where elements are, by the cube root of their density: what fine codebooks end with.
        Companded = "companded",
        /// At elements drawn at random.
        Random = "random",
    }
}

/// How many clusters a weight gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterCount {
    /// As many as pay for themselves.
    Auto,
    /// At most so many, the exact zero included.
    Fixed(u32),
}

impl OptionValue for ClusterCount {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().ok().filter(|count| (2..=Codebook::MAX_CENTROIDS as u32).contains(count));
        count.map(Self::Fixed).ok_or_else(|| unexpected(&Self::kind(), text))
    }
    fn print(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Fixed(count) => count.to_string(),
        }
    }
    fn kind() -> String {
        format!("`auto` or a whole number in 2..={}", Codebook::MAX_CENTROIDS)
    }
}

crate::options! {
    /// Options of [`Share`].
    pub struct ShareOptions {
        /// Shared values of each weight, the exact zero of a pruned weight included; `auto` chooses for each weight.
        pub clusters: ClusterCount = ClusterCount::Fixed(32);
        /// Where the centroids start.
        pub init: Init = Init::Linear;
        /// Price of one bit: in squared error over the mean square of the weight's elements, or, with `clusters=auto`,
        /// in relative squared error of the network's output, where 0 means to aim for `output-error`.
        pub lambda: f64 = 0.0, within 0.0..;
        /// With `clusters=auto` and no `lambda`: the relative squared error of the network's output to aim for.
        pub output_error: f64 = 0.001, within 0.0..=1.0;
        /// Seed of `init=random`.
        pub seed: u64 = 0;
        /// Whether errors are made good by the elements that follow, and centroids fitted to the layer's outputs, where
        /// its input is known.
        pub feedback: Switch = Switch::Off;
        /// With `feedback=on`: what is added to the second moment's diagonal, as a fraction of its mean, for distrust in
        /// the evidence.
        pub damping: f64 = 0.02, within 0.0..=1000.0;
        /// The most iterations of k-means.
        pub max_iterations: u32 = 200, within 1..;
        /// Weights to cluster, by name.
        pub select: NamePattern = NamePattern::all();
    }
}

/// Clusters the elements of each weight around a few shared values; see [the module](crate::share).
pub struct Share {
    settings: Settings<ShareOptions>,
}

impl Configured for Share {
    type Options = ShareOptions;
    const NAME: &'static str = "share";
    const SUMMARY: &'static str = "k-means: elements that are alike share one value";
    const SOURCE: &'static str = "Han, Mao and Dally, Deep Compression, 2016; Choi, El-Khamy and Lee, Towards the limit of \
                                  network quantization, 2017; Frantar et al., GPTQ, 2023";

    fn configured(settings: Settings<ShareOptions>) -> Self {
        Self { settings }
    }
}

impl From<ShareOptions> for Share {
    fn from(options: ShareOptions) -> Self {
        Self::configured(options.into())
    }
}

/// What is to be done with one weight.
struct Task {
    id: WeightId,
    options: ShareOptions,
    dense: Values,
}

/// What became of one weight.
enum Outcome {
    /// It is held in another form now.
    Shared(Form),
    /// It would take more space than it does.
    NotWorthIt,
}

impl Pass for Share {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, model: &mut Model, evidence: &Evidence) -> Result<PassReport, PassError> {
        check_select(Self::NAME, &self.settings.base().select, model)?;
        let tasks = self.tasks(model);
        let found = self.clusters(&tasks, model, evidence);
        let outcomes: Vec<Outcome> = tasks
            .par_iter()
            .zip(&found)
            .map(|(task, clusters)| outcome(task, model.weight(task.id), clusters.as_ref(), evidence))
            .collect();

        let mut report = PassReport::default();
        let is_unknown = |task: &&Task| !evidence.second_moment.contains_key(&model.weight(task.id).name);
        let unknown = tasks.iter().filter(|task| task.options.feedback == Switch::On).filter(is_unknown).count();
        if unknown > 0 {
            report.note(format!("{unknown} weights went without feedback: the moments of their inputs are not known"));
        }
        let (mut shared, mut kept, mut centroids) = (0usize, 0usize, 0usize);
        for (task, outcome) in tasks.into_iter().zip(outcomes) {
            match outcome {
                Outcome::NotWorthIt => kept += 1,
                Outcome::Shared(form) => {
                    shared += 1;
                    if let Form::Codebook(codebook) = &form {
                        centroids += codebook.centroids().len();
                    }
                    model.weight_mut(task.id).form = form;
                }
            }
        }
        if shared > 0 {
            report.note(format!("{shared} weights share {centroids} values"));
        }
        if kept > 0 {
            report.note(format!("{kept} weights stay as they are: their codebook would not save anything"));
        }
        Ok(report)
    }
}

impl Share {
    /// The weights to cluster. Those that may not be touched get the reason written down.
    fn tasks(&self, model: &mut Model) -> Vec<Task> {
        let candidates: Vec<(WeightId, ShareOptions)> = model
            .weights()
            .filter_map(|(id, weight)| Some((id, self.settings.for_weight(weight)?)))
            .filter(|(id, options)| options.select.matches(&model.weight(*id).name))
            .collect();
        let mut tasks = Vec::new();
        for (id, options) in candidates {
            let weight = model.weight_mut(id);
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

    fn clusters(&self, tasks: &[Task], model: &Model, evidence: &Evidence) -> Vec<Option<Clusters>> {
        let mut found: Vec<Option<Clusters>> = tasks
            .par_iter()
            .map(|task| match task.options.clusters {
                ClusterCount::Fixed(count) => fixed(task, count),
                ClusterCount::Auto => None,
            })
            .collect();
        let auto: Vec<usize> =
            (0..tasks.len()).filter(|&at| tasks[at].options.clusters == ClusterCount::Auto).collect();
        let layers: Vec<allot::Layer> = auto
            .par_iter()
            .map(|&at| {
                let task = &tasks[at];
                let energy: f64 = task.dense.iter().map(|value| f64::from(value).powi(2)).sum();
                let sensitivity = evidence.sensitivity_of(&model.weight(task.id).name, energy);
                allot::Layer::new(&task.dense, sensitivity, &task.options)
            })
            .collect();
        // One price for the whole network: that of the pipeline, which rules for single weights cannot change.
        let base = self.settings.base();
        for (at, clusters) in auto.into_iter().zip(allot::allot(&layers, base.lambda, base.output_error)) {
            found[at] = clusters;
        }
        found
    }
}

/// The clusters of a weight whose number is given; `None` where it has few enough distinct values already.
fn fixed(task: &Task, count: u32) -> Option<Clusters> {
    let atoms = Atoms::new(&task.dense);
    let mean_square = task.dense.iter().map(|value| f64::from(value).powi(2)).sum::<f64>() / task.dense.len() as f64;
    let method = Method {
        init: task.options.init,
        seed: task.options.seed,
        lambda: task.options.lambda * mean_square,
        max_iterations: task.options.max_iterations as usize,
    };
    let few = atoms.len() + usize::from(atoms.zeros() > 0) <= count as usize;
    (!few || task.options.lambda > 0.0).then(|| Clusters::find(&atoms, count as usize, &method))
}

/// The smaller of what is and what would be.
fn outcome(task: &Task, weight: &Weight, clusters: Option<&Clusters>, evidence: &Evidence) -> Outcome {
    let dense = &task.dense;
    let codebook = match clusters {
        Some(clusters) => Some(fed_back(task, weight, clusters, evidence).unwrap_or_else(|| apply(dense, clusters))),
        None => Codebook::recognise(dense, Codebook::MAX_CENTROIDS),
    };
    match codebook.map(Form::Codebook) {
        Some(form) if form.order0_bits() < weight.form.order0_bits() => Outcome::Shared(form),
        _ => Outcome::NotWorthIt,
    }
}

/// The codebook with error feedback; `None` where that is not asked for, or nothing is known of the input.
fn fed_back(task: &Task, weight: &Weight, clusters: &Clusters, evidence: &Evidence) -> Option<Codebook> {
    let row_length = weight.len() / weight.shape.first().copied()?.max(1);
    let moment = evidence.second_moment.get(&weight.name)?;
    if task.options.feedback == Switch::Off || moment.columns() != row_length {
        return None;
    }
    let blocks = Damped::blocks(moment, task.options.damping)?;
    feedback::improve(&task.dense, apply(&task.dense, clusters), &blocks, clusters.lambda)
}

/// Puts each element of `dense` to its centroid, rounded to the type of `dense`.
///
/// Centroids that become equal by rounding are merged; exact zero, where there is one, becomes code 0.
pub fn apply(dense: &Values, clusters: &Clusters) -> Codebook {
    /// Elements that a thread codes at a time.
    const CHUNK: usize = 1 << 16;
    let mut codes = vec![0u16; dense.len()];
    codes.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, codes)| {
        let values = dense.slice(chunk * CHUNK, chunk * CHUNK + codes.len());
        for (code, value) in codes.iter_mut().zip(values.iter()) {
            *code = clusters.code_of(value) as u16;
        }
    });
    ordered(dense.dtype(), &clusters.centroids, codes)
}

/// A codebook in the order that codebooks have, its centroids rounded to `dtype`; those that become equal are merged.
fn ordered(dtype: DType, centroids: &[f64], mut codes: Vec<u16>) -> Codebook {
    let mut order: Vec<(bool, f32, usize)> = centroids
        .iter()
        .enumerate()
        .map(|(number, &centroid)| (number, round_to(dtype, centroid)))
        .map(|(number, rounded)| (rounded != 0.0, rounded + 0.0, number))
        .collect();
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut code_of = vec![0u16; order.len()];
    let mut table: Vec<f32> = Vec::with_capacity(order.len());
    for (_, rounded, number) in order {
        if table.last() != Some(&rounded) {
            table.push(rounded);
        }
        code_of[number] = (table.len() - 1) as u16;
    }
    codes.par_iter_mut().for_each(|code| *code = code_of[usize::from(*code)]);
    Codebook::new(codes, Values::from_f32(dtype, &table)).expect("every code was taken from the table")
}

fn round_to(dtype: DType, value: f64) -> f32 {
    Values::from_f32(dtype, &[value as f32]).get(0)
}
