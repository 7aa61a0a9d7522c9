//! What stores elsewhere have in common: work that is waited for, and marks of who has written.

use std::future::Future;
use std::io;
use std::sync::{LazyLock, mpsc};

use millstream_core::{Error, Result, ResultExt};
use tokio::runtime::{Builder, Runtime};

/// A mark that no other call has, in whatever process and on whatever machine.
pub(crate) fn new_mark() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::new(format!("getting a random number: {error}")))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

/// Waits for work that is done on a thread of its own. So it can be waited for on any thread, one of a runtime too.
pub(crate) fn wait<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
        Builder::new_multi_thread().worker_threads(1).thread_name("object-store").enable_all().build()
    });
    let runtime = RUNTIME.as_ref().map_err(|error| Error::new(format!("starting a thread: {error}")))?;
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move { sender.send(work.await) });
    receiver.recv().doing(|| "waiting for a store elsewhere")
}
