//! How long to wait, and when to try again.

use std::time::Duration as Span;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use millstream_core::{Duration, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// When that is tried again which has failed in a way that may be over in a while.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How often it is tried in all.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: usize,
    /// The pause behind the first try. Each pause is twice as long as the one before, and a little random.
    #[schemars(extend("default" = "500ms"))]
    pub first_pause: Duration,
    /// The longest pause. A service that asks for another one (`Retry-After`) gets it.
    #[schemars(extend("default" = "30s"))]
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let (first_pause, longest_pause) = (Duration(Span::from_millis(500)), Duration(Span::from_secs(30)));
        Self { attempts: 5, first_pause, longest_pause }
    }
}

impl Retry {
    /// The pauses between tries.
    pub fn pauses(&self) -> impl Iterator<Item = Span> + Send + use<> {
        self.builder().with_max_times(self.attempts.saturating_sub(1)).build()
    }

    /// The pauses between tries that go on until one is successful.
    pub fn endless(&self) -> impl Iterator<Item = Span> + Send + use<> {
        self.builder().without_max_times().build()
    }

    fn builder(&self) -> ExponentialBuilder {
        let pauses = ExponentialBuilder::new().with_min_delay(self.first_pause.0).with_max_delay(self.longest_pause.0);
        pauses.with_jitter()
    }
}

/// How long others may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To take a connection.
    #[schemars(extend("default" = "10s"))]
    pub connect: Duration,
    /// To answer a request, to its last byte.
    #[schemars(extend("default" = "1m"))]
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration(Span::from_secs(10)), request: Duration(Span::from_secs(60)) }
    }
}

impl Timeouts {
    /// Refuses those that nobody can keep to.
    ///
    /// # Errors
    /// If one is zero.
    pub fn check(&self) -> Result<(), Problem> {
        for (name, time) in [("connect", self.connect), ("request", self.request)] {
            if time.0.is_zero() {
                let problem =
                    Problem::new("nobody answers in no time").help("say how long it may take, such as `\"30s\"`");
                return Err(problem.at(["timeouts", name]));
            }
        }
        Ok(())
    }
}
