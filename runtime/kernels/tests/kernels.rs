//! Kernels on compressed weights against the plain product.

use onnx_dcomp_forms::{DType, Form, Values};
use onnx_dcomp_kernels::{NibbleMatrix, Order, SparseMatrix};
use proptest::prelude::*;

/// A matrix, row by row, of `count` values and zeros.
fn matrix(rows: usize, columns: usize, count: usize, density: f64) -> impl Strategy<Value = Vec<f32>> {
    let value = prop::num::f32::NORMAL.prop_map(|value| value % 4.0);
    (prop::collection::vec(value, count), any::<u64>()).prop_map(move |(values, seed)| {
        let mut random = seed | 1;
        let mut next = || {
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (random >> 33) as usize
        };
        let keep = (density * f64::from(1 << 20)) as usize;
        (0..rows * columns)
            .map(|_| if next() % (1 << 20) < keep { values[next() % values.len()] } else { 0.0 })
            .collect()
    })
}

/// What `outputs` must be, and how far off rounding may lead.
fn plain(matrix: &[f32], columns: usize, inputs: &[f32], outputs: &[f32]) -> Vec<(f64, f64)> {
    let rows = matrix.len() / columns;
    let one = |(input, output): (&[f32], &[f32])| -> Vec<(f64, f64)> {
        (0..rows)
            .map(|row| {
                let terms = matrix[row * columns..][..columns].iter().zip(input);
                let terms: Vec<f64> = terms.map(|(&weight, &input)| f64::from(weight) * f64::from(input)).collect();
                let size: f64 = terms.iter().map(|term| term.abs()).sum::<f64>() + f64::from(output[row].abs());
                (f64::from(output[row]) + terms.iter().sum::<f64>(), 1e-5 * size + 1e-30)
            })
            .collect()
    };
    inputs.chunks_exact(columns).zip(outputs.chunks_exact(rows)).flat_map(one).collect()
}

fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..matrix.len())
        .map(|index| {
            let rows = matrix.len() / columns;
            matrix[index % rows * columns + index / rows]
        })
        .collect()
}

fn form(values: &[f32]) -> Form {
    Form::Dense(Values::from_f32(DType::F32, values))
}

/// Runs `multiply_rows` on `count` vectors, all rows at once and in two parts, and compares.
fn check(
    matrix: &[f32],
    columns: usize,
    count: usize,
    multiply_rows: impl Fn(std::ops::Range<usize>, &[f32], &mut [f32]),
) -> Result<Vec<f32>, TestCaseError> {
    let rows = matrix.len() / columns;
    let inputs: Vec<f32> = (0..count * columns).map(|index| (index as f32 * 0.7).sin()).collect();
    let mut outputs: Vec<f32> = (0..count * rows).map(|index| (index as f32 * 0.3).cos()).collect();
    let expected = plain(matrix, columns, &inputs, &outputs);
    let by_row = |outputs: &[f32]| -> Vec<f32> {
        (0..rows * count).map(|index| outputs[index % count * rows + index / count]).collect()
    };
    let mut sums = by_row(&outputs);
    let (mut above, mut below) = (sums[..rows / 2 * count].to_vec(), sums[rows / 2 * count..].to_vec());
    multiply_rows(0..rows, &inputs, &mut sums);
    multiply_rows(0..rows / 2, &inputs, &mut above);
    multiply_rows(rows / 2..rows, &inputs, &mut below);
    prop_assert_eq!(&sums, &[above, below].concat(), "parts are the same to the bit");
    for (index, output) in outputs.iter_mut().enumerate() {
        *output = sums[index % rows * count + index / rows];
    }
    for (&output, (expected, tolerance)) in outputs.iter().zip(expected) {
        prop_assert!((f64::from(output) - expected).abs() <= tolerance, "{output} against {expected}");
    }
    Ok(outputs)
}

/// Shapes around what panels, groups and blocks hold.
fn shape() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![(1..40usize, 1..200usize), (1..6usize, 4_090..4_100usize), (1..3usize, 8_180..8_200usize)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 48 }))]

    #[test]
    fn a_sparse_matrix_multiplies_as_a_dense_one(
        ((rows, columns), matrix) in (shape(), prop_oneof![Just(5usize), Just(16), Just(200)], 0.0..1.0f64).prop_flat_map(
            |((rows, columns), count, density)| (Just((rows, columns)), matrix(rows, columns, count, density)),
        ),
        count in 1..12usize,
    ) {
        let sparse = SparseMatrix::new(&form(&matrix), rows, columns, Order::Rows).unwrap();
        let by_rows = check(&matrix, columns, count, |rows, inputs, sums| sparse.multiply_rows(rows, inputs, sums))?;
        let flipped = form(&transposed(&matrix, columns));
        let sparse = SparseMatrix::new(&flipped, rows, columns, Order::Columns).unwrap();
        let by_columns = check(&matrix, columns, count, |rows, inputs, sums| sparse.multiply_rows(rows, inputs, sums))?;
        prop_assert_eq!(by_rows, by_columns);
    }

    #[test]
    fn a_matrix_of_nibbles_multiplies_as_a_dense_one(
        ((rows, columns), matrix) in (shape(), 1..16usize, 0.5..1.0f64).prop_flat_map(
            |((rows, columns), count, density)| (Just((rows, columns)), matrix(rows, columns, count, density)),
        ),
        count in 1..4usize,
    ) {
        let nibbles = NibbleMatrix::new(&form(&matrix), rows, columns, Order::Rows).unwrap();
        let by_rows = check(&matrix, columns, count, |rows, inputs, sums| nibbles.multiply_rows(rows, inputs, sums))?;
        let flipped = form(&transposed(&matrix, columns));
        let nibbles = NibbleMatrix::new(&flipped, rows, columns, Order::Columns).unwrap();
        let by_columns = check(&matrix, columns, count, |rows, inputs, sums| nibbles.multiply_rows(rows, inputs, sums))?;
        prop_assert_eq!(by_rows, by_columns);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let many: Vec<f32> = (0..300).map(|value| value as f32 + 1.0).collect();
    assert!(SparseMatrix::new(&form(&many), 3, 100, Order::Rows).is_none());
    assert!(NibbleMatrix::new(&form(&many[..17]), 1, 17, Order::Rows).is_none());
    assert!(SparseMatrix::new(&form(&[1.0, f32::NAN]), 1, 2, Order::Rows).is_none());
    assert!(SparseMatrix::new(&form(&[1.0, 2.0]), 1, 3, Order::Rows).is_none());
    assert!(NibbleMatrix::new(&form(&[1.0, 2.0]), 0, 2, Order::Rows).is_none());
}

#[test]
fn memory_is_two_bytes_a_nonzero_or_half_a_byte_an_element() {
    let values: Vec<f32> =
        (0..1 << 20).map(|index| if index % 10 == 0 { (index % 7 + 1) as f32 } else { 0.0 }).collect();
    let sparse = SparseMatrix::new(&form(&values), 64, 1 << 14, Order::Rows).unwrap();
    assert!(sparse.bytes() < (1 << 20) / 10 * 2 * 11 / 10, "{} bytes", sparse.bytes());
    let nibbles = NibbleMatrix::new(&form(&values), 64, 1 << 14, Order::Rows).unwrap();
    assert_eq!(nibbles.bytes(), 1 << 19);
}
