//! Metrics against small cases counted by hand.

use onnx_dcomp_engine::dataset::PixelLabels;
use onnx_dcomp_engine::metrics::argmax;
use onnx_dcomp_engine::metrics::classification::Classification;
use onnx_dcomp_engine::metrics::fidelity::Fidelity;
use onnx_dcomp_engine::metrics::segmentation::{ClassMap, Segmentation, SegmentationReport};

#[test]
fn fidelity_of_known_errors() {
    let mut fidelity = Fidelity::default();
    fidelity.add(&[3.0, 4.0], &[3.0, 4.5]);
    fidelity.add(&[0.0], &[0.0]);
    let report = fidelity.report();
    assert_eq!((report.max_abs_error, report.values, report.non_finite_mismatches), (0.5, 3, 0));
    // 25 of signal over 0.25 of error: 20 dB, a tenth.
    assert!((report.sqnr_db - 20.0).abs() < 1e-9 && (report.relative_error - 0.1).abs() < 1e-9);
}

#[test]
fn equal_values_have_infinite_fidelity_and_values_that_are_no_numbers_are_counted_apart() {
    let mut fidelity = Fidelity::default();
    fidelity.add(&[1.0, f32::NAN, f32::INFINITY], &[1.0, f32::NAN, f32::INFINITY]);
    assert_eq!((fidelity.report().sqnr_db, fidelity.report().non_finite_mismatches), (f64::INFINITY, 0));
    fidelity.add(&[f32::INFINITY, 1.0], &[f32::NEG_INFINITY, f32::NAN]);
    assert_eq!((fidelity.report().max_abs_error, fidelity.report().non_finite_mismatches), (0.0, 2));
}

#[test]
fn argmax_takes_the_first_of_equals_and_never_a_nan() {
    assert_eq!(argmax(&[1.0, 2.0, 2.0]), 1);
    assert_eq!(argmax(&[f32::NAN, -3.0, f32::NAN]), 1);
}

#[test]
fn classification_counts_agreement_top1_top5_and_recall() {
    let outputs = |best: [usize; 6]| {
        let mut values = vec![0.0; 7];
        best.iter().enumerate().for_each(|(rank, &class)| values[class] = 10.0 - rank as f32);
        values
    };
    let mut tally = Classification::new(7);
    tally.add(&outputs([0, 1, 2, 3, 4, 5]), &outputs([0, 1, 2, 3, 4, 5]), Some(0));
    tally.add(&outputs([1, 0, 2, 3, 4, 5]), &outputs([0, 2, 3, 4, 5, 1]), Some(1));
    tally.add(&outputs([2, 1, 3, 4, 5, 6]), &outputs([2, 1, 3, 4, 5, 6]), Some(0));
    tally.add(&outputs([6, 5, 4, 3, 2, 1]), &outputs([6, 5, 4, 3, 2, 1]), None);
    let report = tally.report();
    assert_eq!((report.samples, report.labelled, report.agreement_percent), (4, 3, 75.0));
    let top1 = report.top1_percent.unwrap();
    assert!((top1.original - 200.0 / 3.0).abs() < 1e-9 && (top1.compressed - 100.0 / 3.0).abs() < 1e-9);
    // The third sample's label comes last on both sides; the second's is sixth on the compressed side.
    let top5 = report.top5_percent.unwrap();
    assert!((top5.original - 200.0 / 3.0).abs() < 1e-9 && (top5.compressed - 100.0 / 3.0).abs() < 1e-9);
    let recall: Vec<_> =
        report.classes.iter().map(|class| (class.class, class.samples, class.recall_percent)).collect();
    assert_eq!(recall.len(), 2);
    assert_eq!((recall[0].0, recall[0].1, recall[0].2.original, recall[0].2.compressed), (0, 2, 50.0, 50.0));
    assert_eq!((recall[1].0, recall[1].1, recall[1].2.original, recall[1].2.compressed), (1, 1, 100.0, 0.0));
    assert_eq!((report.confusion[1][0], report.confusion[0][2]), (1, 1));
    assert_eq!((report.original_confusion[1][1], report.original_confusion[1][0]), (1, 0));
    let [differs] = report.disagreements[..] else { panic!("{:?}", report.disagreements) };
    assert_eq!((differs.sample, differs.label, differs.original, differs.compressed), (1, Some(1), 1, 0));
}

#[test]
fn samples_on_which_the_sides_differ_are_spread_over_all_of_them() {
    let mut tally = Classification::new(2);
    (0..240).for_each(|sample| tally.add(&[1.0, 0.0], &[0.0, 1.0], (sample % 2 == 0).then_some(0)));
    let samples: Vec<usize> = tally.report().disagreements.iter().map(|differs| differs.sample).collect();
    assert_eq!(samples, (0..12).map(|place| 20 * place).collect::<Vec<_>>());
}

fn map(width: usize, classes: &[u16]) -> ClassMap {
    ClassMap { height: classes.len() / width, width, classes: classes.to_vec() }
}

#[test]
fn segmentation_skips_ignored_pixels_and_averages_the_classes_that_occur() {
    let labels = PixelLabels { height: 2, width: 3, classes: vec![0, 0, 1, 1, 255, 0] };
    let original = map(3, &[0, 1, 1, 1, 0, 0]);
    // Class 3 is an output that no label has: a miss for label 0.
    let compressed = map(3, &[0, 1, 1, 0, 0, 3]);
    let mut tally = Segmentation::new(3, Some(255));
    tally.add([&original, &compressed], Some(&labels)).unwrap();
    let report = tally.report();
    let iou = report.mean_iou_percent.unwrap();
    // Original: class 0 has 2 hits, 2 predicted, 3 present; class 1 has 2 hits, 3 predicted, 2 present.
    assert!((iou.original - 100.0 * (2.0 / 3.0 + 2.0 / 3.0) / 2.0).abs() < 1e-9, "{iou:?}");
    // Compressed: class 0 has 1 hit, 2 predicted, 3 present; class 1 has 1 hit, 2 predicted, 2 present.
    assert!((iou.compressed - 100.0 * (1.0 / 4.0 + 1.0 / 3.0) / 2.0).abs() < 1e-9, "{iou:?}");
    assert_eq!(report.classes.len(), 2);
    let accuracy = report.pixel_accuracy_percent.unwrap();
    assert!((accuracy.original - 80.0).abs() < 1e-9 && (accuracy.compressed - 40.0).abs() < 1e-9);
    assert!((report.pixel_agreement_percent - 100.0 * 4.0 / 6.0).abs() < 1e-9);
}

/// Frames of 50 pixels and three classes: labels, and what either side says.
fn frames(count: u16) -> Vec<(PixelLabels, ClassMap, ClassMap)> {
    let value = |frame: u16, pixel: u16, side: u16| ((frame * 31 + pixel * 17 + side * 7) % 11 * (pixel + 3) / 5) % 3;
    let of = |frame: u16, side: u16| (0..50).map(move |pixel| value(frame, pixel, side));
    let frame = |frame: u16| {
        let classes = of(frame, 0).map(|class| class as u8).collect();
        let side = |side: u16| map(10, &of(frame, side).collect::<Vec<_>>());
        (PixelLabels { height: 5, width: 10, classes }, side(1), side(2 + frame % 3))
    };
    (0..count).map(frame).collect()
}

fn segmented(frames: &[(PixelLabels, ClassMap, ClassMap)]) -> SegmentationReport {
    let mut tally = Segmentation::new(3, None);
    frames.iter().for_each(|(labels, a, b)| tally.add([a, b], Some(labels)).unwrap());
    tally.report()
}

#[test]
fn the_error_of_a_fall_in_miou_is_that_of_leaving_frames_out() {
    let all = frames(12);
    let without = |place: usize| {
        let rest = all.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, frame)| frame.clone());
        segmented(&rest.collect::<Vec<_>>()).mean_iou_percent.unwrap().drop()
    };
    let drops: Vec<f64> = (0..12).map(without).collect();
    let mean = drops.iter().sum::<f64>() / 12.0;
    let expected = (drops.iter().map(|drop| (drop - mean).powi(2)).sum::<f64>() * 11.0 / 12.0).sqrt();
    let found = segmented(&all).mean_iou_drop_error.unwrap();
    assert!(expected > 0.1 && (found - expected).abs() < 1e-9, "{found} and {expected}");
}

#[test]
fn the_error_of_an_agreement_on_frames_of_one_size_is_that_of_their_mean() {
    let all = frames(15);
    let shares: Vec<f64> = all
        .iter()
        .map(|(_, a, b)| 2.0 * a.classes.iter().zip(&b.classes).filter(|(a, b)| a == b).count() as f64)
        .collect();
    let mean = shares.iter().sum::<f64>() / 15.0;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / 14.0;
    let found = segmented(&all).pixel_agreement_error.unwrap();
    assert!(variance > 0.1 && (found - (variance / 15.0).sqrt()).abs() < 1e-9, "{found} and {variance}");
}

#[test]
fn few_frames_say_nothing_of_how_much_they_differ_and_equal_ones_do_not() {
    let report = segmented(&frames(9));
    assert_eq!((report.mean_iou_drop_error, report.pixel_agreement_error), (None, None));
    let equal = vec![frames(1)[0].clone(); 20];
    let report = segmented(&equal);
    assert!(report.mean_iou_drop_error.unwrap() < 1e-9 && report.pixel_agreement_error.unwrap() < 1e-9);
}

#[test]
fn the_samples_of_least_median_and_most_agreement_are_named_once() {
    let mut tally = Segmentation::new(2, None);
    let one = map(4, &[0, 0, 0, 0]);
    for other in [[0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]] {
        tally.add([&one, &map(4, &other)], None).unwrap();
    }
    let typical = tally.report().typical;
    let found: Vec<_> = typical.iter().map(|typical| (typical.sample, typical.agreement_percent)).collect();
    assert_eq!(found, [(2, 0.0), (0, 75.0), (4, 100.0)]);
    let mut single = Segmentation::new(2, None);
    single.add([&one, &one], None).unwrap();
    assert_eq!(single.report().typical.len(), 1);
}

#[test]
fn labels_of_another_size_meet_the_prediction_at_their_centres() {
    let small = map(2, &[0, 1, 2, 3]);
    assert_eq!(small.sampled(4, 4).collect::<Vec<_>>(), [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]);
    let large: Vec<u16> = (0..64).collect();
    // Four by four pixels to each label: the pixel at (2, 2) of each.
    assert_eq!(map(8, &large).sampled(2, 2).collect::<Vec<_>>(), [2 * 8 + 2, 2 * 8 + 6, 6 * 8 + 2, 6 * 8 + 6]);
}

#[test]
fn a_label_that_is_no_class_is_reported() {
    let labels = PixelLabels { height: 1, width: 2, classes: vec![0, 7] };
    let one = map(2, &[0, 0]);
    assert_eq!(Segmentation::new(3, None).add([&one, &one], Some(&labels)), Err(7));
}

#[test]
fn class_maps_take_the_largest_channel_in_either_layout() {
    let planes = ClassMap::from_planes(&[1.0, 5.0, 2.0, 5.0], 2, 1, 2);
    let interleaved = ClassMap::from_interleaved(&[1.0, 2.0, 5.0, 5.0], 2, 1, 2);
    assert_eq!(planes.classes, [1, 0]);
    assert_eq!(planes, interleaved);
}
