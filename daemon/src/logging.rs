//! What is logged on standard error: how much, and how it is written.

use schemars::JsonSchema;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;

use crate::terminal::Log;

/// What is logged, on standard error.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// What is logged at least: `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`.
    pub level: Level,
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

/// Logs from now on, without secrets. Called once.
pub fn start(settings: &LogSettings) {
    let level = LevelFilter::from(settings.level);
    let logger = tracing_subscriber::fmt().with_writer(|| Log).with_max_level(level).with_target(false);
    match settings.format {
        LogFormat::Text => logger.with_ansi(false).init(),
        LogFormat::Json => logger.json().flatten_event(true).init(),
    }
}
