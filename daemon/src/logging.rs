//! What is logged on standard error: how much, and how it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_admin::logs::{FlowLogs, KeepLines, Levels, Repeats};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

use crate::terminal::{Log, without_secrets};

/// What is logged, on standard error.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// What is logged at least: `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`.
    pub level: Level,
    /// Levels of parts of the program, where they are others: `{ millstream_sql = "debug" }`.
    pub levels: BTreeMap<String, Level>,
    /// How it is written: `"text"` for people, or `"json"`, an object a line.
    pub format: LogFormat,
}

/// How important an event is.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Somebody has to do something.
    Error,
    /// Somebody may have to do something.
    Warn,
    /// Flows that run, stop and change.
    #[default]
    Info,
    /// For those who look for a mistake.
    Debug,
    /// All there is.
    Trace,
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// The log as others see it, once it has been started.
#[derive(Clone, Debug)]
pub struct Logging {
    /// What is logged, which can be changed for a while.
    pub levels: Arc<Levels>,
    /// The last lines and errors of each flow.
    pub logs: Arc<FlowLogs>,
    /// What comes again and again, which is to be told.
    pub repeats: Repeats,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Libraries that log what they return as an error as well, which the node that meets it says in words.
const QUIET: [&str; 1] = ["async_nats"];

/// Logs from now on, without secrets. Called once. What comes again and again is counted only where somebody tells how often it came.
pub fn start(settings: &LogSettings, counts_repeats: bool) -> Logging {
    let logs = Arc::new(FlowLogs::new(without_secrets));
    let of_parts = settings.levels.iter().map(|(part, level)| (part.clone(), LevelFilter::from(*level)));
    let levels = QUIET.map(|part| (part.to_owned(), LevelFilter::OFF)).into_iter().chain(of_parts);
    let (levels, filter) = Levels::new(settings.level.into(), levels.collect());
    let repeats = Repeats::new(logs.clone());
    let counting = counts_repeats.then(|| repeats.clone());
    let registry = Registry::default().with(filter).with(KeepLines::new(logs.clone()));
    let lines = fmt::layer().with_writer(|| Log).with_target(false);
    match settings.format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).with(counting).init(),
        LogFormat::Json => {
            let objects = lines.json().flatten_event(true).with_span_list(false);
            registry.with(objects).with(counting).init();
        }
    }
    Logging { levels, logs, repeats }
}
