//! Work that is shared by threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};

/// How many threads work at once, if that was said.
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Has at most so many threads work at once for a model from now on: without it as many as there are cores. What is computed does not depend on it.
pub fn limit_threads(most: usize) {
    MOST.store(most, Ordering::Relaxed);
}

/// How many threads work at once.
pub(crate) fn count() -> usize {
    match MOST.load(Ordering::Relaxed) {
        0 => available_parallelism().map_or(1, usize::from),
        most => most,
    }
}

/// Does each piece of work, several at once if that is worth it.
pub(crate) fn share<T: Send>(mut work: Vec<T>, is_worth_threads: bool, run: impl Fn(T) + Sync) {
    let threads = if is_worth_threads { count().min(work.len()) } else { 1 };
    scope(|scope| {
        for others in (1..threads).rev() {
            let own = work.split_off(work.len() - work.len() / (others + 1));
            let run = &run;
            scope.spawn(move || own.into_iter().for_each(run));
        }
        work.into_iter().for_each(&run);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_is_done_once() {
        for pieces in [0, 1, 2, 7, 100] {
            for most in [1, 2, 3, 8] {
                limit_threads(most);
                let mut done = vec![0; pieces];
                share(done.iter_mut().collect(), true, |piece: &mut i32| *piece += 1);
                assert!(done.iter().all(|done| *done == 1), "{pieces} by {most}");
            }
        }
    }
}
