//! When something is tried again that has failed in a way that may be over in a while.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use millstream_core::Error;
use tokio::time::sleep;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// The growing pauses between tries.
#[derive(Default)]
pub struct Pauses {
    left: Option<ExponentialBackoff>,
}

impl Pauses {
    /// Waits, and says why the first time.
    pub async fn wait(&mut self, error: &Error) {
        if self.left.is_none() {
            tracing::warn!("{error}; trying again");
        }
        let begin = || {
            let growing = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100));
            growing.with_max_delay(LONGEST).with_jitter().without_max_times().build()
        };
        let pause = self.left.get_or_insert_with(begin).next();
        sleep(pause.unwrap_or(LONGEST)).await;
    }

    /// It works again.
    pub fn end(&mut self) {
        self.left = None;
    }
}
