//! When and where to dial: happy eyeballs (RFC 8305) inside a round, backoff with jitter between
//! rounds. Pure state, time is an argument; each slot of a link owns one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time between attempts at two endpoints of one round: the "Connection Attempt Delay" of
/// RFC 8305 §5, which recommends 250 ms.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// First pause after a round that led to nothing.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Longest pause towards a peer that has not been seen for a while.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Longest pause while the peer was connected a short time ago. It keeps recovery within 3 s of the
/// network's return, because a new attempt at each endpoint begins soon after it: the pause and its
/// jitter, 0.625 s, and the delays of the other endpoints, 0.25 s each. For two endpoints that is
/// 0.9 s, for the most that are tried 2.4 s; the rest is for the kernel's resolution of the
/// neighbour, which repeats a lost question after 1 s, and for the handshake. Attempts that began
/// before the return add nothing: they repeat their packets ever more rarely, but hold up no other.
const BACKOFF_MAX_FRESH: Duration = Duration::from_millis(500);

/// How long a peer counts as connected a short time ago.
const FRESH: Duration = Duration::from_secs(600);

/// First pause before the preferred family is tried beside a connection over the other one: by then
/// a node that starts at the same time has started.
const UPGRADE_FIRST: Duration = Duration::from_secs(1);

/// Longest such pause: what a family that is not there costs.
const UPGRADE_MAX: Duration = Duration::from_secs(600);

/// Most endpoints tried in one round; the configuration refuses more.
pub const ENDPOINTS_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing to do.
    Idle,
    /// The next attempt, at `endpoints[next]`, is due at `at`.
    Round { next: usize, at: Instant },
}

/// Decides when a connection is attempted, and at which endpoint.
#[derive(Debug)]
pub struct Dialler {
    endpoints: Vec<SocketAddr>,
    state: State,
    rounds_failed: u32,
    connected_last: Option<Instant>,
    /// When the preferred family is tried again, while a connection over the other one is there.
    upgrade: Option<Instant>,
    upgrade_pause: Duration,
}

impl Dialler {
    /// A dialler for these endpoints, tried in RFC 8305 §4 order: families take turns, IPv6 first.
    #[must_use]
    pub fn new(endpoints: &[SocketAddr]) -> Self {
        Self {
            endpoints: interleave(endpoints),
            state: State::Idle,
            rounds_failed: 0,
            connected_last: None,
            upgrade: None,
            upgrade_pause: UPGRADE_FIRST,
        }
    }

    /// Whether there is an endpoint to dial at all.
    #[must_use]
    pub fn can_dial(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Whether attempts are being made or planned.
    #[must_use]
    pub fn is_dialling(&self) -> bool {
        self.state != State::Idle
    }

    /// A connection is wanted from `at` on; does nothing if one is being dialled already.
    pub fn want(&mut self, at: Instant) {
        if self.can_dial() && self.state == State::Idle {
            self.state = State::Round { next: 0, at };
        }
    }

    /// A connection is wanted after a pause, as after a round that led to nothing.
    pub fn want_later(&mut self, now: Instant, jitter: f32) {
        if !self.is_dialling() {
            let pause = self.backoff(now, jitter);
            self.want(now + pause);
        }
    }

    /// A connection is there: stops dialling.
    pub fn connected(&mut self, now: Instant) {
        self.state = State::Idle;
        self.rounds_failed = 0;
        self.connected_last = Some(now);
        self.upgrade = None;
    }

    /// The connection that is there was dialled at `endpoint`. If another family is preferred, an
    /// endpoint of that one is tried from time to time.
    pub fn reached(&mut self, endpoint: SocketAddr, now: Instant) {
        let prefers = |first: &SocketAddr| first.is_ipv6() != endpoint.is_ipv6();
        if self.endpoints.first().is_some_and(prefers) {
            self.upgrade = Some(now + self.upgrade_pause);
        } else {
            self.upgrade_pause = UPGRADE_FIRST;
        }
    }

    /// The endpoint to dial now, if one is due. `jitter` is a random number in 0..1.
    pub fn poll(&mut self, now: Instant, jitter: f32) -> Option<SocketAddr> {
        let State::Round { next, at } = self.state else { return self.poll_upgrade(now) };
        if now < at {
            return None;
        }
        let endpoint = *self.endpoints.get(next)?;
        self.state = if next + 1 < self.endpoints.len() {
            State::Round { next: next + 1, at: now + ATTEMPT_DELAY }
        } else {
            State::Round { next: 0, at: now + self.backoff(now, jitter) }
        };
        Some(endpoint)
    }

    fn poll_upgrade(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.upgrade.is_none_or(|at| now < at) {
            return None;
        }
        self.upgrade_pause = (self.upgrade_pause * 2).min(UPGRADE_MAX);
        self.upgrade = Some(now + self.upgrade_pause);
        self.endpoints.first().copied()
    }

    /// When [`Dialler::poll`] has something next.
    #[must_use]
    pub fn timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle => self.upgrade,
            State::Round { at, .. } => Some(at),
        }
    }

    /// The pause after a round: doubles, spread over ±25 % so that nodes do not fall in step.
    fn backoff(&mut self, now: Instant, jitter: f32) -> Duration {
        let fresh = self.connected_last.is_some_and(|t| now.saturating_duration_since(t) < FRESH);
        let max = if fresh { BACKOFF_MAX_FRESH } else { BACKOFF_MAX };
        let doubled = BACKOFF_FIRST.saturating_mul(1 << self.rounds_failed.min(10));
        self.rounds_failed = self.rounds_failed.saturating_add(1);
        doubled.min(max).mul_f32(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

fn interleave(endpoints: &[SocketAddr]) -> Vec<SocketAddr> {
    let (mut six, mut four): (Vec<SocketAddr>, Vec<SocketAddr>) =
        endpoints.iter().partition(|endpoint| endpoint.is_ipv6());
    six.reverse();
    four.reverse();
    let mut order = Vec::with_capacity(endpoints.len().min(ENDPOINTS_MAX));
    while order.len() < ENDPOINTS_MAX && !(six.is_empty() && four.is_empty()) {
        order.extend(six.pop());
        order.extend(four.pop());
    }
    order.truncate(ENDPOINTS_MAX);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_and_ipv6_is_first() {
        let dialler = Dialler::new(&[addr("10.0.0.1:1"), addr("10.0.0.2:1"), addr("[::1]:1")]);
        assert_eq!(dialler.endpoints, [addr("[::1]:1"), addr("10.0.0.1:1"), addr("10.0.0.2:1")]);
    }

    #[test]
    fn the_second_endpoint_is_tried_while_the_first_is_silent() {
        let start = Instant::now();
        let mut dialler = Dialler::new(&[addr("[::1]:1"), addr("10.0.0.1:1")]);
        assert_eq!(dialler.poll(start, 0.5), None);
        dialler.want(start);
        assert_eq!(dialler.poll(start, 0.5), Some(addr("[::1]:1")));
        assert_eq!(dialler.poll(start + Duration::from_millis(249), 0.5), None);
        assert_eq!(dialler.poll(start + ATTEMPT_DELAY, 0.5), Some(addr("10.0.0.1:1")));
        dialler.connected(start + ATTEMPT_DELAY);
        assert_eq!(dialler.timeout(), None);
    }

    #[test]
    fn pauses_double_to_their_maximum_and_stay_short_for_a_fresh_peer() {
        for (fresh, longest) in [(false, BACKOFF_MAX), (true, BACKOFF_MAX_FRESH)] {
            let mut now = Instant::now();
            let mut dialler = Dialler::new(&[addr("10.0.0.1:1")]);
            if fresh {
                dialler.connected(now);
            }
            dialler.want(now);
            let mut last = Duration::ZERO;
            for _ in 0..12 {
                assert!(dialler.poll(now, 0.5).is_some());
                let at = dialler.timeout().unwrap();
                last = at - now;
                assert!(last <= longest);
                now = at;
            }
            assert_eq!(last, longest);
        }
    }

    #[test]
    fn the_preferred_family_is_tried_ever_more_rarely_beside_the_other() {
        let mut now = Instant::now();
        let (six, four) = (addr("[::1]:1"), addr("10.0.0.1:1"));
        let mut dialler = Dialler::new(&[four, six]);
        dialler.connected(now);
        dialler.reached(six, now);
        assert_eq!(dialler.timeout(), None);
        dialler.reached(four, now);
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            let at = dialler.timeout().unwrap();
            assert_eq!(at - now, Duration::from_secs(pause));
            assert_eq!(dialler.poll(at, 0.5), Some(six));
            now = at;
        }
        // A connection that fails is more urgent.
        dialler.want(now);
        assert_eq!(dialler.timeout(), Some(now));
        dialler.connected(now);
        assert_eq!(dialler.timeout(), None);
    }

    #[test]
    fn every_endpoint_of_a_fresh_peer_is_tried_again_in_time() {
        for (endpoints, longest_ms) in [(1, 625), (2, 875), (ENDPOINTS_MAX, 2375)] {
            let all: Vec<_> = (0..endpoints).map(|n| addr(&format!("10.0.0.{n}:1"))).collect();
            let mut now = Instant::now();
            let mut dialler = Dialler::new(&all);
            dialler.connected(now);
            dialler.want(now);
            let mut tried = std::collections::HashMap::new();
            for _ in 0..20 * endpoints {
                let endpoint = dialler.poll(now, 1.0).unwrap();
                if let Some(before) = tried.insert(endpoint, now) {
                    assert!(now - before <= Duration::from_millis(longest_ms));
                }
                now = dialler.timeout().unwrap();
            }
            assert_eq!(tried.len(), endpoints);
        }
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        for jitter in [0.0, 1.0] {
            let now = Instant::now();
            let mut dialler = Dialler::new(&[addr("10.0.0.1:1")]);
            dialler.want(now);
            dialler.poll(now, jitter);
            let pause = dialler.timeout().unwrap() - now;
            assert!(pause >= BACKOFF_FIRST.mul_f32(0.74) && pause <= BACKOFF_FIRST.mul_f32(1.26));
        }
    }

    #[test]
    fn a_peer_without_endpoints_is_never_dialled() {
        let mut dialler = Dialler::new(&[]);
        dialler.want(Instant::now());
        assert!(!dialler.is_dialling());
    }
}
