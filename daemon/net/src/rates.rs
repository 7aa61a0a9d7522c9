//! How many requests may come from an address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many addresses are told apart. When there are more, those that are new share what one may do, until others have been quiet.
const MOST: usize = 4096;

/// How often at most it is looked for addresses that have been quiet.
const SWEEP: Duration = Duration::from_secs(1);

/// How much may be done: some at once, and then some a second.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    per_second: f64,
    at_once: f64,
    /// What was free at the time below.
    free: f64,
    at: Instant,
}

impl Allowance {
    /// So many a second, and so many at once.
    pub fn new(per_second: f64, at_once: f64) -> Self {
        let at_once = at_once.max(1.0);
        Self { per_second, at_once, free: at_once, at: Instant::now() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long it takes until there is one, if there is none.
    pub fn take(&mut self) -> Result<(), Duration> {
        let now = Instant::now();
        (self.free, self.at) = (self.free_at(now), now);
        if self.free >= 1.0 {
            self.free -= 1.0;
            return Ok(());
        }
        Err(Duration::try_from_secs_f64((1.0 - self.free) / self.per_second).unwrap_or(Duration::MAX))
    }

    fn free_at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.free + passed * self.per_second).min(self.at_once)
    }
}

/// Requests by where they come from, each address with an allowance of its own.
#[derive(Debug)]
pub struct Rates {
    per_second: f64,
    at_once: f64,
    addresses: Mutex<Addresses>,
}

#[derive(Debug, Default)]
struct Addresses {
    known: HashMap<IpAddr, Allowance>,
    /// The one that is shared.
    others: Option<Allowance>,
    swept: Option<Instant>,
}

impl Rates {
    /// So many a second, and so many at once.
    pub fn new(per_second: f64, at_once: f64) -> Self {
        Self { per_second, at_once, addresses: Mutex::default() }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long it takes until the next one may come, if this one is too many. It is not counted then.
    pub fn take(&self, ip: IpAddr) -> Result<(), Duration> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(ip);
        if let Some(allowance) = addresses.known.get_mut(&network) {
            return allowance.take();
        }
        addresses.sweep();
        let full = Allowance::new(self.per_second, self.at_once);
        if addresses.known.len() < MOST {
            addresses.known.entry(network).or_insert(full).take()
        } else {
            addresses.others.get_or_insert(full).take()
        }
    }
}

impl Addresses {
    /// Forgets addresses that may do again all that one may do which nobody knows, if there is no room for another one.
    fn sweep(&mut self) {
        let now = Instant::now();
        let was_swept = self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP);
        if self.known.len() >= MOST && !was_swept {
            self.swept = Some(now);
            self.known.retain(|_, allowance| allowance.free_at(now) < allowance.at_once);
        }
    }
}

/// Of IPv6 the first half: whoever has one address of a network has all of them.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_may_do_some_at_once_and_then_some_a_second() {
        let rates = Rates::new(2.0, 3.0);
        let taken = |rates: &Rates| (0..10).filter(|_| rates.take(address(1)).is_ok()).count();
        assert_eq!(taken(&rates), 3);
        assert_eq!(rates.take(address(1)), Err(Duration::from_millis(500)));
        assert_eq!(rates.take(address(2)), Ok(()), "others don't have to wait");
        advance(Duration::from_secs(1)).await;
        assert_eq!(taken(&rates), 2);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(taken(&rates), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_is_one_address() {
        let rates = Rates::new(1.0, 1.0);
        assert!(rates.take("2001:db8:0:1::1".parse().unwrap()).is_ok());
        assert!(rates.take("2001:db8:0:1:ffff::2".parse().unwrap()).is_err());
        assert!(rates.take("2001:db8:0:2::1".parse().unwrap()).is_ok());
        assert!(rates.take("10.0.0.1".parse().unwrap()).is_ok());
        assert!(rates.take("::ffff:10.0.0.1".parse().unwrap()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_take_no_more_memory_and_shut_nobody_out_who_is_known() {
        let rates = Rates::new(1.0, 5.0);
        let all = 0..MOST as u32 * 3;
        let passed = all.filter(|number| rates.take(address(*number)).is_ok()).count();
        assert_eq!(passed, MOST + 5, "those that are new share one");
        assert!(rates.take(address(7)).is_ok());
        assert!(rates.addresses.lock().unwrap().known.len() <= MOST);
        advance(Duration::from_secs(60)).await;
        assert!(rates.take(address(1 << 30)).is_ok(), "those that were quiet are forgotten");
        assert_eq!(rates.addresses.lock().unwrap().known.len(), 1);
    }
}
