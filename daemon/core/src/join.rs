//! What another thread computes, and waiting for it.

use std::future::{Future, pending};
use std::panic::resume_unwind;

use tokio::task::JoinHandle;

/// Begins with something that takes a while, on another thread if one is free.
///
/// A thread of tokio keeps the last task that it has spawned for itself, to run when the present one waits, and no other thread can take it until
/// the next is spawned. So one more is spawned, which does nothing.
pub fn spawn_beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let task = tokio::spawn(work);
    tokio::spawn(async {});
    task
}

/// What comes of a task. If it panicked, the panic goes on here. If the runtime is being shut down, this waits until its caller is
/// dropped, which happens next. Cancel safe.
pub async fn join<T>(task: &mut JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_goes_on_and_a_task_that_was_ended_never_comes() {
        assert_eq!(join(&mut tokio::spawn(async { 7 })).await, 7);
        let mut panics = tokio::spawn(async { panic!("it is broken") });
        let waits = tokio::spawn(async move { join::<()>(&mut panics).await });
        assert!(waits.await.expect_err("it panics, too").is_panic());
        let mut ended = tokio::spawn(pending::<()>());
        ended.abort();
        tokio::select! {
            biased;
            () = join(&mut ended) => panic!("it was ended"),
            () = tokio::task::yield_now() => {}
        }
    }
}
