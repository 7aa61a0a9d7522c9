//! A service manager such as systemd: it is told how the daemon does, and keeps the doors open while the daemon is started again.

use std::convert::Infallible;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use millstream_net::{Manager, doors};
use sd_notify::NotifyState;

/// How often it is told that something takes its time, and for how long each time.
const TELL: Duration = Duration::from_secs(1);
const EXTENSION: Duration = Duration::from_secs(15);

/// The service manager that has started this process, if one has.
pub struct ServiceManager {
    /// It takes the process for dead that it has not heard of for so long.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Looks for it in the environment, and takes over the doors that it has kept. To be called once.
    pub fn find() -> Self {
        doors().take_over(Arc::new(Keeper), kept());
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// Flows are about to run.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Flows are about to stop.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Says again and again what takes its time, and that it may take longer than the unit says.
    pub async fn take_time(&self, status: impl Fn() -> String) -> Infallible {
        loop {
            let extension = NotifyState::ExtendTimeoutUsec(EXTENSION.as_micros() as u32);
            tell(&[extension, NotifyState::Status(&status())]);
            tokio::time::sleep(TELL).await;
        }
    }

    /// Tells it again and again that the thread lives which all supervisors run on.
    pub async fn keep_alive(&self) -> Infallible {
        let Some(patience) = self.watchdog else { return std::future::pending().await };
        loop {
            tell(&[NotifyState::Watchdog]);
            tokio::time::sleep(patience / 2).await;
        }
    }
}

/// Without a service manager, nobody is told. One that can't be told does not keep flows from running.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager can't be told: {error}");
    }
}

/// Has the service manager keep sockets, in what it calls the store of file descriptors.
struct Keeper;

impl Manager for Keeper {
    fn keep(&self, name: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
        sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket])
    }

    fn give_back(&self, name: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
    }
}

/// The sockets that it has passed on to this process, and their names.
#[expect(
    unsafe_code,
    reason = "descriptors come as numbers, and nobody else in this process has those of the service manager"
)]
fn kept() -> Vec<(String, OwnedFd)> {
    let named = match sd_notify::listen_fds_with_names() {
        Ok(named) => named,
        Err(error) => {
            tracing::warn!("the sockets that the service manager has kept can't be taken over: {error}");
            return Vec::new();
        }
    };
    // SAFETY: they are open, and belong to whoever the environment says they are for, which is this process. It takes them once.
    named.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) })).collect()
}
