//! Hot loops in the widest instructions that the processor has.
//!
//! A program for a family of processors is compiled for the oldest of them. A loop that is handed to [`run`] is
//! compiled twice, once more for processors of the x86-64-v3 level (AVX2 and bit manipulation, since 2013), and the one
//! that fits is taken where the program runs; [`run_widest`] has a third, for the x86-64-v4 level (AVX-512). All do the
//! same arithmetic in the same order and give the same results.

/// Work whose body is worth compiling twice.
pub trait Work {
    /// What the work yields.
    type Output;

    /// Does the work. To be `#[inline(always)]`, like all that it calls: what is not inlined is compiled once.
    ///
    /// `HAS_AVX2` is only true where [`run`] has seen that the processor has AVX2.
    fn run<const HAS_AVX2: bool>(self) -> Self::Output;
}

/// Does `work` in the widest instructions that this processor has.
#[inline]
pub fn run<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: this processor has the instructions that `run_avx2` is compiled for.
        #[allow(unsafe_code)]
        return unsafe { run_avx2(work) };
    }
    work.run::<false>()
}

/// The same, also in instructions of AVX-512: for work that fills registers of 64 bytes.
#[inline]
pub fn run_widest<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: this processor has the instructions that `run_avx512` is compiled for.
        #[allow(unsafe_code)]
        return unsafe { run_avx512(work) };
    }
    run(work)
}

/// Whether this processor has all that the functions for AVX-512 of these crates are compiled for.
#[cfg(target_arch = "x86_64")]
pub fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Whether this processor has all that the functions for AVX2 of these crates are compiled for.
#[cfg(target_arch = "x86_64")]
pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx2<W: Work>(work: W) -> W::Output {
    work.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx512<W: Work>(work: W) -> W::Output {
    work.run::<true>()
}
