//! When a flow that has failed is started again.

use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use millstream_core::{Error, ErrorClass};

/// How often, and after which pauses, a flow that has failed is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The first pause. Each one behind it is twice as long; a random part of it is added, so that flows that have failed together don't
    /// come back together.
    pub first_pause: Duration,
    /// The longest pause, before the random part.
    pub longest_pause: Duration,
    /// How many times in a row a flow is started again. None if there is no limit.
    pub most: Option<u32>,
}

/// Whose fault an error is, to the supervisor: room on a disk comes back.
pub fn class_of(error: &Error) -> ErrorClass {
    if lacks_room(error) { ErrorClass::Transient } else { error.class() }
}

fn lacks_room(error: &(dyn StdError + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.cause().is_some_and(|cause| lacks_room(cause));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    }
    error.source().is_some_and(lacks_room)
}

/// The failures of a flow, in a row.
pub struct Restarts {
    policy: RestartPolicy,
    pauses: ExponentialBackoff,
    in_a_row: u32,
    /// How many rows the flow had read when it failed last.
    failed_at: u64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(300), most: None }
    }
}

impl RestartPolicy {
    fn pauses(&self) -> ExponentialBackoff {
        let pauses = ExponentialBuilder::new().with_min_delay(self.first_pause).with_max_delay(self.longest_pause);
        pauses.with_jitter().without_max_times().build()
    }
}

impl Restarts {
    /// No failures so far.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, pauses: policy.pauses(), in_a_row: 0, failed_at: 0 }
    }

    /// Forgets the failures: what failed is not what runs from now on.
    pub fn forget(&mut self) {
        *self = Self::new(self.policy);
    }

    /// The pause before a start that is not the same again, and counts for none.
    pub fn other_start(&self) -> Duration {
        self.policy.first_pause
    }

    /// A flow has failed when its inputs had read `read` rows; the last checkpoint of that run, if it had one, was of `checkpointed` rows.
    /// The pause until it is started again; none if that would not help, or has been tried often enough.
    ///
    /// A checkpoint that has passed the place of the failure before ends the row of failures. That some time has passed does not: a
    /// flow that fails every eleven minutes at one place would be taken for a healthy one.
    pub fn failed(&mut self, class: ErrorClass, read: u64, checkpointed: Option<u64>) -> Option<Duration> {
        if checkpointed.is_some_and(|rows| rows >= self.failed_at.max(1)) {
            self.forget();
        }
        self.failed_at = read;
        if matches!(class, ErrorClass::Permanent | ErrorClass::Data) || Some(self.in_a_row) == self.policy.most {
            return None;
        }
        self.in_a_row += 1;
        self.pauses.next()
    }
}

impl fmt::Debug for Restarts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restarts")
            .field("policy", &self.policy)
            .field("in_a_row", &self.in_a_row)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ErrorClass::{Bug, Data, Permanent, Transient};

    use super::*;

    fn restarts(most: Option<u32>) -> Restarts {
        Restarts::new(RestartPolicy { longest_pause: Duration::from_secs(4), most, ..RestartPolicy::default() })
    }

    /// Whether a pause is one of this many seconds, with its random part.
    fn is_about(pause: Option<Duration>, seconds: u64) -> bool {
        pause.is_some_and(|pause| (seconds..=2 * seconds).contains(&pause.as_secs()))
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut restarts = restarts(None);
        for seconds in [1, 2, 4, 4] {
            let pause = restarts.failed(Transient, 10, None);
            assert!(is_about(pause, seconds), "{pause:?} instead of {seconds}");
        }
    }

    #[test]
    fn only_a_checkpoint_that_has_passed_the_failure_ends_a_row_of_failures() {
        let mut restarts = restarts(Some(2));
        assert!(is_about(restarts.failed(Transient, 100, Some(90)), 1));
        assert!(is_about(restarts.failed(Bug, 100, Some(99)), 2));
        assert!(is_about(restarts.failed(Transient, 150, Some(100)), 1), "the checkpoint has passed it");
        assert!(is_about(restarts.failed(Transient, 150, None), 2));
        assert_eq!(restarts.failed(Transient, 150, None), None, "the third in a row");
    }

    #[test]
    fn a_full_disk_may_be_over_in_a_while() {
        let full = Error::caused_by("writing", Error::from(io::Error::from(io::ErrorKind::StorageFull)));
        assert_eq!((class_of(&full), full.class()), (Transient, Permanent));
        assert_eq!(class_of(&Error::new("there is no such table")), Permanent);
    }

    #[test]
    fn a_checkpoint_of_no_rows_passes_nothing() {
        let mut restarts = restarts(Some(1));
        assert!(restarts.failed(Transient, 0, Some(0)).is_some());
        assert_eq!(restarts.failed(Transient, 0, Some(0)), None);
    }

    #[test]
    fn what_only_a_person_can_mend_is_not_tried_again() {
        assert_eq!(restarts(None).failed(Permanent, 0, None), None);
        assert_eq!(restarts(None).failed(Data, 0, None), None);
    }
}
