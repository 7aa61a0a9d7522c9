//! The open connections: when there are too many, the one that has been idle for the longest time gives way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

/// The open connections.
#[derive(Debug, Default)]
pub struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, Arc<Activity>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Counts on whenever a connection becomes idle.
    time: AtomicU64,
    /// Tells when a request has been answered.
    answered: Notify,
}

/// What a connection is doing.
#[derive(Debug)]
pub struct Activity {
    from: IpAddr,
    shared: Arc<Shared>,
    /// Since when no request is being answered; [`BUSY`] if one is.
    idle_since: AtomicU64,
    /// Whether there has been a request.
    has_asked: AtomicBool,
    /// Tells it to end.
    leave: Notify,
    /// Whether it was told so.
    was_told: AtomicBool,
}

const BUSY: u64 = u64::MAX;

impl Activity {
    fn new(from: IpAddr, shared: Arc<Shared>) -> Self {
        let idle_since = AtomicU64::new(shared.time.fetch_add(1, Ordering::Relaxed));
        let (has_asked, was_told) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { from, shared, idle_since, has_asked, leave: Notify::new(), was_told }
    }

    fn tell_to_leave(&self) {
        self.was_told.store(true, Ordering::Relaxed);
        self.leave.notify_one();
    }

    /// What a connection is doing that is none of many.
    pub fn alone(from: IpAddr) -> Arc<Self> {
        Arc::new(Self::new(from, Arc::default()))
    }

    /// A request has come, which is answered when what is returned is dropped.
    pub fn request(self: &Arc<Self>) -> Busy {
        let busy = self.request_begins();
        busy.has_come();
        busy
    }

    /// A request has begun to come, which is answered when what is returned is dropped. Until it says that all of it [has
    /// come](Busy::has_come), the connection is as idle as before.
    pub fn request_begins(self: &Arc<Self>) -> Busy {
        Busy(self.clone())
    }

    /// Whether a request is being answered.
    pub fn is_busy(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) == BUSY
    }

    /// Whether there has been a request, of which the answer may still be on its way.
    pub fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Waits until the connection should end, for the sake of another.
    pub async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

/// A request is being answered.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Busy {
    /// All of the request has come.
    pub fn has_come(&self) {
        self.0.idle_since.store(BUSY, Ordering::Relaxed);
        self.0.has_asked.store(true, Ordering::Relaxed);
    }
}

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
        self.forget_ended();
        let answered = self.shared.clone();
        while self.tasks.len() >= most {
            self.tell_one_to_leave(|_| true);
            tokio::select! {
                ended = self.tasks.join_next_with_id() => self.forget(ended),
                () = answered.answered.notified() => {}
            }
        }
    }

    /// Whether there can be one more from an address that may have `most`: if it has as many, an idle one of its own has to leave for it. Others
    /// neither leave nor wait for the sake of an address that has too many.
    pub fn make_room_for(&mut self, from: IpAddr, most: usize) -> bool {
        self.forget_ended();
        let stays = |activity: &Activity| activity.from == from && !activity.was_told.load(Ordering::Relaxed);
        let staying = self.open.values().filter(|activity| stays(activity)).count();
        staying < most || self.tell_one_to_leave(stays)
    }

    /// Tells the one to leave that has been idle for the longest time. False if there is none.
    fn tell_one_to_leave(&self, may_leave: impl Fn(&Activity) -> bool) -> bool {
        let idle = self.open.values().filter(|activity| !activity.is_busy() && may_leave(activity));
        let oldest = idle.min_by_key(|activity| activity.idle_since.load(Ordering::Relaxed));
        oldest.inspect(|activity| activity.tell_to_leave()).is_some()
    }

    /// Serves one more.
    pub fn serve<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        from: IpAddr,
        serve: impl FnOnce(Arc<Activity>) -> F,
    ) {
        let activity = Arc::new(Activity::new(from, self.shared.clone()));
        let task = self.tasks.spawn(serve(activity.clone()));
        self.open.insert(task.id(), activity);
    }

    /// Waits for all to end by themselves, then tells the others to leave, and gives up those that still have not left.
    pub async fn end(mut self, by_themselves: Duration, told: Duration) {
        let _ = timeout(by_themselves, self.all_ended()).await;
        self.open.values().for_each(|activity| activity.tell_to_leave());
        let _ = timeout(told, self.all_ended()).await;
    }

    async fn all_ended(&mut self) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.forget(Some(ended));
        }
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(Some(ended));
        }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// Opens one that is busy or idle until it is told to leave.
    fn open(connections: &mut Connections, from: IpAddr, busy: bool) {
        connections.serve(from, |activity| {
            let busy = busy.then(|| activity.request());
            async move {
                activity.told_to_leave().await;
                drop(busy);
            }
        });
    }

    #[tokio::test]
    async fn an_address_has_so_many_and_the_idle_ones_of_it_leave() {
        let mut connections = Connections::default();
        open(&mut connections, ip(9), false);
        for _ in 0..3 {
            assert!(connections.make_room_for(ip(1), 3));
            open(&mut connections, ip(1), false);
        }
        // Each of the three leaves for one of these, which don't.
        for _ in 0..3 {
            assert!(connections.make_room_for(ip(1), 3));
            open(&mut connections, ip(1), true);
        }
        assert!(!connections.make_room_for(ip(1), 3), "none of it is idle");
        assert!(connections.make_room_for(ip(2), 3));
        while connections.open.len() > 4 {
            tokio::task::yield_now().await;
            connections.forget_ended();
        }
        assert!(connections.open.values().any(|activity| activity.from == ip(9)));
        assert!(connections.open.values().all(|activity| activity.from == ip(9) || activity.is_busy()));
    }

    #[tokio::test]
    async fn of_all_the_one_leaves_that_has_been_idle_for_longest() {
        let mut connections = Connections::default();
        (1..=3).for_each(|last| open(&mut connections, ip(last), last == 1));
        connections.make_room(3).await;
        let mut left: Vec<_> = connections.open.values().map(|activity| activity.from).collect();
        left.sort();
        assert_eq!(left, [ip(1), ip(3)]);
    }
}
