//! Whether messages have arrived: of those that are sent between two moments it is counted how many are under way, so that nobody who waits for
//! them keeps those behind them waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::types::RDKafkaErrorCode;

/// Messages that were sent between two moments.
#[derive(Debug)]
pub(super) struct Stretch {
    /// How many are under way, and one more while others may follow.
    left: AtomicUsize,
    outcome: Mutex<Outcome>,
    ended: Condvar,
}

/// What has become of messages.
#[derive(Debug, Default)]
struct Outcome {
    has_ended: bool,
    /// Why one of them did not arrive.
    failed: Option<Code>,
}

impl Stretch {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(1), outcome: Mutex::default(), ended: Condvar::new() })
    }

    /// A message is sent.
    pub fn add(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// A message has arrived, or never will; or no more follow.
    pub fn take(&self, error: Code) {
        if error != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            self.outcome().failed = Some(error);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end();
        }
    }

    /// Nobody will say any more what becomes of them.
    pub fn give_up(&self) {
        if self.is_open() {
            self.outcome().failed = Some(Code::RD_KAFKA_RESP_ERR__DESTROY);
            self.end();
        }
    }

    /// Whether messages are under way, or may follow.
    pub fn is_open(&self) -> bool {
        self.left.load(Ordering::Acquire) > 0
    }

    fn end(&self) {
        self.outcome().has_ended = true;
        self.ended.notify_all();
    }

    fn wait(&self) -> Result<(), RDKafkaErrorCode> {
        let waited = self.ended.wait_while(self.outcome(), |outcome| !outcome.has_ended);
        let outcome = waited.unwrap_or_else(PoisonError::into_inner);
        outcome.failed.map_or(Ok(()), |code| Err(code.into()))
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All messages that were sent up to a moment.
#[derive(Debug)]
pub struct Deliveries(pub(super) Vec<Arc<Stretch>>);

impl Deliveries {
    /// Waits until all of them have arrived.
    ///
    /// # Errors
    /// If one of them never will.
    pub fn wait(self) -> Result<(), RDKafkaErrorCode> {
        self.0.iter().try_for_each(|stretch| stretch.wait())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_ends_with_the_last_of_its_messages() {
        let stretch = Stretch::new();
        (0..3).for_each(|_| stretch.add());
        stretch.take(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        stretch.take(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        stretch.take(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        assert!(stretch.is_open(), "others may follow");
        let waiting = Deliveries(vec![stretch.clone()]);
        std::thread::scope(|scope| {
            let waited = scope.spawn(|| waiting.wait());
            stretch.take(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
            assert_eq!(waited.join().unwrap(), Ok(()));
        });
        assert!(!stretch.is_open());
    }

    #[test]
    fn a_message_that_never_arrives_is_told() {
        let stretch = Stretch::new();
        stretch.add();
        stretch.take(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        stretch.take(Code::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
        assert_eq!(Deliveries(vec![stretch]).wait(), Err(RDKafkaErrorCode::MessageTimedOut));
        let stretch = Stretch::new();
        stretch.give_up();
        assert!(Deliveries(vec![stretch]).wait().is_err());
    }
}
