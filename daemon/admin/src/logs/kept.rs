//! The last lines and errors of each flow, kept in memory for those who ask.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use millstream_core::write_timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::broadcast;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::seen::{Place, Seen};

/// How many lines of a flow are kept.
const LINES: usize = 200;

/// How many errors of a flow are kept.
const ERRORS: usize = 20;

/// Of how many flows lines and errors are kept: of more than run in a process, since those are worth a look that have been removed.
const FLOWS: usize = 1000;

/// How many lines somebody may be behind who follows.
const BEHIND: usize = 1024;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogLine {
    /// When it was said, in RFC 3339.
    pub at: String,
    /// How important it is: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The flow that it is about.
    pub flow: Option<String>,
    /// The node that it is about.
    pub node: Option<String>,
    /// What it says.
    pub message: String,
}

/// What has gone wrong in a flow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ErrorLine {
    /// When it came last, in RFC 3339.
    pub at: String,
    /// The node that it came from.
    pub node: Option<String>,
    /// What it says.
    pub message: String,
    /// How often it has come.
    pub count: u64,
}

/// The last lines and errors of each flow.
pub struct FlowLogs {
    flows: Mutex<BTreeMap<String, OfFlow>>,
    /// All lines, as they come.
    followed: broadcast::Sender<Arc<LogLine>>,
    /// Takes out of texts what nobody is to read.
    hide: fn(&str) -> Cow<'_, str>,
}

#[derive(Debug, Default)]
struct OfFlow {
    lines: VecDeque<Arc<LogLine>>,
    /// The one that came last is the last.
    errors: VecDeque<ErrorLine>,
}

impl FlowLogs {
    /// None so far. `hide` takes out of texts what nobody is to read.
    pub fn new(hide: fn(&str) -> Cow<'_, str>) -> Self {
        Self { flows: Mutex::default(), followed: broadcast::Sender::new(BEHIND), hide }
    }

    /// The last lines of a flow, at most so many.
    pub fn lines(&self, flow: &str, most: usize) -> Vec<LogLine> {
        let flows = self.flows();
        let Some(known) = flows.get(flow) else { return Vec::new() };
        let skipped = known.lines.len().saturating_sub(most);
        known.lines.iter().skip(skipped).map(|line| LogLine::clone(line)).collect()
    }

    /// The last errors of a flow. The one that came last is the last.
    pub fn errors(&self, flow: &str) -> Vec<ErrorLine> {
        self.flows().get(flow).map(|known| known.errors.iter().cloned().collect()).unwrap_or_default()
    }

    /// All lines that come from now on, also those that are about no flow.
    pub fn follow(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.followed.subscribe()
    }

    pub(super) fn note_error(&self, seen: &Seen) {
        let Some(flow) = &seen.place.flow else { return };
        let (node, message) = (seen.place.node.clone(), (self.hide)(&seen.cause()).into_owned());
        let mut flows = self.flows();
        let errors = &mut of_flow(&mut flows, flow).errors;
        let is_same = |error: &ErrorLine| error.node == node && error.message == message;
        let before = errors.iter().position(is_same).and_then(|index| errors.remove(index));
        let count = before.map_or(0, |error| error.count) + 1;
        push(errors, ErrorLine { at: now(), node, message, count }, ERRORS);
    }

    fn add(&self, line: LogLine) {
        let line = Arc::new(line);
        if let Some(flow) = &line.flow {
            push(&mut of_flow(&mut self.flows(), flow).lines, line.clone(), LINES);
        }
        // Mostly nobody follows.
        let _ = self.followed.send(line);
    }

    fn flows(&self) -> MutexGuard<'_, BTreeMap<String, OfFlow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FlowLogs {
    fn default() -> Self {
        Self::new(|text| text.into())
    }
}

impl fmt::Debug for FlowLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowLogs").field("flows", &self.flows().keys()).finish_non_exhaustive()
    }
}

/// Keeps lines as they are said.
#[derive(Debug)]
pub struct KeepLines(Arc<FlowLogs>);

impl KeepLines {
    /// Keeps them there.
    pub fn new(logs: Arc<FlowLogs>) -> Self {
        Self(logs)
    }
}

impl<S> Layer<S> for KeepLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Place::keep(attributes, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let seen = Seen::of(event, &context);
        let message = (self.0.hide)(&seen.text()).into_owned();
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let Place { flow, node } = seen.place;
        self.0.add(LogLine { at: now(), level, flow, node, message });
    }
}

/// What is kept of a flow. Where there are too many, that is forgotten about which nothing was said for longest: it has long been removed.
fn of_flow<'a>(flows: &'a mut BTreeMap<String, OfFlow>, flow: &str) -> &'a mut OfFlow {
    if flows.len() >= FLOWS && !flows.contains_key(flow) {
        let oldest = flows.iter().min_by(|(_, one), (_, other)| one.last().cmp(&other.last()));
        if let Some(oldest) = oldest.map(|(flow, _)| flow.clone()) {
            flows.remove(&oldest);
        }
    }
    flows.entry(flow.to_owned()).or_default()
}

impl OfFlow {
    /// When something was said last.
    fn last(&self) -> Option<&str> {
        let (line, error) = (self.lines.back().map(|line| &line.at), self.errors.back().map(|error| &error.at));
        line.max(error).map(String::as_str)
    }
}

/// Keeps the last ones.
fn push<T>(kept: &mut VecDeque<T>, new: T, most: usize) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(new);
}

/// The time in RFC 3339.
#[expect(clippy::disallowed_methods, reason = "people read it beside their clocks; nothing is computed from it")]
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut text = Vec::new();
    write_timestamp(since.as_secs() as i64, i64::from(since.subsec_millis()) * 1_000_000, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
