//! Payloads from somebody who means harm: an error, and never a panic, an endless loop or memory without bound.

use std::alloc::{GlobalAlloc, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use onnx_dcomp_codec::{
    Coder, DecodeError, Layout, Limits, MAX_EXPANSION, Tensor, decode, decode_forms, encode, inspect,
};
use onnx_dcomp_forms::{Codebook, DType, Form, Grid, GridKind, Lattice, Sparse, Steps, Values};

/// The largest block of memory that was asked for since it was last reset.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// The largest block that there is memory for.
const MOST: usize = 1 << 36;

/// The system's allocator, watched and with an end.
struct Watched;

// SAFETY: every call that is not refused goes unchanged to the system's allocator, which keeps the contract of the trait.
#[allow(unsafe_code, reason = "an allocator can only be watched by implementing the trait, which is unsafe")]
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        if layout.size() > MOST {
            return std::ptr::null_mut();
        }
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: std::alloc::Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: std::alloc::Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Held by whoever reads [`LARGEST`], since tests run side by side.
static WATCH: Mutex<()> = Mutex::new(());

const LIMITS: Limits = Limits { max_decoded_bytes: 1 << 16 };
/// Tables of the coders and what a test needs itself; the adaptive models are the largest.
const FIXED_BYTES: usize = 16 << 20;

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

fn payloads(coder: Coder) -> Vec<Vec<u8>> {
    let levels: Vec<i16> = (0..240).map(|index| [0, 0, 3, 0, -1, 0, 0, 400][index % 8]).collect();
    let floats: Vec<f32> = (0..240).map(|index| if index % 3 == 0 { 0.0 } else { index as f32 }).collect();
    let codes: Vec<u16> = levels.iter().map(|&level| level.unsigned_abs() % 5).collect();
    let values = Values::from_f32(DType::F32, &floats);
    let lattice = GridKind::Lattice { lattice: Lattice::E8, seed: 1 << 40 };
    let per_channel = Steps::PerChannel { base: 0.1, inner: 20, exponents: vec![1, 2, 3] };
    let forms = [
        Form::Dense(values.clone()),
        Form::Dense(Values::from_f32(DType::F16, &floats)),
        Form::Sparse(Sparse::from_dense(&values)),
        Form::Codebook(Codebook::new(codes, values.slice(0, 5)).unwrap()),
        Form::Grid(Grid::new(levels.clone(), per_channel.clone(), GridKind::Trellis, DType::F32).unwrap()),
        Form::Grid(Grid::new(levels.clone(), Steps::PerTensor(1.0), GridKind::Uniform, DType::I8).unwrap()),
        Form::Grid(Grid::new(levels, per_channel, lattice, DType::F32).unwrap()),
    ];
    let shape = [12, 20];
    let tensor = |form| Tensor { shape: &shape, form, layout: Layout::new(&shape, Some(0)) };
    let alone = forms.iter().map(|form| encode(&[tensor(form)], coder).unwrap());
    let together = encode(&forms.iter().map(tensor).collect::<Vec<_>>(), coder).unwrap();
    alone.chain([together]).collect()
}

/// Gives `payload` the checksum that its bytes have now, so that what lies behind the check is reached.
fn seal(payload: &mut [u8]) {
    if let Some((body, checksum)) = payload.split_last_chunk_mut::<4>() {
        *checksum = crc32fast::hash(body).to_le_bytes();
    }
}

/// One to four changes: a byte, a bit, bytes removed, bytes that continue a varint, bytes put in.
fn mutate(payload: &mut Vec<u8>, state: &mut u64) {
    for _ in 0..=random(state) % 4 {
        // The header's first three bytes stay: what refuses them is tested below.
        let body = payload.len().saturating_sub(7).max(1);
        // Half of the changes meet the records, which are few bytes.
        let span = if random(state).is_multiple_of(2) { body.min(24) } else { body };
        let at = (3 + random(state) % span).min(payload.len() - 1);
        match random(state) % 5 {
            0 => payload[at] = random(state) as u8,
            1 => payload[at] ^= 1 << (random(state) % 8),
            2 => drop(payload.drain(at..payload.len().min(at + 1 + random(state) % 8))),
            3 => drop(payload.splice(at..at, vec![0xFF; 1 + random(state) % 9])),
            _ => payload.insert(at, random(state) as u8),
        }
        if payload.len() < 8 {
            payload.resize(8, 0);
        }
    }
}

#[test]
fn mutated_payloads_neither_panic_nor_exceed_the_bound() {
    const MUTATIONS: usize = 120_000;
    let _watch = WATCH.lock();
    let originals = Coder::ALL.map(payloads);
    let mut state = 7;
    let mut accepted = 0;
    for round in 0..MUTATIONS {
        // The models of `small` take long to set up, and its streams cannot be malformed: fewer rounds suffice.
        let coder = [0, 1, 0, 1, 0, 1, 0, 1, 0, 2][round % 10];
        let mut payload = originals[coder][round / 10 % originals[coder].len()].clone();
        mutate(&mut payload, &mut state);
        seal(&mut payload);
        LARGEST.store(0, Ordering::Relaxed);
        let outcome = if round / 10 % 2 == 0 {
            decode(&payload, &LIMITS).map(|weights| weights.len())
        } else {
            decode_forms(&payload, &LIMITS).map(|weights| weights.len())
        };
        let _ = inspect(&payload);
        accepted += usize::from(outcome.is_ok());
        // Side tables are not limited by the caller, but by what so few bytes may hold.
        let bound = FIXED_BYTES + LIMITS.max_decoded_bytes as usize * 8 + 8 * payload.len() * MAX_EXPANSION as usize;
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(largest <= bound, "round {round}: {largest} bytes were asked for, the bound is {bound}");
    }
    assert!(accepted > 0, "some mutations must reach the end, or nothing behind the header was tested");
    assert!(accepted < MUTATIONS / 2, "most mutations must be refused");
}

#[test]
fn every_changed_byte_breaks_the_checksum() {
    for payload in Coder::ALL.into_iter().flat_map(payloads) {
        for at in 0..payload.len() {
            for change in [1, 0x80, 0xFF] {
                let mut changed = payload.clone();
                changed[at] ^= change;
                let error = decode(&changed, &Limits::default()).unwrap_err();
                let expected = matches!(error, DecodeError::Checksum { .. }) || at < 2;
                assert!(expected, "byte {at}: {error}");
            }
        }
        for len in 0..payload.len() {
            assert!(decode(&payload[..len], &Limits::default()).is_err(), "cut off at {len}");
        }
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut payload = payloads(Coder::Fast)[0].clone();
    payload[2] = 2;
    seal(&mut payload);
    let error = decode(&payload, &Limits::default()).unwrap_err();
    assert_eq!(error, DecodeError::NewerVersion { found: 2, supported: 1 });
    assert!(error.to_string().contains("version 2"), "{error}");
}

/// A payload with one record of these bytes, and a stream of eight zeros.
fn with_record(record: &[u8]) -> Vec<u8> {
    let mut payload = [&[0xDC, 0x0D, 1, 1], record, &[0; 8], &[0; 4]].concat();
    seal(&mut payload);
    payload
}

#[test]
fn unknown_lattices_are_refused() {
    for coder in 0..3u8 {
        for grid in (0..=255u8).filter(|grid| ![0, 1, 2, 4, 5, 6].contains(grid)) {
            let record = [&[7 << 3 | coder << 6, 1, 4, grid, 0][..], &1f32.to_le_bytes(), &[1, 1, 8]].concat();
            let error = decode(&with_record(&record), &Limits::default()).unwrap_err().to_string();
            assert!(error.contains("lattice"), "{grid}: {error}");
        }
    }
}

#[test]
fn huge_shapes_are_refused_before_memory_is_allocated() {
    let _watch = WATCH.lock();
    let huge = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
    for coder in [0u8, 1, 2] {
        let kind = coder << 6;
        let sizes: &[u8] = if coder == 2 { &[] } else { &[8] };
        let shapes =
            [[&[1][..], &huge].concat(), [&[2][..], &huge, &huge].concat(), vec![1, 0x80, 0x80, 0x80, 0x80, 0x10]];
        for shape in shapes {
            let payload = with_record(&[&[kind][..], &shape, sizes].concat());
            LARGEST.store(0, Ordering::Relaxed);
            assert!(decode(&payload, &Limits { max_decoded_bytes: u64::MAX }).is_err());
            assert!(LARGEST.load(Ordering::Relaxed) < 1 << 20, "memory was allocated for a shape that cannot be");
        }
    }
    let million = [0x40, 1, 0xC0, 0x84, 0x3D, 8];
    let limits = Limits { max_decoded_bytes: u64::MAX };
    assert!(
        matches!(decode(&with_record(&million), &limits), Err(DecodeError::Weight { source, .. }) if matches!(*source, DecodeError::Expansion { .. }))
    );
    let thousand = [0x40, 1, 0xE8, 0x07, 8];
    let limits = Limits { max_decoded_bytes: 3999 };
    assert_eq!(decode(&with_record(&thousand), &limits), Err(DecodeError::TooLarge { declared: 4000, limit: 3999 }));
}

/// A grid of `elements` zeros of one byte each under `fast`: one constant plane, and as many zero bytes as the format asks for.
fn zeros(elements: u64) -> Vec<u8> {
    let varint = |mut value: u64| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let stream = [vec![0, 0, 3, 0], vec![0; (elements / MAX_EXPANSION) as usize]].concat();
    let step = 1f32.to_le_bytes();
    let record = [&[3 << 3 | 1 << 6 | DType::I8 as u8, 1][..], &varint(elements), &step, &varint(stream.len() as u64)];
    let mut payload = [&[0xDC, 0x0D, 1, 1][..], &record.concat(), &stream, &[0; 4]].concat();
    seal(&mut payload);
    payload
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    let _watch = WATCH.lock();
    let limits = Limits { max_decoded_bytes: u64::MAX };
    let sound = decode(&zeros(1 << 20), &limits).unwrap();
    assert_eq!(sound[0].values.len(), 1 << 20);
    // The allocator of this test gives no more.
    let error = decode(&zeros(MOST as u64 + 1), &limits).unwrap_err();
    assert_eq!(error, DecodeError::OutOfMemory { declared: MOST as u64 + 1 });
}
