//! CoDel (RFC 8289): when a queue has been slow for too long, which packet pays for it.
//!
//! Owns the state of one flow. Called by the queue for each packet that it takes from the flow.

/// The two times of CoDel in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Params {
    /// Delay that a queue may stand at.
    pub target_ns: u64,
    /// How long the delay may exceed it: the time that senders need to react.
    pub interval_ns: u64,
}

/// Signals are spaced by the count of an earlier episode if it ended less than this many intervals
/// ago (RFC 8289 §5.5 uses 16).
const MEMORY_INTERVALS: u64 = 16;

/// CoDel's view of one flow. Times are nanoseconds on the clock of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codel {
    /// When the delay will have been above the target for an interval; 0 while it is below.
    first_above_ns: u64,
    /// When the next signal is due while `signalling`.
    next_ns: u64,
    /// Signals of this episode, and what `count` was when it began.
    count: u32,
    last_count: u32,
    signalling: bool,
}

impl Codel {
    /// The state of a flow that has not been seen.
    pub const NEW: Self =
        Self { first_above_ns: 0, next_ns: 0, count: 0, last_count: 0, signalling: false };

    /// Whether the packet that was just taken must be marked or dropped. `delay_ns` is how long it
    /// waited; `standing` says whether more than a packet's worth of bytes is left in the queue.
    pub fn signals(&mut self, params: Params, now_ns: u64, delay_ns: u64, standing: bool) -> bool {
        let slow = self.is_slow(params, now_ns, delay_ns, standing);
        if !slow {
            self.signalling = false;
            return false;
        }
        if !self.signalling {
            self.begin(params, now_ns);
            return true;
        }
        if now_ns < self.next_ns {
            return false;
        }
        self.count = self.count.saturating_add(1);
        self.next_ns += spacing_ns(params, self.count);
        true
    }

    /// The flow has run empty.
    pub fn emptied(&mut self) {
        self.first_above_ns = 0;
        self.signalling = false;
    }

    /// Whether the delay has been above the target for a whole interval (RFC 8289 §5.6).
    fn is_slow(&mut self, params: Params, now_ns: u64, delay_ns: u64, standing: bool) -> bool {
        if delay_ns < params.target_ns || !standing {
            self.first_above_ns = 0;
            return false;
        }
        if self.first_above_ns == 0 {
            self.first_above_ns = now_ns + params.interval_ns;
            return false;
        }
        now_ns >= self.first_above_ns
    }

    /// The first signal of an episode (RFC 8289 §5.5): it goes on where a recent one stopped.
    fn begin(&mut self, params: Params, now_ns: u64) {
        self.signalling = true;
        let since_ns = now_ns.saturating_sub(self.next_ns);
        let grown = self.count.saturating_sub(self.last_count);
        let recent = since_ns < MEMORY_INTERVALS * params.interval_ns;
        self.count = if grown > 1 && recent { grown } else { 1 };
        self.last_count = self.count;
        self.next_ns = now_ns + spacing_ns(params, self.count);
    }
}

/// Time to the next signal: it falls with the square root of their count, which makes a TCP
/// sender's rate fall linearly (RFC 8289 §4.3).
fn spacing_ns(params: Params, count: u32) -> u64 {
    (params.interval_ns as f64 / f64::from(count.max(1)).sqrt()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PARAMS: Params = Params { target_ns: 5 * MS, interval_ns: 100 * MS };

    /// Times in ms at which packets that come each ms, all as slow, are signalled.
    fn signals(codel: &mut Codel, from_ms: u64, to_ms: u64, delay_ms: u64) -> Vec<u64> {
        let slow = |&ms: &u64| codel.signals(PARAMS, ms * MS, delay_ms * MS, true);
        (from_ms..to_ms).filter(slow).collect()
    }

    #[test]
    fn signals_come_after_an_interval_and_then_ever_closer() {
        // Begins at 1 + 100; then 100/sqrt(1), /sqrt(2), /sqrt(3), ... after one another.
        let mut codel = Codel::NEW;
        let times = signals(&mut codel, 1, 400, 6);
        assert_eq!(times, [101, 201, 272, 330, 380]);
    }

    #[test]
    fn a_delay_below_the_target_ends_an_episode() {
        let mut codel = Codel::NEW;
        assert!(!signals(&mut codel, 1, 300, 6).is_empty());
        assert!(!codel.signals(PARAMS, 300 * MS, 4 * MS, true));
        assert_eq!(signals(&mut codel, 301, 401, 6), []);
        assert!(codel.signals(PARAMS, 401 * MS, 6 * MS, true));
    }

    #[test]
    fn one_waiting_packet_is_never_signalled() {
        let mut codel = Codel::NEW;
        assert!((1..1000).all(|ms| !codel.signals(PARAMS, ms * MS, 50 * MS, false)));
    }

    #[test]
    fn an_episode_soon_after_another_goes_on_where_that_stopped() {
        let mut codel = Codel::NEW;
        signals(&mut codel, 1, 1000, 6);
        let reached = codel.count;
        codel.emptied();
        let times = signals(&mut codel, 1001, 1150, 6);
        assert_eq!(times[0], 1101);
        assert_eq!(codel.last_count, reached - 1);
        assert!(times[1] - times[0] < 100 / 2, "{times:?}");

        codel.emptied();
        signals(&mut codel, 9000, 9102, 6);
        assert_eq!(codel.count, 1);
    }
}
