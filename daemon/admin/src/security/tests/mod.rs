//! What the gate lets through, and what it does not.

mod gate;
mod requests;
mod tokens;

use std::net::SocketAddr;

use axum::http::Request;
use axum::http::request::Parts;

use super::peer::{Arrival, Peer, Process};

/// Where the daemon of the tests listens.
pub const HERE: ([u8; 4], u16) = ([192, 0, 2, 1], 8181);

/// From a machine of the network.
pub fn from_afar() -> Arrival {
    Arrival::from_network(SocketAddr::from(([198, 51, 100, 7], 4000)), HERE.into())
}

/// From a process.
pub fn from_process(is_admin: bool) -> Arrival {
    Arrival { peer: Peer::Process(Process { uid: 1000, pid: Some(7), is_admin }), local: None, ..from_afar() }
}

/// The head of a request with the headers of a text: `NAME: VALUE` a line.
pub fn head(method: &str, uri: &str, headers: &str) -> Parts {
    let lines = headers.lines().filter_map(|line| line.split_once(": "));
    let request = lines
        .fold(Request::builder().method(method).uri(uri), |request, (name, value)| request.header(name.trim(), value));
    request.body(()).unwrap().into_parts().0
}
