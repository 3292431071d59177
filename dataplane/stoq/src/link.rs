//! A link as one worker sees it: its slots, the connection that each uses, the one that is about
//! to replace it, and those that fade out. Pure state: connections are numbers here, and what must
//! happen to them is returned.
//!
//! A link has as many slots as the larger number of workers of its two ends; slot `s` belongs to
//! worker `s mod workers` on each side (`docs/protocol.md`, "Links and slots").

use std::time::{Duration, Instant};

use crate::control::GoawayReason;
use crate::dial::Dialler;

/// Number of a connection in the endpoint's table.
pub(crate) type Key = usize;

/// Most slots of a link: more workers than any edge host has cores.
pub(crate) const SLOTS_MAX: u8 = 64;

/// Two connections for one slot, one from each side, are the two halves of a simultaneous dial if the later
/// one began no longer than this after the earlier was ready: its first packet may have been on the way, and
/// may have been lost once. Otherwise the later one replaces the earlier (`docs/protocol.md`, section 8).
pub const SIMULTANEOUS: Duration = Duration::from_secs(1);

/// How long a replaced connection is kept after the last packet of the peer. Both ends move their flows
/// within one probe timeout of the successor's HELLO, and packets in flight need one round trip more.
const FADE: Duration = Duration::from_secs(2);

/// And after it was replaced at most: a process that hands over to another goes on sending on it until
/// that one has all links, which has a time limit of 30 s.
const FADE_MAX: Duration = Duration::from_secs(40);

/// Most replaced connections that fade at once; the oldest is closed early.
const FADING_MAX: usize = 4;

/// One connection of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub key: Key,
    pub dialled_here: bool,
    /// When its first packet was made, or came.
    pub began: Instant,
    pub ready_at: Instant,
}

/// A replaced connection.
#[derive(Clone, Copy, Debug)]
struct Fading {
    member: Member,
    since: Instant,
    until: Instant,
}

/// What becomes of a connection that completed its HELLO.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It carries traffic from now on (it may have to wait until the old one's is delivered).
    Taken,
    /// The other half of a simultaneous dial wins.
    Refused,
}

/// One lane of a link: flows are spread over slots, and a flow stays in its slot.
#[derive(Debug)]
pub(crate) struct Slot {
    pub number: u8,
    pub current: Option<Member>,
    /// The successor, and when flows move to it at the latest.
    pub next: Option<(Member, Instant)>,
    fading: Vec<Fading>,
    pub dialler: Dialler,
    /// The current connection does not answer: a new one is being dialled and replaces it at once.
    pub suspect: bool,
}

impl Slot {
    pub fn new(number: u8, dialler: Dialler) -> Self {
        Self { number, current: None, next: None, fading: Vec::new(), dialler, suspect: false }
    }

    /// Whether a packet given to this slot would be sent.
    pub fn is_up(&self) -> bool {
        self.current.is_some()
    }

    /// Whether this connection is the one to send on now.
    pub fn carries(&self, key: Key) -> bool {
        self.next.is_none() && self.current.is_some_and(|current| current.key == key)
    }

    /// Takes a ready connection. `local_wins` says whether connections dialled by this node win a
    /// simultaneous dial; `patience` is how long the old connection's packets may still take.
    pub fn admit(&mut self, new: Member, local_wins: bool, patience: Duration) -> Admission {
        let now = new.ready_at;
        let Some(old) = self.current else {
            self.current = Some(new);
            self.settled(now);
            return Admission::Taken;
        };
        let simultaneous = old.dialled_here != new.dialled_here
            && new.began.saturating_duration_since(old.ready_at) < SIMULTANEOUS;
        if simultaneous && new.dialled_here != local_wins && !self.suspect {
            return Admission::Refused;
        }
        if let Some((unused, _)) = self.next.take() {
            self.fade(unused, now);
        }
        self.next = Some((new, now + patience));
        if self.suspect {
            self.switch(now);
        }
        self.settled(now);
        Admission::Taken
    }

    fn settled(&mut self, now: Instant) {
        self.suspect = false;
        self.dialler.connected(now);
    }

    /// The peer takes leave of a connection: dials another as it asks. `jitter` is a random number in
    /// 0..1.
    pub fn goaway(&mut self, reason: GoawayReason, now: Instant, jitter: f32) {
        match reason {
            GoawayReason::Shutdown => {}
            GoawayReason::Restart | GoawayReason::Replace => self.dialler.want(now),
            GoawayReason::Unknown(_) => self.dialler.want_later(now, jitter),
        }
    }

    /// Whether the queue must hold its packets, because those of the old connection are on the way.
    pub fn is_switching(&self) -> bool {
        self.next.is_some()
    }

    /// Moves to the successor once the old connection has nothing in flight, or time is up.
    pub fn poll_switch(&mut self, drained: bool, now: Instant) {
        if self.next.is_some_and(|(_, by)| drained || now >= by) {
            self.switch(now);
        }
    }

    fn switch(&mut self, now: Instant) {
        let Some((next, _)) = self.next.take() else { return };
        if let Some(old) = self.current.replace(next) {
            self.fade(old, now);
        }
    }

    fn fade(&mut self, member: Member, now: Instant) {
        self.fading.push(Fading { member, since: now, until: now + FADE });
    }

    /// A replaced connection whose time is over, to be closed; `heard` says when the last packet came on
    /// one.
    pub fn poll_faded(
        &mut self,
        now: Instant,
        heard: impl Fn(Key) -> Option<Instant>,
    ) -> Option<Key> {
        let crowded = self.fading.len() > FADING_MAX;
        let oldest = self.fading.first_mut()?;
        if now >= oldest.until && !crowded {
            let last = heard(oldest.member.key).unwrap_or(oldest.since);
            oldest.until = (last.max(oldest.since) + FADE).min(oldest.since + FADE_MAX);
        }
        (now >= oldest.until || crowded).then(|| self.fading.remove(0).member.key)
    }

    /// A connection is gone. One that it had replaced, and that is still open, takes over again. Returns
    /// whether the slot went down with it.
    pub fn lost(&mut self, key: Key, now: Instant) -> bool {
        self.fading.retain(|fading| fading.member.key != key);
        if self.next.is_some_and(|(next, _)| next.key == key) {
            self.next = None;
        }
        if self.current.is_none_or(|current| current.key != key) {
            return false;
        }
        self.current = None;
        self.switch(now);
        if self.current.is_none() {
            self.current = self.fading.pop().map(|fading| fading.member);
        }
        self.current.is_none()
    }

    /// When [`Slot::poll_switch`], [`Slot::poll_faded`] or the dialler has something to do.
    pub fn timeout(&self) -> Option<Instant> {
        let switch = self.next.map(|(_, by)| by);
        let fade = self.fading.first().map(|fading| fading.until);
        [switch, fade, self.dialler.timeout()].into_iter().flatten().min()
    }

    /// Every connection of the slot.
    pub fn members(&self) -> impl Iterator<Item = Key> + '_ {
        let next = self.next.iter().map(|(member, _)| member);
        let fading = self.fading.iter().map(|fading| &fading.member);
        self.current.iter().chain(next).chain(fading).map(|member| member.key)
    }
}

/// The numbers of the slots that belong to `worker`, in a link between nodes with these workers.
pub(crate) fn slots_of(worker: u8, workers: u8, peer_workers: u8) -> impl Iterator<Item = u8> {
    let count = workers.max(peer_workers).clamp(1, SLOTS_MAX);
    (worker..count).step_by(usize::from(workers.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn slot() -> Slot {
        Slot::new(0, Dialler::new(&["10.0.0.1:9292".parse().unwrap()]))
    }

    fn member(key: Key, dialled_here: bool, ready_at: Instant) -> Member {
        Member { key, dialled_here, began: ready_at, ready_at }
    }

    #[test]
    fn both_ends_of_a_simultaneous_dial_keep_the_same_connection() {
        let now = Instant::now();
        // Connection 1 was dialled by the node that wins, 2 by the other; any order of arrival.
        for first in [1, 2] {
            for winner_side in [true, false] {
                let mut slot = slot();
                let second = 3 - first;
                let make = |key| member(key, (key == 1) == winner_side, now);
                assert_eq!(slot.admit(make(first), winner_side, PATIENCE), Admission::Taken);
                let admitted = slot.admit(make(second), winner_side, PATIENCE);
                assert_eq!(admitted == Admission::Taken, second == 1);
                slot.poll_switch(true, now);
                assert_eq!(slot.current.unwrap().key, 1);
            }
        }
    }

    #[test]
    fn one_that_was_begun_when_the_other_was_known_replaces_it() {
        let now = Instant::now();
        for local_wins in [true, false] {
            let mut slot = slot();
            slot.admit(member(1, local_wins, now), local_wins, PATIENCE);
            // However long its handshake takes.
            let half = Member { began: now, ..member(2, !local_wins, now + SIMULTANEOUS * 4) };
            assert_eq!(slot.admit(half, local_wins, PATIENCE), Admission::Refused);
            let later = member(3, !local_wins, now + SIMULTANEOUS);
            assert_eq!(slot.admit(later, local_wins, PATIENCE), Admission::Taken);
            slot.poll_switch(true, now);
            assert_eq!(slot.current.unwrap().key, 3);
        }
    }

    #[test]
    fn a_replacement_waits_for_the_old_packets_but_not_for_ever() {
        let now = Instant::now();
        let mut slot = slot();
        slot.admit(member(1, true, now), true, PATIENCE);
        slot.admit(member(2, true, now + SIMULTANEOUS), true, PATIENCE);
        assert!(slot.is_switching());
        slot.poll_switch(false, now + SIMULTANEOUS);
        assert_eq!(slot.current.unwrap().key, 1);
        slot.poll_switch(false, now + SIMULTANEOUS + PATIENCE);
        assert_eq!(slot.current.unwrap().key, 2);
        let moved = now + SIMULTANEOUS + PATIENCE;
        assert_eq!(slot.poll_faded(moved, |_| None), None);
        assert_eq!(slot.poll_faded(moved + FADE, |_| None), Some(1));
    }

    #[test]
    fn a_replaced_connection_stays_while_packets_come_on_it_but_not_for_ever() {
        let now = Instant::now();
        let mut slot = slot();
        slot.admit(member(1, true, now), true, PATIENCE);
        slot.admit(member(2, true, now), true, PATIENCE);
        slot.poll_switch(true, now);
        let mut at = now;
        while at < now + FADE_MAX {
            let heard = at - FADE / 4;
            assert_eq!(slot.poll_faded(at, |_| Some(heard)), None);
            let next = slot.timeout().unwrap();
            assert!(next > at, "a time that is over would keep the worker busy");
            at = next;
        }
        assert_eq!(slot.poll_faded(at, |_| Some(at)), Some(1));
    }

    #[test]
    fn a_replaced_connection_takes_over_again_when_its_successor_is_lost() {
        let now = Instant::now();
        let mut slot = slot();
        for key in 1..=3 {
            slot.admit(member(key, true, now), true, PATIENCE);
            slot.poll_switch(true, now);
        }
        assert!(!slot.lost(3, now));
        assert_eq!(slot.current.unwrap().key, 2);
        assert_eq!(slot.members().collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_silent_connection_is_replaced_at_once() {
        let now = Instant::now();
        let mut slot = slot();
        slot.admit(member(1, true, now), true, PATIENCE);
        slot.suspect = true;
        assert_eq!(slot.admit(member(2, false, now), true, PATIENCE), Admission::Taken);
        assert_eq!(slot.current.unwrap().key, 2);
        assert!(!slot.suspect);
    }

    #[test]
    fn the_successor_takes_over_when_the_current_one_dies() {
        let now = Instant::now();
        let mut slot = slot();
        slot.admit(member(1, true, now), true, PATIENCE);
        slot.admit(member(2, true, now), true, PATIENCE);
        assert!(!slot.lost(1, now));
        assert_eq!(slot.current.unwrap().key, 2);
        assert!(slot.lost(2, now));
        assert!(!slot.is_up());
    }

    #[test]
    fn a_peer_that_takes_leave_is_dialled_as_it_asks() {
        let now = Instant::now();
        let later = now + Duration::from_millis(500);
        for (reason, due) in [
            (GoawayReason::Shutdown, None),
            (GoawayReason::Restart, Some(now)),
            (GoawayReason::Replace, Some(now)),
            (GoawayReason::Unknown(200), Some(later)),
        ] {
            let mut slot = slot();
            slot.admit(member(1, true, now), true, PATIENCE);
            slot.goaway(reason, now, 0.5);
            assert_eq!(slot.dialler.timeout(), due, "{reason:?}");
        }
    }

    #[test]
    fn fading_connections_are_bounded() {
        let now = Instant::now();
        let mut slot = slot();
        for key in 0..10 {
            slot.admit(member(key, true, now), true, PATIENCE);
            slot.poll_switch(true, now);
        }
        let mut closed = 0;
        while slot.poll_faded(now, |_| None).is_some() {
            closed += 1;
        }
        assert_eq!(closed, 9 - FADING_MAX);
        assert_eq!(slot.members().count(), 1 + FADING_MAX);
    }

    #[test]
    fn every_slot_has_one_worker_on_each_side() {
        for (ours, theirs) in [(1, 1), (1, 4), (4, 1), (3, 2), (2, 64)] {
            let mut seen: Vec<u8> =
                (0..ours).flat_map(|worker| slots_of(worker, ours, theirs)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..ours.max(theirs)).collect::<Vec<_>>());
        }
    }
}
