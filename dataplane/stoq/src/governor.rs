//! Keeps the queue in the network short: bounds what is in flight by the delay that it causes.
//!
//! Loss-based congestion control fills the buffer of the bottleneck, and then every packet waits
//! there, whatever flow it belongs to. The governor keeps what is in flight to what the path delivers
//! in one unloaded round trip and a small [`TARGET`] more, as delay-based controls do (RFC 6817 is
//! one). The rest waits here, in the fair queue, where a sparse flow passes it. quiche's own
//! congestion control goes on below it and answers loss; the smaller of the two bounds rules.
//!
//! Delay that does not fall when less is in flight is not ours: the path has become longer. Then
//! the governor takes it as the new unloaded round trip.
//!
//! Loss alone is no sign of congestion here: a radio link loses packets at any load, and a site must not
//! be throttled for it. Only a round that loses much ([`HEAVY`]) is answered, for a path that drops
//! what it cannot carry without letting it wait would show no delay.

use std::time::{Duration, Instant};

/// Delay that we may add to the path: long enough that a bursty shaper and a busy CPU never run
/// dry, short enough for interactive traffic.
pub(crate) const TARGET: Duration = Duration::from_millis(2);

/// The target grows with the path's own variation, but not beyond this.
const TARGET_MAX: Duration = Duration::from_millis(20);

/// Least bound in bytes: what RFC 9002 §7.2 lets a connection start with.
const BOUND_MIN: u64 = 14_720;

/// The bound at the start: what a bottleneck's buffer is likely to take. It doubles in each round
/// trip until the first reduction.
const BOUND_FIRST: u64 = 256 * 1400;

/// A round in which this part of the bytes is lost, or more, is answered as delay is: far beyond what
/// a link that is only bad loses, and below what a link that is offered half as much again as it
/// carries must lose.
const HEAVY: f64 = 0.25;

/// Least bytes in a round that say something about its loss: some 30 packets.
const HEAVY_MIN: u64 = 40_000;

/// Reductions in a row, and the part of the bound that must be gone, before delay that stays is
/// taken for the path's own.
const FUTILE: u32 = 6;

/// Least time between two looks: several acknowledgements of a fast path.
const ROUND_MIN: Duration = Duration::from_millis(1);

/// What the congestion control of a connection knows of its path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathView {
    /// Smoothed round trip time.
    pub rtt: Duration,
    /// Its variation.
    pub variation: Duration,
    /// The least round trip time ever seen.
    pub rtt_min: Duration,
    /// Bytes lost since the start.
    pub lost: u64,
}

/// Bytes in flight of one connection, and their bound.
#[derive(Debug)]
pub(crate) struct Governor {
    sent: u64,
    settled: u64,
    /// Most bytes in flight since the last look: acknowledgements come in bursts, and between
    /// them there is less.
    peak: u64,
    bound: Option<u64>,
    /// Unloaded round trip time, once it was found that the path's own minimum does not hold.
    unloaded: Option<Duration>,
    looked: Option<Instant>,
    /// Reductions in a row, and delay and bound when they began.
    reductions: u32,
    began: (Duration, u64),
    held_since: Option<Instant>,
    /// Delay that may be added, where it is not [`TARGET`].
    target: Option<Duration>,
    full: Fullness,
    /// There was no reduction yet.
    starting: bool,
    /// Bytes lost, and bytes settled, at the last look.
    then: (u64, u64),
}

/// For how long something waited because the path took no more, and what was settled when it was asked
/// for last.
#[derive(Debug, Default)]
struct Fullness {
    since: Option<Instant>,
    sum: Duration,
    acked: u64,
    lost: u64,
}

/// What a connection's path did since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Bytes acknowledged.
    pub acked: u64,
    /// Bytes lost.
    pub lost: u64,
    /// How long something waited because the path took no more.
    pub full: Duration,
}

impl Default for Governor {
    fn default() -> Self {
        Self {
            sent: 0,
            settled: 0,
            peak: 0,
            bound: Some(BOUND_FIRST),
            unloaded: None,
            looked: None,
            reductions: 0,
            began: (Duration::ZERO, 0),
            held_since: None,
            starting: true,
            then: (0, 0),
            target: None,
            full: Fullness::default(),
        }
    }
}

impl Governor {
    /// Sets the delay that may be added to the path.
    pub fn set_target(&mut self, target: Duration) {
        self.target = Some(target);
    }

    /// Nothing more can be sent now; `is_full` says that something waits all the same.
    pub fn rest(&mut self, is_full: bool, now: Instant) {
        if let Some(since) = self.full.since.take() {
            self.full.sum += now.saturating_duration_since(since);
        }
        self.full.since = is_full.then_some(now);
    }

    /// Whether something waits because the path takes no more.
    pub fn is_full(&self) -> bool {
        self.full.since.is_some()
    }

    /// What was done since the last call, of the connection's totals of bytes acknowledged and lost.
    pub fn take_delivered(&mut self, (acked, lost): (u64, u64), now: Instant) -> Delivered {
        self.rest(self.is_full(), now);
        let since = self.full.since;
        let anew = Fullness { since, sum: Duration::ZERO, acked, lost };
        let before = std::mem::replace(&mut self.full, anew);
        Delivered {
            acked: acked.saturating_sub(before.acked),
            lost: lost.saturating_sub(before.lost),
            full: before.sum,
        }
    }

    /// A packet with data was sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.peak = self.peak.max(self.in_flight());
    }

    /// Total of bytes acknowledged or lost, as the connection counts them: it also counts a few
    /// that were never told to [`Governor::sent`], so that the difference errs on the low side.
    pub fn settled(&mut self, total: u64) {
        if total > self.settled {
            self.held_since = None;
        }
        self.settled = total;
        // What was acknowledged beyond what was sent here is not held against later packets.
        self.sent = self.sent.max(total);
    }

    /// Bytes in flight.
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.settled)
    }

    /// Whether one packet more may be sent. `patience` is how long nothing may have been settled
    /// before the count is taken to be wrong and begins anew.
    pub fn permits(&mut self, now: Instant, patience: Duration) -> bool {
        if self.bound.is_none_or(|bound| self.in_flight() < bound) {
            return true;
        }
        let since = *self.held_since.get_or_insert(now);
        if now.saturating_duration_since(since) < patience {
            return false;
        }
        self.held_since = None;
        self.sent = self.settled;
        true
    }

    /// Looks at the path, at most once in a round trip.
    pub fn look(&mut self, path: PathView, now: Instant) {
        let round = path.rtt.max(ROUND_MIN);
        if self.looked.is_some_and(|at| now.saturating_duration_since(at) < round) {
            return;
        }
        self.looked = Some(now);
        let unloaded = self.unloaded.map_or(path.rtt_min, |known| known.min(path.rtt));
        self.unloaded = self.unloaded.map(|_| unloaded);
        let target = self.target.unwrap_or(TARGET).max(unloaded / 8);
        let target = target.max(path.variation * 2).min(TARGET_MAX);
        if self.lost_much(path.lost) {
            self.cut();
        } else if path.rtt > unloaded + target {
            self.reduce(path.rtt, unloaded + target);
            self.forgive(path);
        } else {
            self.grow();
        }
        self.peak = self.in_flight();
    }

    /// Whether the path drops more than a bad one loses, since it was asked last.
    fn lost_much(&mut self, lost: u64) -> bool {
        let (lost_then, settled_then) = self.then;
        let settled = self.settled.saturating_sub(settled_then);
        if settled < HEAVY_MIN {
            return false;
        }
        self.then = (lost, self.settled);
        lost.saturating_sub(lost_then) as f64 >= settled as f64 * HEAVY
    }

    /// Much was lost: three quarters of what was in flight, as RFC 9438 §4.6 does about.
    fn cut(&mut self) {
        let held = self.bound.map_or(self.peak, |bound| bound.min(self.peak));
        self.bound = Some((held / 4 * 3).max(BOUND_MIN));
        self.starting = false;
        self.reductions = 0;
    }

    fn reduce(&mut self, rtt: Duration, wanted: Duration) {
        let held = self.bound.map_or(self.peak, |bound| bound.min(self.peak));
        let right = (held as f64 * wanted.as_secs_f64() / rtt.as_secs_f64()) as u64;
        // Half the way: the round trip time is smoothed, and lags behind what was done already.
        let bound = (held.midpoint(right)).max(BOUND_MIN);
        if self.reductions == 0 {
            self.began = (rtt, held);
        }
        self.reductions += 1;
        self.starting = false;
        self.bound = Some(bound);
        let (rtt_then, held_then) = self.began;
        if self.reductions >= FUTILE && bound <= held_then / 2 {
            if rtt > rtt_then.mul_f64(0.8) {
                self.unloaded = Some(rtt);
                self.bound = None;
            }
            self.reductions = 0;
        }
    }

    /// The least bound causes no delay, on all but the slowest paths: what stays is a busy host's, or
    /// the path's own. So much of it is taken for that as can do no harm if it is not.
    fn forgive(&mut self, path: PathView) {
        if self.reductions >= FUTILE && self.bound == Some(BOUND_MIN) {
            self.unloaded = Some(path.rtt.min(path.rtt_min + TARGET_MAX));
            self.bound = Some(4 * BOUND_MIN);
            self.reductions = 0;
        }
    }

    fn grow(&mut self) {
        self.reductions = 0;
        let peak = self.peak;
        // Only a bound that binds is in the way.
        if let Some(bound) = self.bound.as_mut().filter(|bound| peak * 10 >= **bound * 8) {
            *bound += if self.starting { *bound } else { *bound / 8 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1400;

    /// A bottleneck that sends one packet each `gap_us`, at the end of a path of `rtt_us`; time goes
    /// by in microseconds, and the round trip time is smoothed as RFC 9002 §5.3 does.
    struct Path {
        gap_us: u64,
        rtt_us: u64,
        jitter_us: u64,
        free_at: u64,
        /// When what was sent then is settled, and whether as lost.
        acks: std::collections::VecDeque<(u64, u64, bool)>,
        srtt: f64,
        variation: f64,
        min: f64,
        settled: u64,
        lost: u64,
        /// Part of the packets that is lost, and bytes that wait at most: more are lost too.
        loss: f64,
        buffer_us: u64,
        rng: fastrand::Rng,
    }

    impl Path {
        fn new(gap_us: u64, rtt_us: u64) -> Self {
            let (srtt, acks) = (rtt_us as f64, std::collections::VecDeque::new());
            let rng = fastrand::Rng::with_seed(7);
            let min = f64::MAX;
            let (free_at, jitter_us, settled, variation) = (0, 0, 0, srtt / 2.0);
            let (lost, loss, buffer_us) = (0, 0.0, u64::MAX);
            Self {
                gap_us,
                rtt_us,
                jitter_us,
                free_at,
                acks,
                srtt,
                variation,
                min,
                settled,
                lost,
                loss,
                buffer_us,
                rng,
            }
        }

        fn send(&mut self, now: u64) {
            let overflows = self.free_at.saturating_sub(now) > self.buffer_us;
            if !overflows {
                self.free_at = self.free_at.max(now) + self.gap_us;
            }
            let lost = overflows || self.rng.f64() < self.loss;
            let jitter = self.rng.u64(0..=self.jitter_us);
            let last = self.acks.back().map_or(0, |ack| ack.0);
            self.acks.push_back(((self.free_at + self.rtt_us + jitter).max(last), now, lost));
        }

        fn receive(&mut self, now: u64) {
            while self.acks.front().is_some_and(|ack| ack.0 <= now) {
                let (_, sent, lost) = self.acks.pop_front().unwrap();
                self.settled += PACKET;
                if lost {
                    self.lost += PACKET;
                    continue;
                }
                let sample = (now - sent) as f64;
                self.min = self.min.min(sample);
                self.variation += ((self.srtt - sample).abs() - self.variation) / 4.0;
                self.srtt += (sample - self.srtt) / 8.0;
            }
        }

        fn view(&self) -> PathView {
            let time = |us: f64| Duration::from_nanos((us * 1000.0) as u64);
            PathView {
                rtt: time(self.srtt),
                variation: time(self.variation),
                rtt_min: time(self.min.min(self.srtt)),
                lost: self.lost,
            }
        }
    }

    /// Sends all that is permitted, up to a window of 4 MB, for so long; returns the share of the
    /// bottleneck that was used and the mean delay in its queue in ms, both of the second half.
    fn run(governor: &mut Governor, path: &mut Path, from: u64, until: u64) -> (f64, f64) {
        let start = Instant::now();
        let (mut busy, mut delay, mut ticks) = (0.0, 0.0, 0.0);
        for us in (from..until).step_by(10) {
            let now = start + Duration::from_micros(us);
            path.receive(us);
            governor.settled(path.settled);
            governor.look(path.view(), now);
            let window = 4_000_000;
            while governor.in_flight() < window && governor.permits(now, Duration::from_secs(9)) {
                governor.sent(PACKET as usize);
                path.send(us);
            }
            if us > (from + until) / 2 {
                let queue = path.free_at.saturating_sub(us);
                busy += if queue > 0 { 1.0 } else { 0.0 };
                delay += queue as f64 / 1000.0;
                ticks += 1.0;
            }
        }
        (busy / ticks, delay / ticks)
    }

    #[test]
    fn the_bottleneck_is_full_and_its_queue_short() {
        // 100 Mbit/s, 1 Gbit/s and 2.5 Gbit/s, on short and on long paths.
        for (gap_us, rtt_us) in [(112, 300), (112, 20_000), (11, 300), (11, 10_000), (5, 1000)] {
            let (mut governor, mut path) = (Governor::default(), Path::new(gap_us, rtt_us));
            let (busy, delay_ms) = run(&mut governor, &mut path, 0, 6_000_000);
            assert!(busy > 0.95, "gap {gap_us} rtt {rtt_us}: {busy:.3} used");
            assert!(delay_ms < 5.0, "gap {gap_us} rtt {rtt_us}: {delay_ms:.1} ms of queue");
        }
    }

    #[test]
    fn a_path_that_becomes_longer_is_used_again() {
        let (mut governor, mut path) = (Governor::default(), Path::new(11, 300));
        run(&mut governor, &mut path, 0, 1_000_000);
        path.rtt_us = 20_000;
        let (busy, _) = run(&mut governor, &mut path, 1_000_000, 8_000_000);
        assert!(busy > 0.8, "{busy:.3} used");
    }

    #[test]
    fn a_path_that_varies_is_used() {
        let (mut governor, mut path) = (Governor::default(), Path::new(112, 20_000));
        path.jitter_us = 10_000;
        let (busy, _) = run(&mut governor, &mut path, 0, 6_000_000);
        assert!(busy > 0.8, "{busy:.3} used");
    }

    #[test]
    fn a_path_that_loses_at_random_is_used() {
        for loss in [0.01, 0.05] {
            let (mut governor, mut path) = (Governor::default(), Path::new(112, 20_000));
            path.loss = loss;
            let (busy, delay_ms) = run(&mut governor, &mut path, 0, 6_000_000);
            assert!(busy > 0.95, "loss {loss}: {busy:.3} used");
            assert!(delay_ms < 5.0, "loss {loss}: {delay_ms:.1} ms of queue");
        }
    }

    #[test]
    fn a_path_that_drops_what_it_cannot_carry_is_not_flooded() {
        // 100 Mbit/s, and not a millisecond of buffer, less than the delay that is aimed at.
        let (mut governor, mut path) = (Governor::default(), Path::new(112, 20_000));
        path.buffer_us = 500;
        run(&mut governor, &mut path, 0, 6_000_000);
        let (settled, lost) = (path.settled, path.lost);
        run(&mut governor, &mut path, 6_000_000, 12_000_000);
        let part = (path.lost - lost) as f64 / (path.settled - settled) as f64;
        assert!(part < HEAVY, "{part:.3} of what was sent was lost");
    }

    #[test]
    fn a_count_that_went_wrong_does_not_hold_for_ever() {
        let mut governor = Governor { bound: Some(BOUND_MIN), ..Governor::default() };
        governor.sent(100_000);
        let (now, patience) = (Instant::now(), Duration::from_secs(1));
        assert!(!governor.permits(now, patience));
        assert!(!governor.permits(now + patience / 2, patience));
        assert!(governor.permits(now + patience, patience));
        assert_eq!(governor.in_flight(), 0);
    }

    #[test]
    fn a_slow_path_meets_a_target_that_its_least_bound_fits() {
        // 10 Mbit/s: the least bound alone takes 12 ms.
        for (target_ms, most_ms) in [(15, 20.0), (20, 25.0)] {
            let (mut governor, mut path) = (Governor::default(), Path::new(1120, 20_000));
            governor.set_target(Duration::from_millis(target_ms));
            let (busy, delay_ms) = run(&mut governor, &mut path, 0, 20_000_000);
            assert!(busy > 0.95, "target {target_ms} ms: {busy:.3} used");
            assert!(delay_ms < most_ms, "target {target_ms} ms: {delay_ms:.1} ms of queue");
        }
    }

    #[test]
    fn the_time_is_counted_for_which_something_waits() {
        let mut governor = Governor::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        governor.rest(true, at(0));
        governor.rest(true, at(10));
        governor.rest(false, at(30));
        governor.rest(true, at(100));
        let first = governor.take_delivered((5000, 70), at(150));
        assert_eq!(first, Delivered { acked: 5000, lost: 70, full: Duration::from_millis(80) });
        assert!(governor.is_full());
        let second = governor.take_delivered((5001, 70), at(160));
        assert_eq!(second, Delivered { acked: 1, lost: 0, full: Duration::from_millis(10) });
    }
}
