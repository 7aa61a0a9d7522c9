//! When that is tried again which has failed in a way that may be over in a while.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use millstream_core::{ErrorClass, Result};

/// The pauses between tries. Jitter makes each of them up to twice as long, so that they grow to half a minute at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// For how long a flow that is to stop still tries again.
pub const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// The pauses behind one try after the other, each a little random, without an end.
pub fn pauses() -> impl Iterator<Item = Duration> + Send {
    let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
    pauses.with_jitter().without_max_times().build()
}

/// How long it takes until something is tried again. None if that would not help, or it is done.
pub fn pause_behind<T>(result: &Result<T>, pauses: &mut impl Iterator<Item = Duration>) -> Option<Duration> {
    match result {
        Err(error) if error.class() == ErrorClass::Transient => pauses.next(),
        _ => None,
    }
}
