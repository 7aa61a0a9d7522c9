//! Whether a node that has another side, such as a server, is connected with it.
//!
//! Nodes say what is wrong in two ways: what they report has a `trouble`, or the engine tries again for them, to commit or to ask.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use chrono::Utc;
use millstream_core::Report;
use schemars::JsonSchema;
use serde::Serialize;

/// How a node and its other side are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// It has not been heard of yet.
    Connecting,
    /// Nothing is wrong.
    Connected,
    /// Something has failed in a way that may be over in a while, and is tried again.
    Retrying,
}

/// How a node and its other side are, since when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// How they are.
    pub state: ConnectionState,
    /// Since when.
    pub since: SystemTime,
    /// Why something is tried again.
    pub reason: Option<String>,
}

/// What is known of a node and its other side.
#[derive(Debug)]
pub(super) struct Contact(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// What it has reported last.
    reported: Option<String>,
    /// Why the engine tries again for it.
    retrying: Option<String>,
    state: ConnectionState,
    since: SystemTime,
}

impl Contact {
    /// Nothing is known yet.
    pub fn new() -> Self {
        let (state, since) = (ConnectionState::Connecting, Utc::now().into());
        Self(Mutex::new(Known { reported: None, retrying: None, state, since }))
    }

    /// The node has reported, which it does for the first time when it is open.
    pub fn reported(&self, report: Option<&Report>) {
        let trouble = report.and_then(Report::trouble).map(str::to_owned);
        self.change(|known| known.reported = trouble);
    }

    /// The engine tries again for it, or no longer.
    pub fn retrying(&self, why: Option<String>) {
        self.change(|known| known.retrying = why);
    }

    /// Why the engine tries again for it.
    pub fn why_retrying(&self) -> Option<String> {
        self.lock().retrying.clone()
    }

    /// How they are.
    pub fn now(&self) -> Connection {
        let known = self.lock();
        Connection { state: known.state, since: known.since, reason: known.reason() }
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.lock();
        change(&mut known);
        let state = if known.reason().is_some() { ConnectionState::Retrying } else { ConnectionState::Connected };
        if known.state != state {
            (known.state, known.since) = (state, Utc::now().into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn reason(&self) -> Option<String> {
        self.retrying.as_ref().or(self.reported.as_ref()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::Figures;
    use serde_json::json;

    use super::*;

    fn report(trouble: Option<&str>) -> Report {
        let values = trouble.map(|trouble| ("trouble", json!(trouble))).into_iter().collect();
        Report::Figures(Figures { title: "messages".into(), values })
    }

    #[test]
    fn what_is_wrong_is_known_from_reports_and_from_tries() {
        let contact = Contact::new();
        assert_eq!(contact.now().state, ConnectionState::Connecting);
        contact.reported(Some(&report(None)));
        let connected = contact.now();
        assert_eq!((connected.state, connected.reason), (ConnectionState::Connected, None));
        contact.reported(Some(&report(Some("no broker"))));
        let away = contact.now();
        assert_eq!((away.state, away.reason.as_deref()), (ConnectionState::Retrying, Some("no broker")));
        contact.retrying(Some("no answer".into()));
        let both = contact.now();
        assert_eq!((both.since, both.reason.as_deref()), (away.since, Some("no answer")));
        contact.reported(None);
        assert_eq!(contact.now().state, ConnectionState::Retrying);
        contact.retrying(None);
        assert_eq!(contact.now().state, ConnectionState::Connected);
    }
}
