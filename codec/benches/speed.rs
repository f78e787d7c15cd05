//! Bytes and speed of each coder, beside zstd on the same decoded bytes.
//!
//! `cargo bench -p onnx-dcomp-codec --bench speed` prints one table for each kind of weight. Speeds are megabytes (10^6)
//! of decoded `f32` a second, on one thread, in the fastest of several runs, which other work on the machine has
//! disturbed least: encoding starts from the form (zstd: from the floats), decoding ends at newly allocated
//! floats, checksum included. A weight is 16.8 MB, and what one run made is gone before the next, so that the allocator
//! hands out the same memory again: first touching fresh pages costs any decoder as much again.

use std::time::Instant;

use onnx_dcomp_codec::{Coder, Layout, Limits, Tensor, decode, encode};
use onnx_dcomp_forms::{DType, Form, Grid, GridKind, Steps, Values};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

const ROWS: usize = 2048;
const COLUMNS: usize = 2048;

fn main() {
    #[cfg(feature = "parallel")]
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be started").install(report_all);
    #[cfg(not(feature = "parallel"))]
    report_all();
}

fn report_all() {
    let mut generator = Generator(Pcg64Mcg::new(0xCAFE_F00D));
    let normal: Vec<f32> = (0..ROWS * COLUMNS).map(|_| generator.normal()).collect();
    let level = |scale: f32| move |value: &f32| (value * scale).round().clamp(-8.0, 7.0) as i16;
    let dense: Vec<i16> = normal.iter().map(level(2.5)).collect();
    // The largest tenth of the magnitudes survives, then one level for about each quarter of a deviation.
    let threshold = 1.645;
    let pruned: Vec<f32> = normal.iter().map(|&value| if value.abs() < threshold { 0.0 } else { value }).collect();
    let sparse: Vec<i16> = pruned.iter().map(level(2.5)).collect();
    report("4 bits, dense", &grid(dense));
    report("4 bits, 90 % zeros", &grid(sparse));
    report("f32, lossless", &Form::Dense(Values::from_f32(DType::F32, &normal[..normal.len() / 2])));
}

fn grid(levels: Vec<i16>) -> Form {
    let grid = Grid::new(levels, Steps::PerTensor(0.01), GridKind::Uniform, DType::F32);
    Form::Grid(grid.expect("the step is positive"))
}

/// Normal numbers from uniform ones.
struct Generator(Pcg64Mcg);

impl Generator {
    fn uniform(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// The polar method without rejection: one number of the pair is enough here.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }
}

fn report(title: &str, form: &Form) {
    let floats = form.dense();
    let megabytes = floats.bytes().len() as f64 / 1e6;
    println!("\n{title}: {} elements, {megabytes:.1} MB of f32", floats.len());
    println!("{:<10} {:>12} {:>8} {:>12} {:>12}", "coder", "bytes", "bits/el", "enc MB/s", "dec MB/s");
    let print = |name: &str, bytes: usize, encode_seconds: f64, decode_seconds: f64| {
        let bits = 8.0 * bytes as f64 / floats.len() as f64;
        let (encode, decode) = (megabytes / encode_seconds, megabytes / decode_seconds);
        println!("{name:<10} {bytes:>12} {bits:>8.3} {encode:>12.0} {decode:>12.0}");
    };
    let shape = [floats.len() / COLUMNS, COLUMNS];
    let tensor = Tensor { shape: &shape, form, layout: Layout::new(&shape, Some(0)) };
    for coder in Coder::ALL {
        let (encode_seconds, payload) = timed(|| encode(&[tensor], coder).expect("the form is sound"));
        let (decode_seconds, decoded) = timed(|| decode(&payload, &Limits::default()).expect("the payload is sound"));
        assert_eq!(decoded[0].values, floats, "{coder} must give back every bit");
        print(coder.name(), payload.len(), encode_seconds, decode_seconds);
    }
    for level in [3, 19] {
        // At level 19 a small part tells enough, and takes long enough.
        let part = if level == 19 { &floats.bytes()[..floats.bytes().len() / 8] } else { &floats.bytes()[..] };
        let share = part.len() as f64 / floats.bytes().len() as f64;
        let (encode_seconds, bytes) = timed(|| zstd::bulk::compress(part, level).expect("zstd compresses"));
        let (decode_seconds, _) = timed(|| zstd::bulk::decompress(&bytes, part.len()).expect("zstd decompresses"));
        let bytes = (bytes.len() as f64 / share) as usize;
        print(&format!("zstd -{level}"), bytes, encode_seconds / share, decode_seconds / share);
    }
}

/// Seconds that `work` takes in the fastest of at least three runs and of all within two seconds, and its result.
fn timed<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let begin = Instant::now();
    let (mut fastest, mut runs) = (f64::INFINITY, 0);
    loop {
        let start = Instant::now();
        let result = work();
        fastest = fastest.min(start.elapsed().as_secs_f64());
        runs += 1;
        if runs >= 3 && begin.elapsed().as_secs_f64() > 2.0 {
            return (fastest, result);
        }
    }
}
