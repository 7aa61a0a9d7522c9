//! Runs arithmetic with the widest vectors that this processor has.
//!
//! The results are the same bits either way: sums have a fixed number of accumulators, and Rust fuses a multiplication
//! with an addition only where `mul_add` says so; there it does so everywhere, if need be without help of the hardware.

/// Work whose inner loops are worth compiling a second time.
///
/// `run` and what it calls in its loops must be `#[inline(always)]`: only what is inlined is compiled for wide vectors.
pub(crate) trait Work {
    type Output;

    fn run(self) -> Self::Output;
}

/// Does the work, with AVX2 and FMA where there are such.
#[allow(unsafe_code)]
pub(crate) fn run<W: Work>(work: W) -> W::Output {
    #[cfg(test)]
    if tests::NARROW.get() {
        return run_anywhere(work);
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has AVX2 and FMA, which is all that the function asks for.
        return unsafe { run_on_avx2(work) };
    }
    run_anywhere(work)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_on_avx2<W: Work>(work: W) -> W::Output {
    work.run()
}

/// Does the work with what every processor of this architecture has.
pub(crate) fn run_anywhere<W: Work>(work: W) -> W::Output {
    work.run()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        pub(super) static NARROW: Cell<bool> = const { Cell::new(false) };
    }

    /// Has this thread do without wide vectors, as on a processor that has none.
    pub(crate) fn without_wide_vectors<T>(work: impl FnOnce() -> T) -> T {
        NARROW.set(true);
        let done = work();
        NARROW.set(false);
        done
    }
}
