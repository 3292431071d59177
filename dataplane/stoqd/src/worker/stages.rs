//! Where a worker's time goes: nanoseconds for a packet, stage by stage, as histograms.
//!
//! A stage is timed as a whole, for all packets of a turn, and each of them is counted with its share: a
//! look at the clock costs some 20 ns, which a single packet would feel and a burst does not.

use std::time::Instant;

use hdrhistogram::Histogram;

/// The stages of a turn, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the port, and opened.
    Open,
    /// Checked, joined and written to the tunnel device.
    Deliver,
    /// Read from the tunnel device, cut and queued.
    Forward,
    /// Sealed into transmit buffers.
    Seal,
    /// Given to the kernel, or to the sender thread.
    Flush,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Open, Self::Deliver, Self::Forward, Self::Seal, Self::Flush];

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Deliver => "deliver",
            Self::Forward => "forward",
            Self::Seal => "seal",
            Self::Flush => "flush",
        }
    }
}

/// Longest time of a packet in a stage that is told apart: a second, in nanoseconds.
const LONGEST_NS: u64 = 1_000_000_000;

/// Significant digits of a time: 1 %, and 24 KiB for a histogram.
const DIGITS: u8 = 2;

/// What is told of one stage, since the worker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageFigures {
    /// Packets that went through it.
    pub packets: u64,
    /// Median of the time for one, in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
}

/// See the module. Owned by one worker.
#[derive(Debug)]
pub(super) struct Stages {
    times: Vec<Histogram<u64>>,
    since: Instant,
}

impl Stages {
    pub(super) fn new(now: Instant) -> Self {
        // The bounds are constants that fit each other; without histograms nothing is timed.
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        let times = Stage::ALL.iter().filter_map(|_| histogram().ok()).collect();
        Self { times, since: now }
    }

    /// A stage begins.
    pub(super) fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// The stage that began last has ended, and the next one begins.
    pub(super) fn end(&mut self, stage: Stage, packets: usize) {
        if packets == 0 {
            return self.begin();
        }
        let now = Instant::now();
        let took = u64::try_from((now - self.since).as_nanos()).unwrap_or(LONGEST_NS);
        self.since = now;
        let packets = packets as u64;
        if let Some(times) = self.times.get_mut(stage as usize) {
            // Within the bounds, so it cannot fail.
            let _ = times.record_n((took / packets).clamp(1, LONGEST_NS), packets);
        }
    }

    /// All stages, in their order.
    pub(super) fn figures(&self) -> Vec<StageFigures> {
        let of = |times: &Histogram<u64>| StageFigures {
            packets: times.len(),
            p50_ns: times.value_at_quantile(0.5),
            p99_ns: times.value_at_quantile(0.99),
        };
        self.times.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_packet_counts_with_its_share_of_the_time() {
        let mut stages = Stages::new(Instant::now());
        stages.since = Instant::now() - Duration::from_millis(1);
        stages.end(Stage::Seal, 100);
        stages.end(Stage::Flush, 0);
        let figures = stages.figures();
        assert_eq!(figures.len(), Stage::ALL.len());
        let seal = figures[Stage::Seal as usize];
        assert_eq!(seal.packets, 100);
        assert!(seal.p50_ns >= 9_900, "{seal:?}");
        assert_eq!(figures[Stage::Flush as usize], StageFigures::default());
    }
}
