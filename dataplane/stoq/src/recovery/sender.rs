//! The sending side of recovery: numbers payloads, keeps copies for a little more than a round trip,
//! and gives those out again that the peer misses.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stoq_buffer::PacketBuf;

use super::nack::{self, NUMBERED, REPEATED, Range};

/// Bytes of copies that a connection keeps at most: what 1 Gbit/s sends in 33 ms. A longer or a
/// faster path loses its oldest copies, and with them the repair, not the payload.
pub(super) const COPIES_BYTES_MAX: usize = 4 << 20;

/// How often one payload is sent again at most. Twice, because a NACK or the repetition may be lost
/// as well; more would add to what a bad path has to carry.
const REPEATS_MAX: u8 = 2;

struct Copy {
    payload: PacketBuf,
    sent_at: Instant,
    repeats: u8,
    waits: bool,
}

/// Numbers, and copies of what was sent last.
#[derive(Default)]
pub(super) struct Sender {
    /// Number of the next payload.
    next: u32,
    /// The copies of the last numbers, up to `next`, in order.
    copies: VecDeque<Copy>,
    bytes: usize,
    /// Numbers to be sent again: each at most once in here, so no more than copies.
    wanted: VecDeque<u32>,
}

impl Sender {
    /// Numbers a payload and keeps a copy of it.
    pub fn wrap(&mut self, mut payload: PacketBuf, now: Instant, keep: Duration) -> PacketBuf {
        self.expire(now, keep);
        let copy = PacketBuf::from_slice(payload.as_slice());
        self.bytes += copy.len();
        self.copies.push_back(Copy { payload: copy, sent_at: now, repeats: 0, waits: false });
        while self.bytes > COPIES_BYTES_MAX {
            self.forget_oldest();
        }
        nack::number(&mut payload, self.next, NUMBERED);
        self.next = self.next.wrapping_add(1);
        payload
    }

    /// Forgets the copies that nobody can need any more.
    pub fn expire(&mut self, now: Instant, keep: Duration) {
        let old = |copy: &Copy| now.saturating_duration_since(copy.sent_at) > keep;
        while self.copies.front().is_some_and(old) {
            self.forget_oldest();
        }
        if self.copies.is_empty() {
            // An idle connection holds no memory for it.
            self.copies = VecDeque::new();
            self.wanted = VecDeque::new();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(copy) = self.copies.pop_front() {
            self.bytes -= copy.payload.len();
        }
    }

    /// Where the copy of this number is.
    fn place(&self, number: u32) -> Option<usize> {
        let back = self.next.wrapping_sub(number) as usize;
        if back == 0 { None } else { self.copies.len().checked_sub(back) }
    }

    /// The peer misses these. What was never sent, is too old, or was sent again often enough is
    /// passed over.
    pub fn missing(&mut self, ranges: &[Range]) {
        for range in ranges {
            for number in (0..u32::from(range.count)).map(|at| range.first.wrapping_add(at)) {
                let Some(place) = self.place(number) else { continue };
                let copy = &mut self.copies[place];
                if copy.repeats < REPEATS_MAX && !copy.waits {
                    copy.waits = true;
                    self.wanted.push_back(number);
                }
            }
        }
    }

    /// The next payload to send again, if one is still useful and fits `max` bytes.
    pub fn repeat(&mut self, max: usize, now: Instant, keep: Duration) -> Option<PacketBuf> {
        self.expire(now, keep);
        while let Some(number) = self.wanted.pop_front() {
            let Some(place) = self.place(number) else { continue };
            let copy = &mut self.copies[place];
            copy.waits = false;
            copy.repeats += 1;
            if copy.payload.len() + nack::HEADER_LEN <= max {
                let mut again = PacketBuf::from_slice(copy.payload.as_slice());
                nack::number(&mut again, number, REPEATED);
                return Some(again);
            }
        }
        None
    }

    /// Bytes of copies now.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        assert_eq!(self.bytes, self.copies.iter().map(|copy| copy.payload.len()).sum::<usize>());
        assert!(self.wanted.len() <= self.copies.len().max(self.wanted.capacity()));
        self.bytes
    }

    /// A sender whose next number is this.
    #[cfg(test)]
    pub fn starting_at(next: u32) -> Self {
        Self { next, ..Self::default() }
    }
}
