//! When something is tried again that has failed in a way that may be over in a while.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use millstream_core::{Disturbance, Error, ErrorClass, Result};
use tokio::time::{Instant, sleep};

/// How long a server may take to answer at the beginning of a flow.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// The growing pauses between tries.
#[derive(Default)]
pub struct Pauses {
    left: Option<ExponentialBackoff>,
    /// What those are told who look at the node.
    disturbance: Disturbance,
}

impl Pauses {
    /// Those whose reason a node reports.
    pub fn told(disturbance: Disturbance) -> Self {
        Self { left: None, disturbance }
    }

    /// Waits, and says why the first time.
    pub async fn wait(&mut self, error: &Error) {
        self.disturbance.note(Some(error));
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
        self.disturbance.note(None);
    }
}

/// Connects, again and again until the server answers; at the beginning of a flow, so that it has to in time.
///
/// # Errors
/// If it does not, or what it answers is no matter of time.
pub async fn begin<C, F: Future<Output = Result<C>>>(connect: impl Fn() -> F) -> Result<C> {
    let deadline = Instant::now() + PATIENCE;
    let mut pauses = Pauses::default();
    loop {
        match connect().await {
            Err(error) if error.class() == ErrorClass::Transient && Instant::now() < deadline => {
                pauses.wait(&error).await;
            }
            answer => return answer,
        }
    }
}
