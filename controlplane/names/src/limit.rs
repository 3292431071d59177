//! How much one source may ask, and how many connections it may hold.
//!
//! Owns both tables, which are bounded whatever comes. The sockets ask here before they do anything
//! for a query; time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Queries per second of one peer that are answered in the long run: a busy resolver behind a site
/// asks tens.
pub(crate) const RATE_PER_S: u32 = 200;

/// Queries that a source may send at once after a rest.
pub(crate) const BURST: u32 = 400;

/// The most sources that are told apart: every node of a large mesh. One more is refused until some of
/// them have rested.
const MAX_SOURCES: usize = 4096;

/// Connections at a time, of all sources.
pub(crate) const MAX_CONNECTIONS: usize = 128;

/// Connections at a time of one source: eight such cannot take them all from the others.
pub(crate) const MAX_CONNECTIONS_PER_SOURCE: usize = 16;

/// The queries that each source may send.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<IpAddr, Bucket>>);

/// When the bucket would be full again had the source been silent: the state of a bucket in one
/// number. Full is `at <= now`; empty is a burst's worth in the future.
#[derive(Debug)]
struct Bucket {
    full_at: Instant,
}

impl Rates {
    /// Takes one query's worth from the source's bucket. Returns whether there was one.
    pub(crate) fn take(&self, source: IpAddr, now: Instant) -> bool {
        let mut buckets = lock(&self.0);
        if buckets.len() >= MAX_SOURCES && !buckets.contains_key(&source) {
            buckets.retain(|_, bucket| bucket.full_at > now);
            if buckets.len() >= MAX_SOURCES {
                return false;
            }
        }
        let one = Duration::from_secs(1) / RATE_PER_S;
        let bucket = buckets.entry(source).or_insert(Bucket { full_at: now });
        let full_at = bucket.full_at.max(now) + one;
        let taken = full_at <= now + one * BURST;
        if taken {
            bucket.full_at = full_at;
        }
        taken
    }
}

/// The connections that each source holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    all: Connections,
    source: IpAddr,
}

impl Connections {
    /// A place for one more connection of this source, if there is one.
    pub(crate) fn hold(&self, source: IpAddr) -> Option<Held> {
        let mut held = lock(&self.0);
        let all: usize = held.values().sum();
        let of_source = held.get(&source).copied().unwrap_or(0);
        if all >= MAX_CONNECTIONS || of_source >= MAX_CONNECTIONS_PER_SOURCE {
            return None;
        }
        held.insert(source, of_source + 1);
        Some(Held { all: self.clone(), source })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = lock(&self.all.0);
        match held.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                held.remove(&self.source);
            }
        }
    }
}

/// The table, also after a panic elsewhere: it is whole after every line above.
fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn source(number: usize) -> IpAddr {
        Ipv6Addr::from(number as u128 + 1).into()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let (rates, now) = (Rates::default(), Instant::now());
        let taken = (0..10 * BURST).filter(|_| rates.take(source(0), now)).count();
        assert_eq!(taken, BURST as usize);
        assert!(rates.take(source(1), now), "another source is not concerned");
        let later = now + Duration::from_secs(1);
        let taken = (0..10 * BURST).filter(|_| rates.take(source(0), later)).count();
        assert_eq!(taken, RATE_PER_S as usize);
    }

    #[test]
    fn the_table_of_sources_is_bounded_and_those_at_rest_make_room() {
        let (rates, now) = (Rates::default(), Instant::now());
        assert!((0..MAX_SOURCES).all(|number| rates.take(source(number), now)));
        assert!(!rates.take(source(MAX_SOURCES), now));
        assert!(rates.take(source(0), now), "those in the table go on");
        assert!(rates.take(source(MAX_SOURCES), now + Duration::from_secs(1)));
        assert!(lock(&rates.0).len() <= MAX_SOURCES);
    }

    #[test]
    fn connections_are_bounded_by_source_and_in_all_and_come_back() {
        let connections = Connections::default();
        let mut held: Vec<Held> = (0..).map_while(|_| connections.hold(source(0))).collect();
        assert_eq!(held.len(), MAX_CONNECTIONS_PER_SOURCE);
        held.extend((1..1000).filter_map(|number| connections.hold(source(number))));
        assert_eq!(held.len(), MAX_CONNECTIONS);
        held.clear();
        assert!(lock(&connections.0).is_empty());
    }
}
