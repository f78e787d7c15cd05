//! Every layout, made in a temporary folder: what is found, in which order, with which labels.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use ndarray::{ArrayD, IxDyn};
use ndarray_npy::NpzWriter;
use onnx_dcomp_engine::{
    DataFolder, Dataset, Dimension, ElementType, EngineError, Label, Preprocess, PreprocessOptions, Sample, TensorInfo,
};
use onnx_dcomp_proto::{Message, TensorProto};

fn preprocess(input: &[usize], classes: usize) -> Preprocess {
    let info = |name: &str, shape: &[usize]| TensorInfo {
        name: name.into(),
        element: ElementType::F32,
        shape: Some(
            shape
                .iter()
                .map(|&length| if length == 0 { Dimension::Dynamic(None) } else { Dimension::Fixed(length) })
                .collect(),
        ),
    };
    let mut options = PreprocessOptions::default();
    options.input.scale = Some(1.0);
    options.resolve(&[info("x", input)], &[info("y", &[0, classes])]).unwrap()
}

/// A gray image of one value, so that a test can tell which image came.
fn gray(path: &Path, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_pixel(2, 2, Luma([value])).save(path).unwrap();
}

fn open(path: &Path, split: Option<&str>, limit: Option<usize>) -> Result<Box<dyn Dataset>, EngineError> {
    DataFolder::open(path, &preprocess(&[0, 1, 2, 2], 3))?.dataset(split, limit)
}

/// First value of the input and class of each sample.
fn content(data: &dyn Dataset) -> Vec<(f32, Option<usize>)> {
    let one = |index| {
        let Sample { inputs, label, .. } = data.sample(index).unwrap();
        let class = if let Label::Class(class) = label { Some(class) } else { None };
        (inputs[0].to_f32()[0], class)
    };
    (0..data.len()).map(one).collect()
}

fn message(result: Result<Box<dyn Dataset>, EngineError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

fn idx(path: &Path, shape: &[u32], bytes: &[u8], compress: bool) {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    shape.iter().for_each(|length| file.extend(length.to_be_bytes()));
    file.extend(bytes);
    if compress {
        let mut encoder = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
        encoder.write_all(&file).unwrap();
        encoder.finish().unwrap();
    } else {
        fs::write(path, file).unwrap();
    }
}

#[test]
fn mnist_files_are_read_plain_and_compressed_and_the_test_pair_is_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    idx(&at("train-images-idx3-ubyte"), &[1, 2, 2], &[9; 4], false);
    idx(&at("train-labels-idx1-ubyte"), &[1], &[2], false);
    idx(&at("t10k-images-idx3-ubyte.gz"), &[2, 2, 2], &[5, 5, 5, 5, 6, 6, 6, 6], true);
    idx(&at("t10k-labels-idx1-ubyte.gz"), &[2], &[1, 0], true);
    assert_eq!(content(open(folder.path(), None, None).unwrap().as_ref()), [(5.0, Some(1)), (6.0, Some(0))]);
    assert_eq!(content(open(folder.path(), Some("train"), None).unwrap().as_ref()), [(9.0, Some(2))]);
    idx(&at("t10k-labels-idx1-ubyte.gz"), &[3], &[1, 0, 0], true);
    assert!(message(open(folder.path(), None, None)).contains("3 labels for the 2 images"));
    idx(&at("t10k-images-idx3-ubyte.gz"), &[2, 2, 2], &[5; 7], true);
    assert!(message(open(folder.path(), None, None)).contains("t10k-images"));
}

#[test]
fn class_folders_follow_classes_txt_or_else_the_sorted_names_of_all_splits() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    gray(&at("train/ant/1.png"), 1);
    gray(&at("train/bee/1.png"), 2);
    gray(&at("test/cow/1.png"), 4);
    gray(&at("test/bee/2.png"), 3);
    gray(&at("test/bee/10.png"), 5);
    let expected = [(5.0, Some(1)), (3.0, Some(1)), (4.0, Some(2))];
    assert_eq!(content(open(folder.path(), None, None).unwrap().as_ref()), expected);
    fs::write(at("classes.txt"), "cow\nbee\nant\n").unwrap();
    let expected = [(5.0, Some(1)), (3.0, Some(1)), (4.0, Some(0))];
    assert_eq!(content(open(folder.path(), None, None).unwrap().as_ref()), expected);
    fs::write(at("classes.txt"), "cow\nant\n").unwrap();
    assert!(message(open(folder.path(), None, None)).contains("`bee` is not in `classes.txt`"));
}

#[test]
fn class_folders_without_an_order_are_refused_where_classes_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    gray(&folder.path().join("ant/1.png"), 1);
    gray(&folder.path().join("bee/1.png"), 1);
    assert!(message(open(folder.path(), None, None)).contains("2 class folders for a model of 3 classes"));
    let numbers = tempfile::tempdir().unwrap();
    gray(&numbers.path().join("2/1.png"), 1);
    gray(&numbers.path().join("0/1.png"), 7);
    assert_eq!(content(open(numbers.path(), None, None).unwrap().as_ref()), [(7.0, Some(0)), (1.0, Some(2))]);
}

#[test]
fn a_limit_spreads_evenly_over_the_classes() {
    let folder = tempfile::tempdir().unwrap();
    for class in 0..3u8 {
        for image in 0..10u8 {
            gray(&folder.path().join(format!("{class}/{image}.png")), 10 * class + image);
        }
    }
    let data = open(folder.path(), None, Some(6)).unwrap();
    let expected = [(0.0, Some(0)), (5.0, Some(0)), (10.0, Some(1)), (15.0, Some(1)), (20.0, Some(2)), (25.0, Some(2))];
    assert_eq!(content(data.as_ref()), expected);
    assert_eq!(open(folder.path(), None, Some(99)).unwrap().len(), 30);
}

#[test]
fn a_csv_gives_classes_in_its_own_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    gray(&at("b.png"), 1);
    gray(&at("a.png"), 2);
    fs::write(at("labels.csv"), "file,class\nb.png,2\n\"a.png\",0\n").unwrap();
    assert_eq!(content(open(folder.path(), None, None).unwrap().as_ref()), [(1.0, Some(2)), (2.0, Some(0))]);
    fs::write(at("labels.csv"), "b.png,2\na.png,ant\n").unwrap();
    assert!(message(open(folder.path(), None, None)).contains("line 2 is `a.png,ant`"));
    fs::write(at("classes.txt"), "bee\nant").unwrap();
    assert_eq!(content(open(folder.path(), None, None).unwrap().as_ref()), [(1.0, Some(2)), (2.0, Some(1))]);
}

#[test]
fn plain_images_have_no_labels() {
    let folder = tempfile::tempdir().unwrap();
    gray(&folder.path().join("b.png"), 1);
    gray(&folder.path().join("a.png"), 2);
    fs::write(folder.path().join("readme.md"), "not a sample").unwrap();
    assert_eq!(content(open(folder.path(), None, None).unwrap().as_ref()), [(2.0, None), (1.0, None)]);
}

#[test]
fn annotated_folders_pair_images_with_labels_of_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    gray(&at("val/f1.png"), 1);
    gray(&at("val/f2.png"), 2);
    gray(&at("valannot/f2.png"), 11);
    gray(&at("train/f3.png"), 3);
    gray(&at("trainannot/f3.png"), 0);
    let data = open(folder.path(), None, None).unwrap();
    assert_eq!(content(data.as_ref()), [(1.0, None), (2.0, None)]);
    assert!(matches!(data.sample(0).unwrap().label, Label::None));
    let Label::Pixels(labels) = data.sample(1).unwrap().label else { panic!("no labels") };
    assert_eq!((labels.height, labels.width, labels.classes), (2, 2, vec![11; 4]));
    RgbImage::from_pixel(2, 2, Rgb([1, 2, 3])).save(at("valannot/f1.png")).unwrap();
    let error = open(folder.path(), None, None).unwrap().sample(0).unwrap_err().to_string();
    assert!(error.contains("f1.png") && error.contains("8-bit channel"), "{error}");
}

#[test]
fn cityscapes_frames_find_their_train_ids() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    gray(&at("leftImg8bit/val/ulm/ulm_1_leftImg8bit.png"), 1);
    gray(&at("leftImg8bit/val/bonn/bonn_1_leftImg8bit.png"), 2);
    gray(&at("gtFine/val/ulm/ulm_1_gtFine_labelTrainIds.png"), 18);
    gray(&at("gtFine/val/ulm/ulm_1_gtFine_labelIds.png"), 33);
    let data = open(folder.path(), None, None).unwrap();
    assert_eq!(content(data.as_ref()), [(2.0, None), (1.0, None)]);
    let Label::Pixels(labels) = data.sample(1).unwrap().label else { panic!("no labels") };
    assert_eq!(labels.classes, [18; 4]);
}

fn array<T: Clone>(shape: &[usize], values: &[T]) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap()
}

#[test]
fn arrays_go_in_as_they_are_one_row_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.npz");
    let values: Vec<f64> = (0..12).map(f64::from).collect();
    let mut writer = NpzWriter::new_compressed(File::create(&path).unwrap());
    writer.add_array("anything", &array(&[3, 1, 2, 2], &values)).unwrap();
    writer.add_array("labels", &array(&[3], &[2i64, 1, 0])).unwrap();
    writer.finish().unwrap();
    let expected = [(0.0, Some(2)), (4.0, Some(1)), (8.0, Some(0))];
    assert_eq!(content(open(&path, None, None).unwrap().as_ref()), expected);
    assert_eq!(content(open(folder.path(), None, None).unwrap().as_ref()), expected);

    let single = folder.path().join("one.npy");
    ndarray_npy::write_npy(&single, &array(&[1, 2, 2], &[3f32; 4])).unwrap();
    assert_eq!(content(open(&single, None, None).unwrap().as_ref()), [(3.0, None)]);
}

#[test]
fn arrays_that_do_not_fit_name_both_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    ndarray_npy::write_npy(&path, &array(&[2, 1, 3, 3], &[0f32; 18])).unwrap();
    let error = message(open(&path, None, None));
    assert!(["x.npy", "2x1x3x3", "?x1x2x2", "`x`"].iter().all(|part| error.contains(part)), "{error}");
    ndarray_npy::write_npy(&path, &array(&[2, 1, 2, 2], &[0u8; 8])).unwrap();
    let error = message(open(&path, None, None));
    assert!(error.contains("u8") && error.contains("f32"), "{error}");
}

#[test]
fn onnx_test_data_carries_inputs_and_expected_outputs() {
    let folder = tempfile::tempdir().unwrap();
    for (set, value) in [("test_data_set_10", 10.0f32), ("test_data_set_2", 2.0)] {
        let set = folder.path().join(set);
        fs::create_dir(&set).unwrap();
        let raw: Vec<u8> = [value; 4].iter().flat_map(|value| value.to_le_bytes()).collect();
        let input = TensorProto {
            dims: vec![1, 1, 2, 2],
            data_type: Some(1),
            raw_data: Some(raw.into()),
            ..Default::default()
        };
        fs::write(set.join("input_0.pb"), input.encode_to_vec()).unwrap();
        let output =
            TensorProto { dims: vec![1, 2], data_type: Some(1), float_data: vec![value; 2], ..Default::default() };
        fs::write(set.join("output_0.pb"), output.encode_to_vec()).unwrap();
    }
    let data = open(folder.path(), None, None).unwrap();
    assert_eq!(content(data.as_ref()), [(2.0, None), (10.0, None)]);
    let Label::Outputs(outputs) = data.sample(0).unwrap().label else { panic!("no outputs") };
    assert_eq!((outputs[0].shape(), &*outputs[0].to_f32()), (&[1, 2][..], &[2.0, 2.0][..]));
    let broken =
        TensorProto { dims: vec![1, 1, 2, 2], data_type: Some(1), float_data: vec![0.0; 3], ..Default::default() };
    fs::write(folder.path().join("test_data_set_2/input_0.pb"), broken.encode_to_vec()).unwrap();
    assert!(data.sample(0).unwrap_err().to_string().contains("input_0.pb"));
}

#[test]
fn ambiguous_unknown_and_unchosen_folders_say_how_to_choose() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(message(open(folder.path(), None, None)).contains("no samples in a known layout"));
    gray(&at("0/a.png"), 0);
    fs::write(at("labels.csv"), "0/a.png,0\n").unwrap();
    let error = message(open(folder.path(), None, None));
    assert!(
        ["CSV", "one folder for each class", "one level deeper"].iter().all(|part| error.contains(part)),
        "{error}"
    );
    assert_eq!(open(&at("labels.csv"), None, None).unwrap().len(), 1);

    let arrays = tempfile::tempdir().unwrap();
    for name in ["left.npz", "right.npz"] {
        let mut writer = NpzWriter::new(File::create(arrays.path().join(name)).unwrap());
        writer.add_array("x", &array(&[1, 1, 2, 2], &[0f32; 4])).unwrap();
        writer.finish().unwrap();
    }
    let error = message(open(arrays.path(), None, None));
    assert!(["--split", "`left`", "`right`"].iter().all(|part| error.contains(part)), "{error}");
    assert!(message(open(arrays.path(), Some("test"), None)).contains("no split `test`"));
    assert_eq!(open(arrays.path(), Some("left"), None).unwrap().len(), 1);
    assert!(message(open(&at("nowhere"), None, None)).contains("nowhere"));
}

#[test]
fn a_broken_image_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.png"), b"\x89PNG\r\n\x1a\nnothing").unwrap();
    let error = open(folder.path(), None, None).unwrap().sample(0).unwrap_err().to_string();
    assert!(error.contains("bad.png"), "{error}");
}
