//! Who may do what: tokens, sessions, certificates, limits, and the log of what was done.
//!
//! * [`Gate`]: every request passes it first. It says who asks, as a [`Principal`] among the request's extensions, or refuses.
//! * [`Arrival`]: how a request came, which whoever takes connections puts among its extensions.
//! * [`TokenStore`], [`Sessions`], [`Audit`]: what the gate rests on, and routes use as well.
//! * [`AdminSettings`]: where the administration listens, and to whom.

mod audit;
mod gate;
mod peer;
mod private;
mod refusal;
mod requests;
mod role;
mod sessions;
mod settings;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod token_text;
mod tokens;

pub use audit::{Audit, AuditPage, Begun, Ending, Entry, Event, Verified, verify};
pub use gate::{Gate, guard, require};
pub use peer::{Arrival, Peer, Process, listen};
pub use refusal::Refusal;
pub use role::{FlowPatterns, Principal, Role};
pub use sessions::{SessionCookie, Sessions};
pub use settings::{AdminSettings, AdminTls, BatchSettings, OrOff, ServeSettings};
pub use token_text::TokenText;
pub use tokens::{NewToken, NotCreated, Token, TokenStore};
