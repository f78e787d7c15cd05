//! From pixels to inputs: the options, how they are filled up, and resizing.

use onnx_dcomp_engine::preprocess::{Color, Layout, Pixels, resize};
use onnx_dcomp_engine::{Dimension, ElementType, PreprocessOptions, Task, TensorInfo};

fn info(name: &str, shape: &[usize]) -> TensorInfo {
    let dimension = |&length: &usize| match length {
        0 => Dimension::Dynamic(Some("N".to_owned())),
        length => Dimension::Fixed(length),
    };
    TensorInfo { name: name.into(), element: ElementType::F32, shape: Some(shape.iter().map(dimension).collect()) }
}

fn options(text: &str) -> PreprocessOptions {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("net.onnx");
    std::fs::write(folder.path().join("net.preprocess.toml"), text).unwrap();
    PreprocessOptions::beside(&model).unwrap().unwrap()
}

#[test]
fn a_pixel_becomes_pixel_times_scale_minus_mean_over_std_in_the_order_of_the_colours() {
    let options = options(
        "[input]\ncolor = 'bgr'\nscale = 0.5\nmean = [1.0, 2.0, 3.0]\nstd = [1.0, 2.0, 4.0]\n[output]\nclasses = 4",
    );
    let preprocess = options.resolve(&[info("x", &[0, 3, 1, 2])], &[info("y", &[0, 4])]).unwrap();
    let pixels = Pixels { height: 1, width: 2, channels: 3, values: vec![10, 20, 30, 40, 50, 60] };
    let tensor = preprocess.tensor(&pixels, "test").unwrap();
    assert_eq!(tensor.shape(), [1, 3, 1, 2]);
    assert_eq!(*tensor.to_f32(), [14.0, 29.0, 4.0, 11.5, 0.5, 4.25]);
    assert_eq!((preprocess.task, preprocess.classes), (Task::Classification, Some(4)));
}

#[test]
fn what_is_open_follows_from_the_model_and_is_said() {
    let resolve = |input: &[usize], output: &[usize]| {
        PreprocessOptions::default().resolve(&[info("x", input)], &[info("y", output)]).unwrap()
    };
    let photo = resolve(&[0, 32, 48, 3], &[0, 7, 32, 48]);
    let format = &photo.image.as_ref().unwrap().1;
    assert_eq!((format.layout, format.color, format.size), (Layout::Nhwc, Color::Rgb, Some([32, 48])));
    assert_eq!((format.mean.as_slice(), format.std.as_slice()), (&[0.0; 3][..], &[1.0; 3][..]));
    assert_eq!(photo.task, Task::Segmentation);
    assert!(photo.image_notes[0].contains("divided by 255"), "{:?}", photo.image_notes);
    // A flat input of 784 values takes 28x28 digits.
    let flat = resolve(&[0, 784], &[0, 10]);
    let digit = Pixels { height: 28, width: 28, channels: 1, values: vec![255; 784] };
    let tensor = flat.tensor(&digit, "digit").unwrap();
    assert_eq!((tensor.shape(), tensor.to_f32()[0]), (&[1, 784][..], 1.0));
    assert_eq!(resolve(&[0, 5, 9], &[0, 1]).task, Task::Other);
}

#[test]
fn the_command_line_wins_over_the_file_value_by_value() {
    let file = options("[input]\nscale = 1.0\nmean = [9.0]\n");
    let stronger = PreprocessOptions {
        input: onnx_dcomp_engine::preprocess::InputOptions { scale: Some(2.0), ..Default::default() },
        ..Default::default()
    };
    let both = file.overridden_by(stronger);
    assert_eq!((both.input.scale, both.input.mean), (Some(2.0), Some(vec![9.0])));
}

#[test]
fn contradictions_name_the_file_and_both_sides() {
    let input = [info("x", &[0, 3, 32, 32])];
    let output = [info("y", &[0, 10])];
    for (text, needles) in [
        ("[input]\ncolor = 'gray'", ["1 channels", "has 3"]),
        ("[input]\nsize = [28, 28]", ["28x28", "32x32"]),
        ("[input]\nname = 'data'", ["`data`", "`x`"]),
        ("[input]\nmean = [1.0, 2.0]", ["2 values", "3 channels"]),
        ("[input]\nstd = [0.0]", ["`std`", "zero"]),
        ("[output]\nname = 'z'", ["`z`", "`y`"]),
    ] {
        let message = options(text).resolve(&input, &output).unwrap_err().to_string();
        assert!(needles.iter().all(|needle| message.contains(needle)), "{text}: {message}");
        assert!(message.contains("net.preprocess.toml"), "{message}");
    }
}

#[test]
fn unknown_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    std::fs::write(&path, "[input]\nscael = 1.0").unwrap();
    let message = PreprocessOptions::read(&path).unwrap_err().to_string();
    assert!(message.contains("scael") && message.contains("a.toml"), "{message}");
}

#[test]
fn an_image_of_another_shape_names_the_file_and_both_shapes() {
    let preprocess = PreprocessOptions::default().resolve(&[info("x", &[0, 1, 0, 4])], &[info("y", &[0, 2])]).unwrap();
    let pixels = Pixels { height: 3, width: 5, channels: 1, values: vec![0; 15] };
    let message = preprocess.tensor(&pixels, "photo.png").unwrap_err().to_string();
    assert!(["photo.png", "1x1x3x5", "Nx1xNx4", "`x`"].iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn halving_is_the_mean_of_two_by_two_blocks() {
    let plane: Vec<f32> = (0..16).map(|value| value as f32).collect();
    assert_eq!(resize(&plane, [4, 4], [2, 2]), [2.5, 4.5, 10.5, 12.5]);
}

#[test]
fn any_resize_keeps_constants_and_the_mean_of_ramps() {
    for to in [[3, 7], [20, 9], [5, 5], [1, 1]] {
        let flat = resize(&[7.0; 80], [8, 10], to);
        assert!(flat.iter().all(|value| (value - 7.0).abs() < 1e-5), "{to:?}: {flat:?}");
        let ramp: Vec<f32> = (0..80).map(|index| (index % 10) as f32).collect();
        let resized = resize(&ramp, [8, 10], to);
        let mean = resized.iter().sum::<f32>() / resized.len() as f32;
        assert!((mean - 4.5).abs() < 1e-4, "{to:?}: {mean}");
    }
}

#[test]
fn enlarging_interpolates_between_centres() {
    let wide = resize(&[0.0, 4.0], [1, 2], [1, 4]);
    assert_eq!(wide, [0.0, 1.0, 3.0, 4.0]);
}

#[test]
fn an_input_turns_back_into_the_pixels_that_it_came_from() {
    for (shape, text) in [
        ([0, 3, 1, 2], "[input]\ncolor = 'bgr'\nscale = 0.5\nmean = [1.0, 2.0, 3.0]\nstd = [1.0, 2.0, 4.0]"),
        ([0, 1, 2, 3], "[input]\nlayout = 'NHWC'\ncolor = 'rgb'\nmean = [0.4]\nstd = [0.2]"),
    ] {
        let preprocess = options(text).resolve(&[info("x", &shape)], &[info("y", &[0, 4])]).unwrap();
        let pixels = Pixels { height: 1, width: 2, channels: 3, values: vec![10, 20, 30, 40, 50, 255] };
        let tensor = preprocess.tensor(&pixels, "test").unwrap();
        assert_eq!(preprocess.image_of(&[tensor]), Some(pixels));
    }
    let flat = PreprocessOptions::default().resolve(&[info("x", &[0, 784])], &[info("y", &[0, 10])]).unwrap();
    let digit = Pixels { height: 28, width: 28, channels: 1, values: (0..784).map(|value| value as u8).collect() };
    let tensor = flat.tensor(&digit, "digit").unwrap();
    assert_eq!(flat.image_of(&[tensor]), Some(digit));
}
