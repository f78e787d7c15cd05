//! What forms show of their values.

use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Sparse, Steps, Values};

fn dense(values: &[f32]) -> Form {
    Form::Dense(Values::from_f32(DType::F32, values))
}

#[test]
fn every_form_shows_its_dense_values() {
    let values = Values::from_f32(DType::F32, &[0.0, 1.5, -0.5, 0.0, 1.5, 0.0, 0.0, 2.0]);
    let grid = Grid::new(vec![0, 3, -1, 0, 3, 0], Steps::PerTensor(0.5), GridKind::Trellis, DType::F32);
    let forms = [
        Form::Dense(values.clone()),
        Form::Sparse(Sparse::from_dense(&values)),
        Form::Codebook(Codebook::recognise(&values, 16).expect("few values")),
        Form::Grid(grid.expect("the step is positive")),
    ];
    for form in forms {
        let mut seen = Vec::new();
        form.for_each_value(|value| seen.push(value));
        assert_eq!(seen, form.dense().to_f32());
    }
}

#[test]
fn distinct_values_are_counted_up_to_a_bound() {
    let some = dense(&[0.0, 1.0, -2.0, 1.0, -0.0, -2.0]);
    assert_eq!(some.distinct_values(3), Some(vec![-2.0, 0.0, 1.0]));
    assert_eq!(some.distinct_values(2), None);
    assert_eq!(dense(&[1.0, f32::INFINITY]).distinct_values(9), None);
    assert_eq!(dense(&[f32::NAN]).distinct_values(9), None);
}
