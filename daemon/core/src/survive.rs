//! Panics in other people's code that cost no more than what it was asked for.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many calls of [`survive`] this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// What comes of `run`; `None` if it panics. Nobody is told of the panic but whoever called: one that a row brings about would
/// be told of for every such row.
///
/// ```
/// use millstream_core::{survive, will_survive};
///
/// assert_eq!(survive(|| 1 + 1), Some(2));
/// assert!(survive(|| if will_survive() { panic!("a bug") }).is_none());
/// assert!(!will_survive());
/// ```
pub fn survive<T>(run: impl FnOnce() -> T) -> Option<T> {
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(run)).ok();
    DEPTH.set(DEPTH.get() - 1);
    result
}

/// Whether a panic of this thread is survived now, so that whoever notes panics can leave it out.
pub fn will_survive() -> bool {
    DEPTH.get() > 0
}
