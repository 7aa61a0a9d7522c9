//! Ports for servers that tests start.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// The first of them, and how many there are: below those that the system gives to outgoing connections, of which one could take a port before the
/// server does, and below those of `tests/services`.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// A port that nobody listens at, another one each time. Processes begin at different ones.
///
/// # Panics
/// If all are taken.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() % u32::from(COUNT) * 7919 % u32::from(COUNT);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let next = |_| FIRST + ((start + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT)) as u16;
    (0..COUNT).map(next).find(is_free).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let held = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        let ports: std::collections::BTreeSet<_> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
        assert!(!ports.contains(&held.local_addr().unwrap().port()));
    }
}
