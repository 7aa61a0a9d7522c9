//! Runs arithmetic with the widest vectors that this processor has.
//!
//! The results are the same bits either way: sums have a fixed number of accumulators, and Rust never fuses a
//! multiplication with an addition by itself.

/// Work whose inner loops are worth compiling a second time.
///
/// `run` and what it calls in its loops must be `#[inline(always)]`: only what is inlined is compiled for wide vectors.
pub(crate) trait Work {
    type Output;

    fn run(self) -> Self::Output;
}

/// Does the work, on AVX2 where there is such.
#[allow(unsafe_code)]
pub(crate) fn run<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        return unsafe { run_on_avx2(work) };
    }
    run_anywhere(work)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_on_avx2<W: Work>(work: W) -> W::Output {
    work.run()
}

/// Does the work with what every processor of this architecture has.
pub(crate) fn run_anywhere<W: Work>(work: W) -> W::Output {
    work.run()
}
