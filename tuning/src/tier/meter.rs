//! Samples of a path, gathered until they make a reading. Owned by the tier of a link.

use std::time::Duration;

/// Least span of a reading: many round trips of most paths, and short enough that several readings
/// agree within a second or two.
pub const SPAN_MIN: Duration = Duration::from_millis(240);

/// Longest span of a reading, however slow or unsteady the path is: a change is to be followed within
/// seconds.
const SPAN_MAX: Duration = Duration::from_secs(1);

/// What one direction of a link did since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The time since then.
    pub interval: Duration,
    /// Bytes of UDP payload that the peer acknowledged.
    pub delivered_bytes: u64,
    /// Bytes of UDP payload that were declared lost.
    pub lost_bytes: u64,
    /// How long something waited because the path took no more: a congestion window, or the bound on
    /// what is in flight, was full.
    pub held: Duration,
    /// Smoothed round trip time.
    pub rtt: Duration,
    /// Its variation (RFC 9002 §5.3).
    pub variation: Duration,
}

impl Sample {
    /// Adds what another worker's share of the same link did in the same time.
    pub fn merge(&mut self, other: &Self) {
        self.interval = self.interval.max(other.interval);
        self.delivered_bytes = self.delivered_bytes.saturating_add(other.delivered_bytes);
        self.lost_bytes = self.lost_bytes.saturating_add(other.lost_bytes);
        self.held = self.held.max(other.held);
        self.rtt = self.rtt.max(other.rtt);
        self.variation = self.variation.max(other.variation);
    }

    /// How long a reading has to be for its acknowledgements to belong to its packets: two round trips
    /// and their variation.
    fn span(&self) -> Duration {
        let trip = self.rtt.saturating_add(self.variation.saturating_mul(4));
        trip.saturating_mul(2).clamp(SPAN_MIN, SPAN_MAX)
    }
}

/// The rate of a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Bits of UDP payload that were delivered in a second.
    pub rate_bps: u64,
    /// The path took no more: the rate is its capacity. Otherwise the path may carry more than what
    /// there was to send.
    pub is_full: bool,
}

/// Gathers samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    sum: Sample,
}

impl Meter {
    /// Takes a sample; gives a reading when enough time has gone by.
    pub fn take(&mut self, sample: &Sample) -> Option<Reading> {
        let (interval, held) = (self.sum.interval, self.sum.held);
        self.sum.merge(sample);
        // One after the other, not side by side.
        self.sum.interval = interval.saturating_add(sample.interval);
        self.sum.held = held.saturating_add(sample.held);
        (self.sum.rtt, self.sum.variation) = (sample.rtt, sample.variation);
        if self.sum.interval < sample.span() {
            return None;
        }
        let Sample { interval, delivered_bytes, lost_bytes, held, .. } =
            std::mem::take(&mut self.sum);
        let bits = u128::from(delivered_bytes) * 8;
        let rate_bps = bits * 1_000_000_000 / interval.as_nanos().max(1);
        // A path that loses more than it delivers is interrupted: that is no capacity.
        let is_full = held >= interval / 2 && delivered_bytes >= lost_bytes;
        Some(Reading { rate_bps: u64::try_from(rate_bps).unwrap_or(u64::MAX), is_full })
    }
}
