//! Probes: whether what a node will need is there, before its flow runs.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::{Result, ResultExt};

/// Connects to what a node will need, looks, and changes nothing. It comes to what was found, in a few words for people.
pub type Probe = Pin<Box<dyn Future<Output = Result<String>> + Send>>;

/// For how long a probe asks others that don't answer.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// A probe that blocks a thread, for [`PROBE_PATIENCE`] or little more.
pub fn blocking_probe(look: impl FnOnce() -> Result<String> + Send + 'static) -> Probe {
    Box::pin(async { tokio::task::spawn_blocking(look).await.doing(|| "looking")? })
}
