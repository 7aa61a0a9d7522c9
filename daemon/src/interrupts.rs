//! The signals that ask the process to end.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// `timeout` signals a process and then its group, so that one signal comes twice at once. People who give up are slower.
const ECHO: Duration = Duration::from_secs(1);

/// Ctrl-C, and the signal that service managers send. Listened to from the start, so that none is missed while another
/// one is acted on.
pub struct Interrupts {
    signals: Vec<Signal>,
    /// How many came, without echoes.
    pub count: usize,
    /// When the first one came.
    first: Option<Instant>,
}

impl Interrupts {
    /// Listens from now on.
    pub fn listen(control: &Runtime) -> Self {
        let _inside = control.enter();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        // Where a signal can't be listened to, it ends the process as it would any other.
        let signals = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
        Self { signals, count: 0, first: None }
    }

    /// Waits for the next signal that is no echo of the first one.
    #[expect(clippy::disallowed_methods, reason = "a person presses keys in real time")]
    pub async fn next(&mut self) {
        self.receive().await;
        while self.first.is_some_and(|first| first.elapsed() < ECHO) {
            self.receive().await;
        }
        self.first.get_or_insert_with(Instant::now);
        self.count += 1;
    }

    async fn receive(&mut self) {
        match self.signals.as_mut_slice() {
            [interrupt, terminate] => tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            },
            [one] => _ = one.recv().await,
            _ => std::future::pending().await,
        }
    }
}
