//! Pipelines with a name.

/// A pipeline with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The name.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// The publication that it follows.
    pub source: &'static str,
    /// The passes.
    pub pipeline: &'static str,
}

/// The pipelines with names. `auto` is not among them: it is put together for each model.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "deep-compression",
        summary: "prune, share, Huffman: the published stages, without their retraining and therefore pruned less",
        source: "Han, Mao and Dally, Deep Compression, 2016",
        pipeline: "fold, strip, prune(sparsity=0.5), share(clusters=32, init=linear), pack(coder=huffman)",
    },
    Preset {
        name: "iterative",
        summary: "each layer as sparse as it bears within --max-drop, found in rounds, without the published retraining",
        source: "Iterative Deep Compression, submitted to ICLR 2018",
        pipeline: "fold, recognise, prune(criterion=obs), quantize, strip, pack",
    },
    Preset {
        name: "low-rank-sparse",
        summary: "low-rank and sparse parts fitted to the feature maps, then quantised: two thin layers for each",
        source: "Yu, Liu, Wang and Tao, On compressing deep models by low rank and sparse decomposition, 2017",
        pipeline: "fold, low-rank(rank=0.1, sparsity=0.75, emit=factors), quantize, strip, pack",
    },
    Preset {
        name: "lossless",
        summary: "no value changes: only the graph and the coding do",
        source: "",
        pipeline: "recognise, pack(coder=small)",
    },
    Preset {
        name: "universal",
        summary: "dithered lattice quantisation and a coder that needs no statistics, without the published fine-tuning",
        source: "Choi, El-Khamy and Lee, Universal deep neural network compression, 2020",
        pipeline: "fold, recognise, quantize(scheme=lattice), strip, pack(coder=small)",
    },
];

impl Preset {
    /// The preset `name`; `None` where there is no such preset.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PipelineText;

    #[test]
    fn every_preset_is_a_pipeline_in_its_canonical_spelling() {
        for preset in PRESETS {
            let text = PipelineText::parse(preset.pipeline).map(|text| text.to_string());
            assert_eq!(text.as_deref(), Ok(preset.pipeline), "{}", preset.name);
            assert_eq!(Preset::find(preset.name), Some(preset));
        }
    }
}
