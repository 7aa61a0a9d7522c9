//! Decodes parts of sources on several threads, and has their rows in the order in which they were read.

use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use millstream_core::{Result, join, spawn_beside};
use millstream_formats::{Part, Rows};
use tokio::runtime::Handle;

/// What was read and has not been handed out, each with what its input knows of it.
pub struct DecodeQueue<T> {
    items: FuturesOrdered<BoxFuture<'static, (T, Result<Rows>)>>,
    threads: usize,
}

/// With one thread.
impl<T> Default for DecodeQueue<T> {
    fn default() -> Self {
        Self { items: FuturesOrdered::new(), threads: 1 }
    }
}

impl<T: Send + 'static> DecodeQueue<T> {
    /// With the threads of the runtime in which this is called.
    pub fn of_runtime() -> Self {
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Self { threads, ..Self::default() }
    }

    /// Whether several threads decode. One alone does better to decode parts as they are read, which copies less.
    pub fn is_parallel(&self) -> bool {
        self.threads > 1
    }

    /// Whether more should be read, so that every thread has something to decode while rows go on.
    pub fn has_room(&self) -> bool {
        self.items.len() < if self.is_parallel() { self.threads + 1 } else { 1 }
    }

    /// Adds a part, which is decoded from now on.
    pub fn decode(&mut self, of: T, part: Part) {
        if part.is_decoded() {
            return self.push(of, part.decode());
        }
        let mut task = spawn_beside(async { part.decode() });
        self.items.push_back(Box::pin(async move { (of, join(&mut task).await) }));
    }

    /// Adds rows that are decoded, or an error, which comes to light behind all that was read before.
    pub fn push(&mut self, of: T, rows: Result<Rows>) {
        self.items.push_back(Box::pin(async { (of, rows) }));
    }

    /// What was read first, once it is decoded; `None` if there is nothing. Cancel safe.
    pub async fn next(&mut self) -> Option<(T, Result<Rows>)> {
        self.items.next().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::Error;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn errors_come_behind_what_was_read_before() {
        let mut queue = DecodeQueue::of_runtime();
        assert!(queue.is_parallel());
        for of in 0..3 {
            assert!(queue.has_room());
            queue.push(of, if of == 1 { Err(Error::new("it is corrupt")) } else { Ok(Rows::default()) });
        }
        assert!(!queue.has_room());
        let mut seen = Vec::new();
        while let Some((of, rows)) = queue.next().await {
            seen.push((of, rows.is_ok()));
        }
        assert_eq!(seen, [(0, true), (1, false), (2, true)]);
    }
}
