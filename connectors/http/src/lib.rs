//! Services that speak HTTP: how they are reached, the inputs that ask them, and the output that sends to them.
//!
//! * `connection`: the connection `http`, its settings and what they come to.
//! * `client`: one request after the other, with limits, retries and a rate.
//! * `auth`: who asks: tokens, passwords, keys.
//! * `oauth`: tokens that are given for OAuth 2 client credentials; [`TokenSource`] asks for those of other clients.
//! * [`Tls`], [`Retry`], [`Timeouts`]: settings that other connections may have as well.
//! * [`Documents`]: what others ask a service for, such as the schemas of a registry.
//! * `poll`: the input `http_poll`.
//! * `web`: the input `web_page`.
//! * `output`: the output `http`.

mod auth;
mod client;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod conformance;
mod connection;
mod documents;
mod oauth;
mod output;
mod poll;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod server_for_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod timing;
mod tls;
mod web;

use millstream_core::NodeTypes;

pub use connection::HttpConnection;
pub use documents::Documents;
pub use oauth::{ClientCredentials, GivenToken, TokenSource};
pub use timing::{Retry, Timeouts};
pub use tls::Tls;

/// Adds every input and output of this crate, and the connection that they share.
pub fn register(registry: &mut NodeTypes) {
    registry.connection::<connection::HttpConnection>();
    registry.input::<poll::HttpPollInput>();
    registry.input::<web::WebPageInput>();
    registry.output::<output::HttpOutputSettings>();
}
