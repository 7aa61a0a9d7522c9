//! What a service manager such as systemd is told: that the daemon is ready, that it lives, and that it is about to end.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager that has started this process, if one has.
pub struct ServiceManager {
    /// It takes the process for dead that it has not heard of for so long.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Looks for it in the environment.
    pub fn find() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// Flows are about to run.
    pub fn ready(&self) {
        tell(NotifyState::Ready);
    }

    /// Flows are about to stop.
    pub fn stopping(&self) {
        tell(NotifyState::Stopping);
    }

    /// Tells it again and again that the thread lives which all supervisors run on.
    pub async fn keep_alive(&self) -> Infallible {
        let Some(patience) = self.watchdog else { return std::future::pending().await };
        loop {
            tell(NotifyState::Watchdog);
            tokio::time::sleep(patience / 2).await;
        }
    }
}

/// Without a service manager, nobody is told. One that can't be told does not keep flows from running.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager can't be told: {error}");
    }
}
