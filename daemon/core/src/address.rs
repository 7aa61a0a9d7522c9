//! Addresses of servers: a host and a port.

use crate::Problem;

/// The host and the port of an address, such as `db.example.com:3307`, `db.example.com` or `[::1]:3306`.
///
/// # Errors
/// If it is none. `default` is the port where none is said.
pub fn host_and_port(address: &str, default: u16) -> Result<(&str, u16), Problem> {
    let wrong = || {
        let problem = Problem::new(format!("`{address}` is no address of a server"));
        problem.help(format!("write it like `server.example.com` or `server.example.com:{default}`"))
    };
    // An address of IPv6 has colons of its own, and stands in brackets before a port.
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            (host, port.strip_prefix(':'))
        }
        None if address.matches(':').count() > 1 => (address, None),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let is_wrong = |letter: char| letter.is_whitespace() || matches!(letter, '/' | '@' | '?');
    if host.is_empty() || host.contains(is_wrong) {
        return Err(wrong());
    }
    let port = port.map_or(Ok(default), str::parse).map_err(|_| wrong())?;
    Ok((host, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_or_that_of_the_service() {
        let of = |address| host_and_port(address, 99).ok();
        assert_eq!(of("db.example.com"), Some(("db.example.com", 99)));
        assert_eq!(of("db.example.com:7"), Some(("db.example.com", 7)));
        assert_eq!(of("[::1]:7"), Some(("::1", 7)));
        assert_eq!(of("::1"), Some(("::1", 99)));
        for wrong in ["", ":7", "a b", "db:port", "mysql://db", "me@db", "[::1"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        let problem = host_and_port("a/b", 99).unwrap_err();
        assert!(problem.message.contains("`a/b` is no address of a server"), "{problem:?}");
    }
}
