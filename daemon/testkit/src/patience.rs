//! Waits for others as long as they go on.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// How long nothing new may be seen. What does nothing for minutes hangs, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(180);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until there is what is waited for, and returns it. Until then, each look says what is seen.
///
/// # Panics
/// If the same is seen for three minutes.
#[expect(clippy::disallowed_methods, reason = "other processes are waited for, in a thread of the test's own")]
pub fn await_progress<T, S: PartialEq + Debug>(mut look: impl FnMut() -> Result<T, S>) -> T {
    let mut last = None;
    let mut since = Instant::now();
    loop {
        let seen = match look() {
            Ok(found) => return found,
            Err(seen) => Some(seen),
        };
        if seen != last {
            (last, since) = (seen, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "nothing has changed for minutes: {last:?}");
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_the_end_is_returned() {
        let mut looks = 0;
        let found = await_progress(|| {
            looks += 1;
            if looks < 3 { Err(looks) } else { Ok("it") }
        });
        assert_eq!((found, looks), ("it", 3));
    }
}
