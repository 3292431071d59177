//! The receiving side of recovery: puts numbered payloads into order, asks for those that are missing,
//! and gives them up in time.
//!
//! ```text
//!   next ─▶ missing │ held │ held │ missing │ held        slots: from `next` to the highest number
//! ```
//!
//! A gap is asked for a little later than it is seen, because packets overtake each other, and once
//! more after as long again, because a NACK may be lost too. What is not there when the repetition
//! should have come is given up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stoq_buffer::PacketBuf;

use super::Counts;
use super::nack::{NUMBERS_MAX, RANGES_MAX, Range};

/// Numbers from the oldest missing one to the highest at most: what 2.5 Gbit/s bring in 20 ms.
/// A payload beyond is the sign of an outage, which ends all waiting.
pub(super) const SLOTS_MAX: usize = 4096;

/// Bytes held at most: as much as the sender keeps, so more would never be repaired.
pub(super) const HELD_BYTES_MAX: usize = super::sender::COPIES_BYTES_MAX;

/// Longest time that anything is held for order: on a longer path nobody who is in a hurry is served
/// by a repetition.
const HOLD_MAX: Duration = Duration::from_millis(300);

/// Least time to wait for packets that were overtaken: a burst of a busy host.
const OVERTAKEN: Duration = Duration::from_micros(500);

/// What the governor lets wait in the network, and a busy host besides.
const QUEUES: Duration = Duration::from_millis(4);

/// When each part of a repair is due, by the round trip time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// From the sight of a gap to the NACK, and from that to the second.
    allowance: Duration,
    /// From the sight of a gap to giving up.
    hold: Duration,
}

impl Pace {
    /// How long a sender's copy may be of use: the last packet of a burst is missed when the next burst
    /// comes, a round trip later, and asked for until the peer gives up.
    pub fn keep(self) -> Duration {
        self.hold * 3
    }

    /// For a path with this round trip time, and its variation.
    pub fn new(rtt: Duration, variation: Duration) -> Self {
        let allowance = (rtt / 16).max(OVERTAKEN);
        // Both allowances, a round trip, and what the queues of a path that is in full use add to it,
        // which the side that only receives does not see.
        let hold = rtt + allowance * 2 + (rtt / 4 + QUEUES).max((variation * 2).min(rtt));
        Self { allowance, hold: hold.min(HOLD_MAX) }
    }
}

/// Payloads in order.
#[derive(Default)]
pub(super) struct Receiver {
    /// The number that is delivered next.
    next: u32,
    /// What came of the numbers from `next` on; the first is missing, unless there is none.
    slots: VecDeque<Option<PacketBuf>>,
    bytes: usize,
    /// Missing numbers and when to ask for them, to ask again, and to give up: each in order of time
    /// and of number, and no longer than `slots`. Those that came meanwhile are passed over.
    ask: VecDeque<(Instant, u32)>,
    ask_again: VecDeque<(Instant, u32)>,
    give_up: VecDeque<(Instant, u32)>,
    /// Payloads in order, which the caller takes at once.
    ready: VecDeque<PacketBuf>,
}

impl Receiver {
    /// Takes a payload. Returns whether it was new.
    pub fn receive(
        &mut self,
        (number, repeated): (u32, bool),
        payload: PacketBuf,
        (now, pace): (Instant, Pace),
        counts: &mut Counts,
    ) -> bool {
        let ahead = number.wrapping_sub(self.next);
        if ahead > u32::MAX / 2 {
            return false;
        }
        let ahead = ahead as usize;
        if ahead >= SLOTS_MAX {
            self.skip_to(number, counts);
            return self.receive((number, repeated), payload, (now, pace), counts);
        }
        if self.slots.get(ahead).is_some_and(Option::is_some) {
            return false;
        }
        counts.recovered += u64::from(repeated);
        self.widen(ahead, now, pace);
        self.bytes += payload.len();
        self.slots[ahead] = Some(payload);
        self.deliver();
        while self.bytes > HELD_BYTES_MAX {
            self.give_up_oldest(counts);
        }
        true
    }

    /// Makes room up to this place; what is between is missing.
    fn widen(&mut self, ahead: usize, now: Instant, pace: Pace) {
        if self.give_up.len() + ahead >= self.slots.len() + SLOTS_MAX {
            self.tidy();
        }
        while self.slots.len() <= ahead {
            let at = self.slots.len();
            self.slots.push_back(None);
            if at < ahead {
                let number = self.next.wrapping_add(at as u32);
                self.ask.push_back((now + pace.allowance, number));
                self.give_up.push_back((now + pace.hold, number));
            }
        }
    }

    /// Takes numbers that came meanwhile out of the queues, so that these are no longer than `slots`.
    fn tidy(&mut self) {
        let (next, slots) = (self.next, &self.slots);
        let is_missing = |&(_, number): &(Instant, u32)| {
            slots.get(number.wrapping_sub(next) as usize).is_some_and(Option::is_none)
        };
        for queue in [&mut self.ask, &mut self.ask_again, &mut self.give_up] {
            queue.retain(is_missing);
        }
    }

    /// Hands on what is in order.
    fn deliver(&mut self) {
        while let Some(Some(_)) = self.slots.front() {
            if let Some(Some(payload)) = self.slots.pop_front() {
                self.bytes -= payload.len();
                self.ready.push_back(payload);
            }
            self.next = self.next.wrapping_add(1);
        }
        if self.slots.is_empty() {
            for queue in [&mut self.ask, &mut self.ask_again, &mut self.give_up] {
                queue.clear();
            }
        }
    }

    /// Gives the oldest missing number up.
    fn give_up_oldest(&mut self, counts: &mut Counts) {
        if self.slots.pop_front().is_some() {
            counts.given_up += 1;
            self.next = self.next.wrapping_add(1);
        }
        self.deliver();
    }

    /// After an outage: hands on all that is held, and goes on at this number.
    fn skip_to(&mut self, number: u32, counts: &mut Counts) {
        let missing = number.wrapping_sub(self.next) as usize - self.slots.len();
        counts.given_up += missing as u64;
        while !self.slots.is_empty() {
            self.give_up_oldest(counts);
        }
        self.next = number;
    }

    fn is_missing(&self, number: u32) -> bool {
        let ahead = number.wrapping_sub(self.next) as usize;
        self.slots.get(ahead).is_some_and(Option::is_none)
    }

    /// Gives up what should have come by now.
    pub fn handle_timeout(&mut self, now: Instant, counts: &mut Counts) {
        while let Some(&(_, number)) = self.give_up.front().filter(|due| due.0 <= now) {
            self.give_up.pop_front();
            // Whatever is missing before it was seen earlier, and has been given up.
            while self.is_missing(number) {
                self.give_up_oldest(counts);
            }
        }
    }

    /// When something is to be asked for or given up.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        for at in 0..3 {
            while let Some(&(_, number)) = self.queues()[at].front()
                && !self.is_missing(number)
            {
                self.queues()[at].pop_front();
            }
        }
        self.queues().iter().filter_map(|queue| queue.front().map(|due| due.0)).min()
    }

    fn queues(&mut self) -> [&mut VecDeque<(Instant, u32)>; 3] {
        [&mut self.ask, &mut self.ask_again, &mut self.give_up]
    }

    /// What to ask for now.
    pub fn missing(&mut self, now: Instant, pace: Pace) -> Vec<Range> {
        let mut ranges = Vec::new();
        let mut numbers = 0;
        for again in [true, false] {
            while numbers < NUMBERS_MAX {
                let queue = if again { &mut self.ask_again } else { &mut self.ask };
                let Some(&(_, number)) = queue.front().filter(|due| due.0 <= now) else { break };
                if self.is_missing(number) && !add(&mut ranges, number) {
                    return ranges;
                }
                numbers += 1;
                if again {
                    self.ask_again.pop_front();
                } else {
                    self.ask.pop_front();
                    self.ask_again.push_back((now + pace.allowance, number));
                }
            }
        }
        ranges
    }

    /// The next payload in order.
    pub fn poll(&mut self) -> Option<PacketBuf> {
        self.ready.pop_front()
    }

    /// Slots and bytes that are held.
    #[cfg(test)]
    pub fn held(&self) -> (usize, usize) {
        let sum = self.slots.iter().flatten().map(PacketBuf::len).sum::<usize>();
        assert_eq!(self.bytes, sum);
        let queues = [&self.ask, &self.ask_again, &self.give_up];
        assert!(queues.iter().all(|queue| queue.len() <= SLOTS_MAX));
        (self.slots.len(), self.bytes)
    }

    /// A receiver that expects this number.
    #[cfg(test)]
    pub fn starting_at(next: u32) -> Self {
        Self { next, ..Self::default() }
    }
}

/// Adds a number to the last range, or begins one; false if there is no room for it.
fn add(ranges: &mut Vec<Range>, number: u32) -> bool {
    if let Some(last) = ranges.last_mut()
        && last.first.wrapping_add(u32::from(last.count)) == number
    {
        last.count += 1;
        return true;
    }
    if ranges.len() == RANGES_MAX {
        return false;
    }
    ranges.push(Range { first: number, count: 1 });
    true
}
