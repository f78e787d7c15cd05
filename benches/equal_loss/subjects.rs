//! The models, their data, and what others need for them.

/// One model: its data, what other codecs need at the three bounds, and the aims to try.
pub(crate) struct Subject {
    /// Name of the model's file, without its ending.
    pub(crate) model: &'static str,
    /// Name of the data's folder.
    pub(crate) data: &'static str,
    /// Whether pixels are classified.
    pub(crate) is_segmentation: bool,
    /// The split that is measured on; `None`: the test side.
    pub(crate) split: Option<&'static str>,
    /// The split that calibration takes; `None`: the same samples as are measured, where there are no others.
    pub(crate) training_split: Option<&'static str>,
    /// How often calibration has other samples: 1 where the splits say which, or the number of samples, of which each is
    /// measured with what the others tell.
    pub(crate) rounds: usize,
    /// Bytes of NNCodec's bitstream for the bounds of [`Subject::bounds`].
    pub(crate) nncodec: [u64; 3],
    /// Bytes that CERWU needs for the same, where it was run.
    pub(crate) cerwu: Option<[u64; 3]>,
    /// Lowest and highest quality in decibel, without data and with calibration.
    pub(crate) qualities: [[f64; 2]; 2],
}

const CLASSIFIER: Subject = Subject {
    model: "",
    data: "",
    is_segmentation: false,
    split: None,
    training_split: Some("train"),
    rounds: 1,
    nncodec: [0; 3],
    cerwu: None,
    qualities: [[0.0; 2]; 2],
};

/// All of them.
pub(crate) const SUBJECTS: [Subject; 7] = [
    Subject {
        model: "lenet300",
        data: "mnist",
        nncodec: [63_150, 33_796, 23_930],
        qualities: [[17.0, 29.0], [19.5, 31.5]],
        ..CLASSIFIER
    },
    Subject {
        model: "lenet5",
        data: "mnist",
        nncodec: [90_171, 44_370, 32_248],
        cerwu: Some([28_032, 19_213, 14_506]),
        qualities: [[22.0, 34.0], [16.0, 28.0]],
        ..CLASSIFIER
    },
    Subject {
        model: "resnet20_cifar10",
        data: "cifar10",
        nncodec: [157_033, 116_046, 102_442],
        cerwu: Some([82_734, 69_691, 63_893]),
        qualities: [[16.0, 28.0], [13.0, 25.0]],
        ..CLASSIFIER
    },
    Subject {
        model: "resnet32_cifar10",
        data: "cifar10",
        nncodec: [283_837, 232_534, 205_662],
        cerwu: Some([154_382, 120_148, 110_577]),
        qualities: [[18.0, 32.0], [13.0, 25.0]],
        ..CLASSIFIER
    },
    Subject {
        model: "squeezenet_deepcomp",
        data: "imagenet-sample",
        training_split: None,
        nncodec: [386_406; 3],
        qualities: [[22.0, 28.0], [20.0, 32.0]],
        ..CLASSIFIER
    },
    Subject {
        model: "espnet_cityscapes",
        data: "cityscapes",
        is_segmentation: true,
        training_split: None,
        rounds: 3,
        nncodec: [239_523, 171_103, 123_791],
        qualities: [[22.0, 44.0], [18.0, 42.0]],
        ..CLASSIFIER
    },
    Subject {
        model: "fcn8s_camvid",
        data: "camvid",
        is_segmentation: true,
        split: Some("val"),
        nncodec: [2_201_778, 1_706_759, 916_755],
        qualities: [[36.0, 48.0], [22.0, 46.0]],
        ..CLASSIFIER
    },
];

impl Subject {
    /// Bounds on the loss: points of top-1, or percent of pixels that change their class.
    pub(crate) fn bounds(&self) -> [f64; 3] {
        if self.is_segmentation { [1.0, 2.0, 5.0] } else { [0.1, 0.5, 1.0] }
    }
}
