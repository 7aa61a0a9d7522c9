//! What comes again and again is said at once, and from then on counted: a timer says how often it came.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::kept::FlowLogs;
use super::seen::{Place, Seen};

/// The target of the lines that say how often something came.
pub const REPEATED: &str = "millstream::repeated";

/// How often it is said.
const EVERY: Duration = Duration::from_secs(10);

/// Whose events are never counted instead of said: flows that start, stop and fail, and what people do.
const ALWAYS_SAID: [&str; 4] = [REPEATED, "millstream_host", "millstream_admin", "millstream::daemon"];

/// Events that come again and again. Two are the same if they come from one place in the program, and are about the same node, with the same
/// code, or else with the same error: another reason is news.
#[derive(Clone, Debug, Default)]
pub struct Repeats {
    known: Arc<Mutex<BTreeMap<Key, Known>>>,
    logs: Arc<FlowLogs>,
}

/// The place in the program, the one in the flow, and the code or the error.
type Key = (&'static str, Place, Option<String>);

#[derive(Debug)]
struct Known {
    level: Level,
    /// How often it has come since it was said last.
    count: u64,
    /// The last one.
    text: String,
}

impl Repeats {
    /// None so far. Errors of flows are noted in `logs` however often they come.
    pub fn new(logs: Arc<FlowLogs>) -> Self {
        Self { known: Arc::default(), logs }
    }

    /// Says every ten seconds what has come again, for as long as it is polled.
    pub async fn tell(&self) -> Infallible {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.say();
        }
    }

    /// Says what has come again since the last time. What has not is forgotten, and said at once when it comes again.
    fn say(&self) {
        let mut repeated = Vec::new();
        self.known().retain(|(_, place, _), known| {
            let count = std::mem::take(&mut known.count);
            if count > 0 {
                repeated.push((known.level, place.clone(), count, known.text.clone()));
            }
            count > 0
        });
        // Not before the lock is free: it comes back to the layer.
        repeated.into_iter().for_each(|(level, place, count, text)| say(level, &place, count, &text));
    }

    /// Whether an event is said now.
    fn is_said(&self, event: &Event<'_>, seen: Seen) -> bool {
        let metadata = event.metadata();
        // The name of an event is its place in the program.
        let key = (metadata.name(), seen.place.clone(), seen.code.clone().or_else(|| seen.error.clone()));
        let mut known = self.known();
        match known.get_mut(&key) {
            Some(known) => {
                known.count += 1;
                known.text = seen.text();
                false
            }
            None => {
                known.insert(key, Known { level: *metadata.level(), count: 0, text: String::new() });
                true
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Layer<S> for Repeats
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Place::keep(attributes, id, &context);
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        let target = event.metadata().target();
        if target == REPEATED {
            return true;
        }
        let seen = Seen::of(event, &context);
        if *event.metadata().level() <= Level::WARN {
            self.logs.note_error(&seen);
        }
        ALWAYS_SAID.iter().any(|always| is_within(target, always)) || self.is_said(event, seen)
    }
}

/// Whether a target is another one, or a part of it.
fn is_within(target: &str, whole: &str) -> bool {
    target.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Says how often something came.
fn say(level: Level, Place { flow, node }: &Place, count: u64, text: &str) {
    let (flow, node) = (flow.as_deref(), node.as_deref());
    let times = if count == 1 { "1 time".to_owned() } else { format!("{} times", with_commas(count)) };
    macro_rules! say {
        ($level:expr) => {
            tracing::event!(
                target: REPEATED, $level, flow, node, "same message {times} in 10 s (no rows are held back): {text}"
            )
        };
    }
    match level {
        Level::ERROR => say!(Level::ERROR),
        Level::WARN => say!(Level::WARN),
        Level::INFO => say!(Level::INFO),
        Level::DEBUG => say!(Level::DEBUG),
        Level::TRACE => say!(Level::TRACE),
    }
}

/// A number as people write it: `1,234`.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
