//! Work on a thread of its own: a flow that is busy does not keep senders waiting, and when the input is dropped, what it had is free at once.

use std::future::Future;
use std::thread::{self, JoinHandle};

use millstream_core::{Result, ResultExt as _};
use tokio::runtime;
use tokio::sync::oneshot;
use tracing::Instrument as _;

/// Works until it is dropped.
pub struct Worker {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Begins to work. `begin` may already use the runtime, such as to listen. It is given what comes to an end when the work is to.
    ///
    /// # Errors
    /// If `begin` fails.
    pub fn start<W>(name: &str, begin: impl FnOnce(oneshot::Receiver<()>) -> Result<W>) -> Result<Self>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.doing(|| format!("starting `{name}`"))?;
        let (stop, stopped) = oneshot::channel();
        let work = {
            let _inside = runtime.enter();
            // What it logs is of the flow and node that have begun it.
            begin(stopped)?.in_current_span()
        };
        let run = move || {
            runtime.block_on(work);
            // Without waiting for what is being read: it holds nothing.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported, and there is nobody to tell.
            let _ = thread.join();
        }
    }
}
