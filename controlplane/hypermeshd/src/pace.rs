//! How often a stranger may ask, from one address and from all together. Owned by the app; a pure
//! function of the calls and their times.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// The span over which requests are counted.
const SPAN: Duration = Duration::from_secs(60);

/// Most enrolments from one source in a span: a script that joins ten hosts behind one NAT, each
/// with a few tries; guessing a 256-bit secret gains nothing from it.
const PER_SOURCE: u32 = 60;

/// Most enrolments in all in a span. An enrolment costs the issuer some milliseconds of signing, so
/// this is at most a tenth of a core.
const IN_ALL: u32 = 1200;

/// Most sources that are counted at a time; more are refused until the span ends (100 kB).
const MAX_SOURCES: usize = 2048;

/// Counts of the current span.
#[derive(Debug, Default)]
pub struct Pace {
    began: Duration,
    sources: HashMap<IpAddr, u32>,
    all: u32,
}

impl Pace {
    /// Whether a request from `source` at `now` (since the start) may be looked at.
    pub fn admit(&mut self, source: IpAddr, now: Duration) -> bool {
        self.turn(now);
        let source = network(source);
        if self.all >= IN_ALL
            || (self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source))
        {
            return false;
        }
        let count = self.sources.entry(source).or_default();
        if *count >= PER_SOURCE {
            return false;
        }
        *count += 1;
        self.all += 1;
        true
    }

    fn turn(&mut self, now: Duration) {
        if now.saturating_sub(self.began) >= SPAN {
            *self = Self { began: now, ..Self::default() };
        }
    }
}

/// One host may have a whole /64 of addresses (RFC 4291 §2.5.4): it counts as one source.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_bounded_and_another_is_still_served() {
        let mut pace = Pace::default();
        let (a, b): (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd01::1".parse().unwrap());
        let admitted = (0..PER_SOURCE * 2).filter(|_| pace.admit(a, Duration::ZERO)).count();
        assert_eq!(admitted, PER_SOURCE as usize);
        let neighbour = "fd00::2".parse().unwrap();
        assert!(!pace.admit(neighbour, Duration::ZERO), "the same /64");
        assert!(pace.admit(b, Duration::ZERO));
        assert!(pace.admit(a, SPAN), "a new span");
    }

    #[test]
    fn all_sources_together_are_bounded() {
        let mut pace = Pace::default();
        let source = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n));
        let admitted = (0..IN_ALL * 2).filter(|n| pace.admit(source(*n), Duration::ZERO)).count();
        assert_eq!(admitted, IN_ALL as usize);
    }
}
