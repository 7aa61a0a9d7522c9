//! Why the inputs of a flow are held, if they are: because of something that all flows share, or because somebody wants it.

use std::sync::Arc;

use millstream_core::Held;
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
    pub fn reason(&mut self) -> Option<Held> {
        let (of_all, own) = (self.of_all.borrow_and_update().clone(), self.own.borrow_and_update().clone());
        of_all.map(Held::Scarcity).or(own.map(Held::Paused))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_all_is_the_better_reason() {
        let (of_all, own) = (watch::Sender::new(None), watch::Sender::new(Some(Reason::from("somebody"))));
        let mut holds = Holds::new(of_all.subscribe(), own.subscribe());
        assert_eq!(holds.reason(), Some(Held::Paused("somebody".into())));
        of_all.send_replace(Some("the disk".into()));
        assert_eq!(holds.reason(), Some(Held::Scarcity("the disk".into())));
    }
}
