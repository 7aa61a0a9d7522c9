//! What `delta_kernel` reads and writes logs with, and what it says when it can't.

use std::error::Error as StdError;
use std::iter::successors;
use std::sync::Arc;

use delta_kernel::{Engine, KernelError};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use millstream_core::Error;
use millstream_store::object_error;
use object_store::ObjectStore;
use tokio::runtime::{Handle, RuntimeFlavor};

/// What reads and writes the log. It waits for the store on the threads on which everything else waits for it.
pub fn engine(store: Arc<dyn ObjectStore>) -> Arc<dyn Engine> {
    let (builder, runtime) = (DefaultEngineBuilder::new(store), Handle::current());
    match runtime.runtime_flavor() {
        RuntimeFlavor::MultiThread => {
            let threads = Arc::new(TokioMultiThreadExecutor::new(runtime));
            Arc::new(builder.with_task_executor(threads).build())
        }
        // One thread can't wait and do what is waited for.
        _ => Arc::new(builder.build()),
    }
}

/// What is wrong with a table, and whether that may be over in a while.
pub fn in_words(error: KernelError) -> Error {
    match error {
        KernelError::Backtraced { source, .. } => in_words(*source),
        KernelError::ObjectStore(error) => object_error(&error),
        KernelError::IOError(error) => error.into(),
        error => {
            let mut causes = successors(StdError::source(&error), |error| (*error).source());
            let stored = causes.find_map(|cause| cause.downcast_ref::<object_store::Error>());
            stored.map_or_else(|| Error::new(error.to_string()), object_error)
        }
    }
}
