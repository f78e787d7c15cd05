//! Bytes and speed of each coder, beside zstd on the same decoded bytes.
//!
//! `cargo bench -p onnx-dcomp-codec --bench speed` prints one table for each kind of weight. Speeds are megabytes (10^6)
//! of decoded `f32` a second of processor time, the best of several runs on one thread: encoding starts from the form
//! (zstd: from the floats), decoding ends at freshly allocated floats, checksum included.

use std::time::Instant;

use onnx_dcomp_codec::{Coder, Layout, Limits, Tensor, decode, encode};
use onnx_dcomp_forms::{DType, Form, Grid, GridKind, Steps, Values};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

const ROWS: usize = 4096;
const COLUMNS: usize = 4096;

fn main() {
    #[cfg(feature = "parallel")]
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the bench sets the threads before any work");
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
    report("f32, lossless", &Form::Dense(Values::from_f32(DType::F32, &normal[..normal.len() / 4])));
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
        let runs = if coder == Coder::Small { 1 } else { 7 };
        let (encode_seconds, payload) = best_of(runs.min(3), || encode(&[tensor], coder).expect("the form is sound"));
        let (decode_seconds, decoded) =
            best_of(runs, || decode(&payload, &Limits::default()).expect("the payload is sound"));
        assert_eq!(decoded[0].values, floats, "{coder} must give back every bit");
        print(coder.name(), payload.len(), encode_seconds, decode_seconds);
    }
    for level in [3, 19] {
        // At level 19 a small part tells enough, and takes long enough.
        let part = if level == 19 { &floats.bytes()[..floats.bytes().len() / 8] } else { &floats.bytes()[..] };
        let share = part.len() as f64 / floats.bytes().len() as f64;
        let (encode_seconds, bytes) = best_of(1, || zstd::bulk::compress(part, level).expect("zstd compresses"));
        let (decode_seconds, _) = best_of(5, || zstd::bulk::decompress(&bytes, part.len()).expect("zstd decompresses"));
        let bytes = (bytes.len() as f64 / share) as usize;
        print(&format!("zstd -{level}"), bytes, encode_seconds / share, decode_seconds / share);
    }
}

/// The shortest of `runs` runs in seconds of processor time, and the result of the last.
fn best_of<T>(runs: usize, mut work: impl FnMut() -> T) -> (f64, T) {
    let mut timed = || {
        let (wall, processor) = (Instant::now(), processor_seconds());
        let result = work();
        let spent = processor_seconds().zip(processor).map(|(end, start)| end - start);
        (spent.unwrap_or_else(|| wall.elapsed().as_secs_f64()), result)
    };
    let (mut shortest, mut result) = timed();
    for _ in 1..runs {
        let (seconds, again) = timed();
        shortest = shortest.min(seconds);
        result = again;
    }
    (shortest, result)
}

/// Time that the threads of this process have spent on a processor, where the system tells (Linux): unlike the wall
/// clock's, its seconds do not grow with what else the machine has to do.
fn processor_seconds() -> Option<f64> {
    let mut nanoseconds = 0u64;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 * 1e-9)
}
