//! What is logged at all: a level for each part of the program, which can be changed for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload::{Handle, Layer};

/// What is logged. It falls back to what the settings say when its time is over, so that nobody need think of it.
#[derive(Debug)]
pub struct Levels {
    default: LevelFilter,
    base: BTreeMap<String, LevelFilter>,
    handle: Handle<Targets, Registry>,
    changed: Mutex<Option<Changed>>,
}

/// What is logged for a while.
#[derive(Clone, Debug)]
struct Changed {
    levels: BTreeMap<String, LevelFilter>,
    until: Instant,
}

/// What is logged now.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LevelsNow {
    /// The level of everything that has none of its own.
    pub default: String,
    /// Levels by part of the program, such as `millstream_sql`.
    pub levels: BTreeMap<String, String>,
    /// After how many seconds it falls back to what the settings say. None if it is that.
    pub for_s: Option<f64>,
}

impl Levels {
    /// What the settings say, and the layer that sees to it.
    pub fn new(default: LevelFilter, base: BTreeMap<String, LevelFilter>) -> (Arc<Self>, Layer<Targets, Registry>) {
        let (layer, handle) = Layer::new(targets(default, &base));
        (Arc::new(Self { default, base, handle, changed: Mutex::new(None) }), layer)
    }

    /// What is logged now.
    pub fn now(&self) -> LevelsNow {
        let changed = self.changed().clone();
        let mut levels = self.base.clone();
        levels.extend(changed.iter().flat_map(|changed| changed.levels.clone()));
        LevelsNow {
            default: self.default.to_string(),
            levels: levels.into_iter().map(|(target, level)| (target, level.to_string())).collect(),
            for_s: changed.map(|changed| (changed.until - Instant::now()).as_secs_f64()),
        }
    }

    /// Has these parts log otherwise for so long, and all others as the settings say. What was asked for before is forgotten.
    pub fn set(self: &Arc<Self>, levels: BTreeMap<String, LevelFilter>, time: Duration) {
        let until = Instant::now() + time;
        *self.changed() = Some(Changed { levels, until });
        self.apply();
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            this.fall_back(until);
        });
    }

    /// Logs as the settings say.
    pub fn reset(&self) {
        *self.changed() = None;
        self.apply();
    }

    /// The time is over that was to end then, unless somebody has said something else meanwhile.
    fn fall_back(&self, until: Instant) {
        let is_over = self.changed().take_if(|changed| changed.until == until).is_some();
        if is_over {
            self.apply();
        }
    }

    fn apply(&self) {
        let mut levels = self.base.clone();
        levels.extend(self.changed().iter().flat_map(|changed| changed.levels.clone()));
        // The subscriber lives as long as the process; without it, nothing is logged in any case.
        let _ = self.handle.reload(targets(self.default, &levels));
    }

    fn changed(&self) -> MutexGuard<'_, Option<Changed>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn targets(default: LevelFilter, levels: &BTreeMap<String, LevelFilter>) -> Targets {
    Targets::new().with_default(default).with_targets(levels.clone())
}

/// How important an event has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LevelName {
    /// Nothing is.
    Off,
    /// Somebody has to do something.
    Error,
    /// Somebody may have to do something.
    Warn,
    /// Flows that run, stop and change.
    Info,
    /// For those who look for a mistake.
    Debug,
    /// All there is.
    Trace,
}

impl From<LevelName> for LevelFilter {
    fn from(level: LevelName) -> Self {
        match level {
            LevelName::Off => Self::OFF,
            LevelName::Error => Self::ERROR,
            LevelName::Warn => Self::WARN,
            LevelName::Info => Self::INFO,
            LevelName::Debug => Self::DEBUG,
            LevelName::Trace => Self::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn levels_fall_back_when_their_time_is_over() {
        let base = BTreeMap::from([("quiet".to_owned(), LevelFilter::ERROR)]);
        let (levels, layer) = Levels::new(LevelFilter::INFO, base);
        let _guard = tracing::subscriber::set_default(Registry::default().with(layer));
        let is_on = || {
            [
                tracing::enabled!(target: "loud::part", tracing::Level::DEBUG),
                tracing::enabled!(target: "quiet", tracing::Level::WARN),
                tracing::enabled!(target: "other", tracing::Level::INFO),
            ]
        };
        assert_eq!(is_on(), [false, false, true]);
        levels.set(BTreeMap::from([("loud".to_owned(), LevelFilter::DEBUG)]), Duration::from_secs(60));
        assert_eq!(is_on(), [true, false, true]);
        tokio::time::sleep(Duration::from_secs(40)).await;
        levels.set(BTreeMap::from([("quiet".to_owned(), LevelFilter::TRACE)]), Duration::from_secs(60));
        assert_eq!(is_on(), [false, true, true]);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(is_on(), [false, true, true], "the time of the first is over, which does not count any more");
        let now = levels.now();
        assert_eq!((now.levels["quiet"].as_str(), now.for_s), ("trace", Some(20.0)));
        tokio::time::sleep(Duration::from_secs(21)).await;
        assert_eq!(is_on(), [false, false, true]);
        assert_eq!(levels.now().for_s, None);
    }
}
