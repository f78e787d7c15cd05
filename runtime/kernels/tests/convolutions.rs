//! Sparse convolutions against the definition of ONNX's `Conv`.

use onnx_dcomp_codec::{Coder, Layout, Tensor, encode};
use onnx_dcomp_forms::{DType, Form, Values};
use onnx_dcomp_kernels::threads::in_parts;
use onnx_dcomp_kernels::{
    Activation, Epilogue, FusedConvolution, OneThread, Padding, SparseConvolution, Threads, Window, WindowAttributes,
};
use proptest::prelude::*;

/// Everything that says what a convolution computes.
#[derive(Debug, Clone)]
struct Case {
    images: usize,
    groups: usize,
    /// Of a group.
    channels: usize,
    filters: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    /// Above, left, below, right.
    pads: [usize; 4],
    auto_pad: &'static str,
    values: usize,
    density: u64,
}

impl Case {
    fn window(&self) -> Window {
        let numbers = |numbers: &[usize]| numbers.iter().map(|&number| number as i64).collect();
        let attributes = WindowAttributes {
            strides: numbers(&self.strides),
            dilations: numbers(&self.dilations),
            pads: numbers(&self.pads),
            auto_pad: self.auto_pad.to_owned(),
        };
        Window::new(&self.kernel, &attributes).unwrap()
    }

    fn weights(&self) -> Vec<f32> {
        let random = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let value = |index| match (random(index) >> 40) % 100 < self.density {
            true => ((random(index) >> 20) as usize % self.values) as f32 * 0.125 - 1.0,
            false => 0.0,
        };
        (0..self.groups * self.filters * self.channels * self.kernel[0] * self.kernel[1]).map(value).collect()
    }
}

fn wave(length: usize) -> Vec<f32> {
    (0..length).map(|index| (index as f32 * 0.7).sin()).collect()
}

/// What the definition says, and how far off rounding may lead.
fn plainly(case: &Case, weights: &[f32], inputs: &[f32], bias: &[f32], out: [usize; 2]) -> Vec<(f64, f64)> {
    let Case { images, groups, channels, filters, size, kernel, strides, dilations, .. } = case.clone();
    let before = case.window().place(size).unwrap().before;
    let mut outputs = Vec::new();
    for image in 0..images {
        for filter in 0..groups * filters {
            for place in 0..out[0] * out[1] {
                let (mut sum, mut size_of_sum) = (f64::from(bias[filter]), f64::from(bias[filter].abs()));
                for tap in 0..channels * kernel[0] * kernel[1] {
                    let (channel, at) = (tap / (kernel[0] * kernel[1]), tap % (kernel[0] * kernel[1]));
                    let y = place / out[1] * strides[0] + at / kernel[1] * dilations[0];
                    let x = place % out[1] * strides[1] + at % kernel[1] * dilations[1];
                    let (Some(y), Some(x)) = (y.checked_sub(before[0]), x.checked_sub(before[1])) else { continue };
                    if y >= size[0] || x >= size[1] {
                        continue;
                    }
                    let channel = (image * groups + filter / filters) * channels + channel;
                    let input = f64::from(inputs[(channel * size[0] + y) * size[1] + x]);
                    let product = input * f64::from(weights[filter * channels * kernel[0] * kernel[1] + tap]);
                    sum += product;
                    size_of_sum += product.abs();
                }
                outputs.push((sum, 1e-5 * size_of_sum + 1e-30));
            }
        }
    }
    outputs
}

/// Threads that there are not: the last part first.
struct Backwards(usize);

impl Threads for Backwards {
    fn run(&self, outputs: &mut [f32], unit: usize, _: usize, work: onnx_dcomp_kernels::threads::Part<'_>) {
        in_parts(outputs, unit, self.0, work, |parts, task| (0..parts).rev().for_each(task));
    }
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (1..3usize, 1..3usize, 1..6usize, 1..5usize, (1..14usize, 1..80usize), (1..4usize, 1..4usize));
    let steps = ((1..4usize, 1..4usize), (1..3usize, 1..3usize), (0..4usize, 0..4usize, 0..4usize, 0..4usize));
    let values = (prop_oneof![Just(5usize), Just(200)], 0..=100u64);
    let auto_pad =
        prop_oneof![3 => Just("NOTSET"), 1 => Just("SAME_UPPER"), 1 => Just("SAME_LOWER"), 1 => Just("VALID")];
    (shape, steps, values, auto_pad).prop_map(|(shape, (strides, dilations, pads), (values, density), auto_pad)| Case {
        images: shape.0,
        groups: shape.1,
        channels: shape.2,
        filters: shape.3,
        size: shape.4.into(),
        kernel: shape.5.into(),
        strides: strides.into(),
        dilations: dilations.into(),
        pads: pads.into(),
        auto_pad,
        values,
        density,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 }))]

    #[test]
    fn a_sparse_convolution_computes_what_onnx_defines(case in case(), parts in 2..5usize) {
        let weights = case.weights();
        let form = Form::Dense(Values::from_f32(DType::F32, &weights));
        let filters = case.groups * case.filters;
        let convolution = SparseConvolution::new(&form, filters, case.channels, case.window(), case.groups).unwrap();
        prop_assert_eq!((convolution.filters(), convolution.channels()), (filters, case.groups * case.channels));
        let Some(place) = case.window().place(case.size) else { return Ok(()) };
        let inputs = wave(case.images * case.groups * case.channels * case.size[0] * case.size[1]);
        let bias = wave(filters);
        let mut outputs = vec![f32::NAN; case.images * filters * place.size[0] * place.size[1]];
        let mut by_parts = outputs.clone();
        convolution.convolve(&inputs, case.size, Epilogue { bias: Some(&bias), ..Epilogue::default() }, &mut outputs, &OneThread).unwrap();
        for (output, (expected, tolerance)) in
            outputs.iter().zip(plainly(&case, &weights, &inputs, &bias, place.size))
        {
            prop_assert!((f64::from(*output) - expected).abs() <= tolerance, "{} against {}", output, expected);
        }
        convolution.convolve(&inputs, case.size, Epilogue { bias: Some(&bias), ..Epilogue::default() }, &mut by_parts, &Backwards(parts)).unwrap();
        prop_assert_eq!(&outputs, &by_parts, "parts are the same to the bit");
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu };
        convolution.convolve(&inputs, case.size, epilogue, &mut by_parts, &OneThread).unwrap();
        let expected: Vec<f32> = outputs.iter().map(|&output| if output < 0.0 { 0.0 } else { output }).collect();
        prop_assert_eq!(expected, by_parts);
    }
}

/// Filters of many channels lie in several panels.
#[test]
fn many_channels_are_summed_up() {
    let case = Case {
        images: 1,
        groups: 1,
        channels: 300,
        filters: 3,
        size: [7, 9],
        kernel: [3, 3],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [1; 4],
        auto_pad: "NOTSET",
        values: 30,
        density: 20,
    };
    let weights = case.weights();
    let form = Form::Dense(Values::from_f32(DType::F32, &weights));
    let convolution = SparseConvolution::new(&form, 3, 300, case.window(), 1).unwrap();
    let inputs = wave(300 * 63);
    let mut outputs = vec![f32::NAN; 3 * 63];
    convolution.convolve(&inputs, case.size, Epilogue::default(), &mut outputs, &OneThread).unwrap();
    for (output, (expected, tolerance)) in outputs.iter().zip(plainly(&case, &weights, &inputs, &[0.0; 3], [7, 9])) {
        assert!((f64::from(*output) - expected).abs() <= tolerance, "{output} against {expected}");
    }
}

#[test]
fn one_axis_is_a_plane_of_one_row() {
    let attributes = WindowAttributes { strides: vec![2], pads: vec![1, 2], ..WindowAttributes::default() };
    let window = Window::new(&[3], &attributes).unwrap();
    assert_eq!((window.kernel, window.strides, window.dilations), ([1, 3], [1, 2], [1, 1]));
    assert_eq!(window.padding, Padding::Explicit { before: [0, 1], behind: [0, 2] });
    assert_eq!(window.place([1, 8]).unwrap().size, [1, 5]);
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |kernel: &[usize], attributes| Window::new(kernel, &attributes).unwrap_err();
    assert!(refused(&[2, 2, 2], WindowAttributes::default()).contains("3 dimensions"));
    assert!(refused(&[0], WindowAttributes::default()).contains("no elements"));
    let attributes = WindowAttributes { strides: vec![0, 1], ..WindowAttributes::default() };
    assert!(refused(&[2, 2], attributes).contains("strides [0, 1]"));
    let attributes = WindowAttributes { pads: vec![-1, 0, 0, 0], ..WindowAttributes::default() };
    assert!(refused(&[2, 2], attributes).contains("pads [-1, 0, 0, 0]"));
    let attributes = WindowAttributes { auto_pad: "SAME".to_owned(), ..WindowAttributes::default() };
    assert!(refused(&[2, 2], attributes).contains("auto_pad `SAME`"));
    let window = Window::new(&[3, 3], &WindowAttributes::default()).unwrap();
    assert_eq!(window.place([2, 5]), None, "the image is smaller than the window");
    let form = Form::Dense(Values::from_f32(DType::F32, &[1.0; 27]));
    let attributes = WindowAttributes { pads: vec![i64::MAX, 1, 1, 1], ..WindowAttributes::default() };
    let padded = SparseConvolution::new(&form, 3, 1, Window::new(&[3, 3], &attributes).unwrap(), 1).unwrap();
    assert!(
        padded.convolve(&[1.0], [1, 1], Epilogue::default(), &mut [0.0; 9], &OneThread).is_err(),
        "no memory is so large"
    );
    assert!(SparseConvolution::new(&form, 3, 1, window.clone(), 2).is_none(), "three filters in two groups");
    assert!(SparseConvolution::new(&form, 3, 2, window, 1).is_none(), "more elements than there are");
}

#[test]
fn an_output_that_no_memory_holds_is_refused() {
    let form = Form::Dense(Values::from_f32(DType::F32, &[1.0; 27]));
    let payload = |form: &Form| {
        let shape = [3, 1, 3, 3];
        let layout = Layout::new(&shape, Some(0));
        encode(&[Tensor { shape: &shape, form, layout }], Coder::Fast).unwrap()
    };
    for pads in [[i64::MAX, i64::MAX, 1, 1], [i64::MAX, 1, i64::MAX, 1], [1 << 40, 1 << 40, 0, 0]] {
        let attributes = WindowAttributes { pads: pads.to_vec(), ..WindowAttributes::default() };
        let fused = FusedConvolution::decode(&payload(&form), 1, &attributes).unwrap();
        let error = fused.output_shape(&[1, 1, 5, 5]).unwrap_err();
        assert!(error.contains("no memory") || error.contains("smaller"), "{error}");
    }
    let fused = |groups| FusedConvolution::decode(&payload(&form), groups, &WindowAttributes::default());
    assert_eq!(fused(1).unwrap().output_shape(&[2, 1, 5, 7]), Ok(vec![2, 3, 3, 5]));
    assert!(fused(1).unwrap().output_shape(&[2, 1, 5]).unwrap_err().contains("1 channels and 2 axes"));
    for groups in [0, -1, 2] {
        assert!(fused(groups).unwrap_err().to_string().contains("groups"));
    }
}
