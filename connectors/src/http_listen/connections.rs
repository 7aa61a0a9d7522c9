//! The open connections: when there are too many, the one that has been idle for the longest time gives way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};

/// The open connections.
#[derive(Default)]
pub struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, Arc<Activity>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Counts on whenever a connection becomes idle.
    time: AtomicU64,
    /// Tells when a request has been answered.
    answered: Notify,
}

/// What a connection is doing.
pub struct Activity {
    shared: Arc<Shared>,
    /// Since when no request is being answered; [`BUSY`] if one is.
    idle_since: AtomicU64,
    /// Tells it to end.
    leave: Notify,
}

const BUSY: u64 = u64::MAX;

impl Activity {
    fn new(shared: Arc<Shared>) -> Self {
        let idle_since = AtomicU64::new(shared.time.fetch_add(1, Ordering::Relaxed));
        Self { shared, idle_since, leave: Notify::new() }
    }

    /// A request has come, which is answered when what is returned is dropped.
    pub fn request(self: &Arc<Self>) -> Busy {
        self.idle_since.store(BUSY, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Whether a request is being answered.
    pub fn is_busy(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) == BUSY
    }

    /// Waits until the connection should end, for the sake of another.
    pub async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

/// A request is being answered.
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let Activity { shared, idle_since, .. } = &*self.0;
        idle_since.store(shared.time.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        shared.answered.notify_one();
    }
}

impl Connections {
    /// Waits until there are fewer than `most`, for which an idle one is told to leave.
    pub async fn make_room(&mut self, most: usize) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(Some(ended));
        }
        let answered = self.shared.clone();
        while self.tasks.len() >= most {
            self.tell_one_to_leave();
            tokio::select! {
                ended = self.tasks.join_next_with_id() => self.forget(ended),
                () = answered.answered.notified() => {}
            }
        }
    }

    fn tell_one_to_leave(&self) {
        let idle = self.open.values().filter(|activity| !activity.is_busy());
        if let Some(oldest) = idle.min_by_key(|activity| activity.idle_since.load(Ordering::Relaxed)) {
            oldest.leave.notify_one();
        }
    }

    /// Serves one more.
    pub fn serve<F: Future<Output = ()> + Send + 'static>(&mut self, serve: impl FnOnce(Arc<Activity>) -> F) {
        let activity = Arc::new(Activity::new(self.shared.clone()));
        let task = self.tasks.spawn(serve(activity.clone()));
        self.open.insert(task.id(), activity);
    }

    fn forget(&mut self, ended: Option<Result<(Id, ()), tokio::task::JoinError>>) {
        let id = match ended {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => return,
        };
        self.open.remove(&id);
    }
}
