//! What inputs have in common that ask for pages: how far that has come, and what keeps it from going on.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::{ErrorClass, Result};
use millstream_store::Log;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep;

/// How long to wait for a service that is away, before it is asked again.
pub const PAUSE: Duration = Duration::from_secs(5);

/// How long to wait for room in the log before looking again.
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// Asks for pages, and writes each into a log with what is to be asked for behind it, as one record: so rows and place can't part.
pub trait Asking: Send + Sync + Sized + 'static {
    /// How far it has come. What the log has up to [`Self::end`] is part of it.
    type Place: Clone + Default + Send + Serialize + DeserializeOwned + 'static;

    /// A page, as it is in the log.
    type Page: Serialize + DeserializeOwned;

    /// How many bytes of pages the log may have.
    fn max_log(&self) -> u64;

    /// The number behind the last record of the log.
    fn end(place: &mut Self::Place) -> &mut u64;

    /// The records of a page, each an object of JSON.
    fn records(page: Self::Page) -> Vec<String>;

    /// Learns from a page that is in the log up to `end`.
    fn learn(&self, page: &Self::Page, end: u64, place: &mut Self::Place) -> Result<()>;

    /// Asks again and again, or until there is nothing more.
    fn poll(
        self: Arc<Self>,
        log: Arc<Log>,
        shared: Arc<Shared<Self::Place>>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// How it does, for people.
    fn report(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }
}

/// What the input and what asks both see.
pub struct Shared<P> {
    place: Mutex<P>,
    /// Why nothing comes.
    trouble: Mutex<Option<String>>,
}

impl<P: Default> Shared<P> {
    pub fn new() -> Self {
        Self { place: Mutex::default(), trouble: Mutex::default() }
    }
}

impl<P> Shared<P> {
    pub fn place(&self) -> MutexGuard<'_, P> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing comes now.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Asks until there is an answer, if that is wanted.
    ///
    /// # Errors
    /// If time does not help, or is not waited for.
    pub async fn until_answered<T, F: Future<Output = Result<T>>>(
        &self,
        waits: bool,
        pause: Duration,
        ask: impl Fn() -> F,
    ) -> Result<T> {
        loop {
            match ask().await {
                Ok(answer) => {
                    self.set_trouble(None);
                    return Ok(answer);
                }
                Err(error) if error.class() == ErrorClass::Transient && waits => {
                    if self.trouble().is_none() {
                        tracing::warn!("{error}; it is asked again until it answers");
                    }
                    self.set_trouble(Some(error.to_string()));
                    sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Waits until a log has room for whatever comes, which it has as long as it is half empty.
pub async fn wait_for_room(log: &Log, max_log: u64) {
    while log.bytes() > max_log / 2 {
        sleep(ROOM_PAUSE).await;
    }
}
