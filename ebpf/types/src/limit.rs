//! Token buckets whose whole state is one word, so that two CPUs can never see half of one.
//!
//! It is the generic cell rate algorithm: the state is the time at which the bucket will be full again.
//! An event moves it on by the time that one token takes to come back, and is refused while it is
//! further ahead of now than a full bucket lasts. The loader makes the [`Limit`]s, the program asks them.

use core::num::NonZeroU32;

/// How many buckets each CPU has.
pub const LIMITS: usize = 4;

/// The buckets of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LimitIndex {
    /// Initial packets from all sources together.
    InitialTotal,
    /// Packets of unknown versions, and Version Negotiation.
    Version,
    /// What may be a stateless reset of a peer.
    Reset,
    /// Packets for an earlier run of the daemon.
    OldGeneration,
}

/// A rate with a burst, in the form in which it is asked.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Nanoseconds until one token comes back.
    pub interval_ns: u64,
    /// Nanoseconds that the state may be ahead of now: the burst less one, in time.
    pub tolerance_ns: u64,
}

impl Limit {
    /// Nothing passes but the first: what a rule that is off has in its place.
    pub const UNUSED: Self = Self { interval_ns: 0, tolerance_ns: 0 };

    /// At most `burst` at once, and `per_second` in the long run.
    #[must_use]
    pub const fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        // The burst is below 2^32 and the interval at most 10^9 < 2^30: it cannot overflow.
        let interval_ns = 1_000_000_000 / per_second.get() as u64;
        Self { interval_ns, tolerance_ns: interval_ns * (burst.get() as u64 - 1) }
    }

    /// Asks for one token at `now_ns` of a bucket in `state` (0 is a full one). Returns the state after
    /// it was taken, or `None` when there is none.
    #[inline(always)]
    #[must_use]
    pub fn take(&self, state: u64, now_ns: u64) -> Option<u64> {
        let ahead_ns = state.saturating_sub(now_ns);
        let ahead_ns = if ahead_ns > self.tolerance_ns + self.interval_ns {
            // No event under this limit leaves such a state: the limit was changed. Begin anew.
            0
        } else {
            ahead_ns
        };
        if ahead_ns > self.tolerance_ns {
            return None;
        }
        Some(now_ns + ahead_ns + self.interval_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(per_second: u32, burst: u32) -> Limit {
        Limit::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    /// Takes one token every `step_ns`, `count` times; how many were given.
    fn given(limit: Limit, state: &mut u64, from: u64, step_ns: u64, count: u64) -> u64 {
        let mut given = 0;
        for index in 0..count {
            if let Some(next) = limit.take(*state, from + index * step_ns) {
                *state = next;
                given += 1;
            }
        }
        given
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        for (rate, burst) in [(100, 1), (100, 50), (5_000, 1_000)] {
            let mut state = 0;
            let limit = limit(rate, burst);
            assert_eq!(given(limit, &mut state, 7 * SECOND, 0, 5_000), u64::from(burst));
            let later = given(limit, &mut state, 7 * SECOND, 10_000, 100_000);
            let expected = u64::from(rate);
            assert!((expected - 1..=expected).contains(&later), "{later} of {expected}");
        }
    }

    #[test]
    fn an_idle_bucket_fills_up_to_its_burst_and_no_further() {
        let mut state = 0;
        let limit = limit(10, 5);
        assert_eq!(given(limit, &mut state, SECOND, 0, 9), 5);
        assert_eq!(given(limit, &mut state, 3_600 * SECOND, 0, 9), 5);
    }

    #[test]
    fn a_state_left_by_a_slower_limit_does_not_last() {
        let mut state = 0;
        assert_eq!(given(limit(1, 1_000), &mut state, SECOND, 0, 2_000), 1_000);
        assert_eq!(given(limit(1_000, 3), &mut state, SECOND, 0, 9), 3);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let limit = limit(1, u32::MAX);
        assert_eq!(limit.take(0, u64::MAX >> 1), Some((u64::MAX >> 1) + SECOND));
    }
}
