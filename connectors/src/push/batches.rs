//! Messages that come one by one are kept many at once, since each time is a wait for the disk.

use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Error, Figures, Report, Result};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, sleep};

use super::formats::FormatTag;
use super::ingest::Ingest;
use super::refused::Refused;

/// How many messages are kept at once, and how many bytes unless one is larger.
const MOST_MESSAGES: usize = 4096;
/// How many bytes of messages are kept at once, unless one has more.
pub const MOST_BYTES: usize = 1 << 20;

/// How many bytes of messages may wait to be kept, if all are of the largest.
const WAITING: usize = 64 << 20;

/// When it is tried again to keep what the log has no room for.
const PAUSE: Duration = Duration::from_millis(200);

/// A channel for messages of so many bytes that wait to be kept.
pub fn waiting<T>(largest: usize) -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
    mpsc::channel((WAITING / largest.max(1)).clamp(16, MOST_MESSAGES))
}

/// How a receiver does, for people.
#[derive(Default)]
pub struct Health(Mutex<Option<String>>);

impl Health {
    /// Notes what is wrong, or that nothing is.
    pub fn note(&self, trouble: Option<&Error>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(ToString::to_string);
    }

    /// The same as a report.
    pub fn report(&self, title: &str) -> Option<Report> {
        let trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let values = trouble.map(|trouble| ("trouble", json!(trouble))).into_iter().collect();
        Some(Report::Figures(Figures { title: title.to_owned(), values }))
    }
}

/// A message that waits to be kept.
pub trait Waiting: Send {
    /// How many bytes it has, about.
    fn bytes(&self) -> usize;

    /// Messages as a record of the log.
    ///
    /// # Errors
    /// If there can be no such record.
    fn pack(several: &[Self]) -> Result<Vec<u8>>
    where
        Self: Sized;
}

/// Keeps messages, and hands each batch on that is durable, until there are no more or it is stopped. It tries again where the log or the
/// disk is full.
pub async fn keep<T: Waiting>(
    mut waiting: mpsc::Receiver<T>,
    ingest: &Ingest,
    health: &Arc<Health>,
    mut stopped: oneshot::Receiver<()>,
    mut kept: impl FnMut(Vec<T>),
) {
    let mut is_ending = false;
    loop {
        let first = tokio::select! {
            biased;
            _ = &mut stopped, if !is_ending => {
                // What has come is kept before it ends.
                waiting.close();
                is_ending = true;
                continue;
            }
            first = waiting.recv() => first,
        };
        let Some(first) = first else { return };
        let mut bytes = first.bytes();
        let mut several = vec![first];
        while several.len() < MOST_MESSAGES && bytes < MOST_BYTES {
            let Ok(next) = waiting.try_recv() else { break };
            bytes += next.bytes();
            several.push(next);
        }
        while let Err(error) = take(T::pack(&several), ingest).await {
            health.note(Some(&error));
            if is_ending {
                return;
            }
            tokio::select! {
                _ = &mut stopped => return,
                () = sleep(PAUSE) => {}
            }
        }
        kept(several);
    }
}

async fn take(packed: Result<Vec<u8>>, ingest: &Ingest) -> Result<()> {
    let bytes = packed?;
    let mut memory = ingest.memory();
    let refused = |refused| match refused {
        Refused::Held(held) => Error::transient(format!("messages are not taken for now: {}", held.reason())),
        Refused::NoRoom(why) | Refused::Unknown(why) => Error::transient(format!("messages can't be kept: {why}")),
        refused => Error::new(format!("messages can't be kept: {refused:?}")),
    };
    memory.grow(bytes.len()).map_err(refused)?;
    ingest.take(None, FormatTag::OWN, bytes, memory).await.map(drop).map_err(refused)
}
