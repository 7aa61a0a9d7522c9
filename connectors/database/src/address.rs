//! Where a server is.

use millstream_core::{Problem, Result};

/// The host and the port of an address: `db.example.com`, or with a port that is not the usual one, `db.example.com:3307`.
///
/// # Errors
/// If it is none.
pub fn host_and_port(address: &str, usual: u16) -> Result<(&str, u16), Problem> {
    let wrong = || {
        let problem = Problem::new(format!("`{address}` is no address of a server")).at(["address"]);
        problem.help(format!("write it like `db.example.com` or `db.example.com:{usual}`"))
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
    let port = port.map_or(Ok(usual), str::parse).map_err(|_| wrong())?;
    Ok((host, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port_or_not() {
        assert_eq!(host_and_port("db", 7).unwrap(), ("db", 7));
        assert_eq!(host_and_port("db:8", 7).unwrap(), ("db", 8));
        assert_eq!(host_and_port("::1", 7).unwrap(), ("::1", 7));
        assert_eq!(host_and_port("[::1]:8", 7).unwrap(), ("::1", 8));
        for wrong in ["", "a b", "a:x", "mysql://a/b", "[::1", ":8"] {
            assert!(host_and_port(wrong, 7).is_err(), "{wrong}");
        }
    }
}
