//! What became of every query: one counter for each outcome.
//!
//! Owns the counters. The sockets and the answering add to them; hypermeshd reads them by
//! [`crate::Names::counters`] and exports them as `hypermesh_dns_queries{outcome}`.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a query, or of a connection that brought none. A query has one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from the zone; "no such name" is an answer too.
    Zone,
    /// Asked of the host's resolvers, and answered with what they said.
    Forwarded,
    /// "No such name" said to this host, because the name must not leave it.
    Kept,
    /// Refused: a peer asked for a name of elsewhere, or for what is no name of the internet.
    Refused,
    /// Failed, because the host has no resolver but this one.
    NoUpstream,
    /// Dropped: no query that can be read, or a response.
    Malformed,
    /// Dropped: the source asks more often than it may.
    RateLimited,
    /// Dropped: too many queries at work.
    Busy,
    /// Failed: too many queries wait for the host's resolvers.
    ForwarderBusy,
    /// Closed: too many connections, of all or of this source.
    Connections,
    /// Closed: a connection that sent or took nothing in time.
    Idle,
    /// The answer could not be written or sent.
    Unsent,
}

impl Outcome {
    /// All, in the order in which they are exported.
    pub const ALL: [Self; 12] = [
        Self::Zone,
        Self::Forwarded,
        Self::Kept,
        Self::Refused,
        Self::NoUpstream,
        Self::Malformed,
        Self::RateLimited,
        Self::Busy,
        Self::ForwarderBusy,
        Self::Connections,
        Self::Idle,
        Self::Unsent,
    ];

    /// The value of the label `outcome`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Forwarded => "forwarded",
            Self::Kept => "kept",
            Self::Refused => "refused",
            Self::NoUpstream => "no_upstream",
            Self::Malformed => "malformed",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::ForwarderBusy => "forwarder_busy",
            Self::Connections => "connections",
            Self::Idle => "idle",
            Self::Unsent => "unsent",
        }
    }
}

/// How often each outcome came, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; Outcome::ALL.len()]);

impl Counters {
    /// How often this outcome came since the start.
    #[must_use]
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0.get(outcome as usize).copied().unwrap_or_default()
    }

    /// Every outcome with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL.into_iter().map(|outcome| (outcome, self.get(outcome)))
    }
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct Tally([AtomicU64; Outcome::ALL.len()]);

impl Tally {
    pub(crate) fn add(&self, outcome: Outcome) {
        if let Some(counter) = self.0.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> Counters {
        Counters(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_counter_and_name() {
        let tally = Tally::default();
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
            (0..=at).for_each(|_| tally.add(outcome));
        }
        let mut names = Vec::new();
        for (at, (outcome, count)) in tally.read().iter().enumerate() {
            assert_eq!(count, at as u64 + 1);
            names.push(outcome.name());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Outcome::ALL.len());
    }
}
