//! Why the inputs of a flow are held, if they are: because of something that all flows share, or because somebody wants it.

use std::sync::Arc;

use tokio::sync::watch;

/// Why inputs are held, for people.
pub type Reason = Arc<str>;

/// Why the inputs of a flow are held.
#[derive(Clone, Debug)]
pub struct Holds {
    of_all: watch::Receiver<Option<Reason>>,
    own: watch::Receiver<Option<Reason>>,
}

impl Holds {
    /// What is said of all flows, and of this one.
    pub fn new(of_all: watch::Receiver<Option<Reason>>, own: watch::Receiver<Option<Reason>>) -> Self {
        Self { of_all, own }
    }

    /// The reason; what holds all flows is the better one.
    pub fn reason(&mut self) -> Option<Reason> {
        let (of_all, own) = (self.of_all.borrow_and_update().clone(), self.own.borrow_and_update().clone());
        of_all.or(own)
    }

    /// Waits until it may be another one. Cancel safe.
    pub async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.of_all.changed() => {}
            Ok(()) = self.own.changed() => {}
            // Nobody can say anything any more.
            else => std::future::pending().await,
        }
    }
}
