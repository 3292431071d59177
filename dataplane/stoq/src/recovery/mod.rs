//! Recovery: payloads that a lossy path lost are sent again while that is still of use (context 3,
//! `docs/protocol.md`, "Recovery").
//!
//! ```text
//!   sender    payload ─▶ number, copy ─▶ …lost…          ─▶ again, past the queue ─▶
//!   receiver                     later numbers ─▶ hold ─▶ NACK …                   ─▶ in order ─▶
//! ```
//!
//! A layer around DATAGRAM payloads, blind to what is in them. A connection owns one from the moment
//! that both ends are known to speak it, and asks it before and after each datagram; time is an
//! argument. The receiver side is always ready; the sender side numbers only while its
//! [`policy`] says that the path loses packets.

mod nack;
mod policy;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use stoq_buffer::PacketBuf;
use stoq_telemetry::{DropReason, Drops};

use self::nack::{HEADER_LEN, Kind};
use self::policy::Policy;
use self::receiver::{Pace, Receiver};
use self::sender::Sender;
use crate::context::RECOVERY;
use crate::varint;

/// What became of lost payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Payloads sent again.
    pub resent: u64,
    /// Payloads of the peer that arrived because it sent them again.
    pub recovered: u64,
    /// Payloads of the peer that did not come in time.
    pub given_up: u64,
}

impl Counts {
    /// Adds those of another connection.
    pub fn add(&mut self, other: Self) {
        self.resent += other.resent;
        self.recovered += other.recovered;
        self.given_up += other.given_up;
    }
}

/// Recovery on one connection, both directions.
pub(crate) struct Recovery {
    sender: Sender,
    receiver: Receiver,
    policy: Policy,
    pace: Pace,
    counts: Counts,
}

impl Recovery {
    pub fn new(rtt: Duration, variation: Duration) -> Self {
        Self {
            sender: Sender::default(),
            receiver: Receiver::default(),
            policy: Policy::default(),
            pace: Pace::new(rtt, variation),
            counts: Counts::default(),
        }
    }

    /// Takes what is known of the path: round trip time and its variation.
    pub fn set_path(&mut self, rtt: Duration, variation: Duration) {
        self.pace = Pace::new(rtt, variation);
    }

    /// Takes the connection's totals of packets sent and lost, by which payloads are numbered or not,
    /// and forgets copies that are too old.
    pub fn look(&mut self, sent: u64, lost: u64, now: Instant) {
        self.policy.look(sent, lost, now);
        self.sender.expire(now, self.pace.keep());
    }

    /// Bytes that a payload now has in front of it.
    pub fn overhead(&self) -> usize {
        if self.policy.is_on() { HEADER_LEN } else { 0 }
    }

    /// Prepares a payload for sending.
    pub fn wrap(&mut self, payload: PacketBuf, now: Instant) -> PacketBuf {
        if !self.policy.is_on() {
            return payload;
        }
        self.sender.wrap(payload, now, self.pace.keep())
    }

    /// The NACK that is due.
    pub fn next_nack(&mut self, now: Instant) -> Option<PacketBuf> {
        let ranges = self.receiver.missing(now, self.pace);
        (!ranges.is_empty()).then(|| nack::write(&ranges))
    }

    /// The next payload of at most `max` bytes to send again, before any that waits.
    pub fn next_repeat(&mut self, max: usize, now: Instant) -> Option<PacketBuf> {
        let repeat = self.sender.repeat(max, now, self.pace.keep());
        self.counts.resent += u64::from(repeat.is_some());
        repeat
    }

    /// Takes a received datagram; gives it back if it is none of recovery's.
    pub fn receive(
        &mut self,
        mut datagram: PacketBuf,
        now: Instant,
        drops: &Drops,
    ) -> Option<PacketBuf> {
        let len = match varint::read(datagram.as_slice()) {
            Some((context, len)) if context == u64::from(RECOVERY) => len,
            _ => return Some(datagram),
        };
        datagram.advance(len);
        match nack::parse(datagram) {
            Ok(Kind::Payload { number, repeated, payload }) => {
                let (what, when) = ((number, repeated), (now, self.pace));
                if !self.receiver.receive(what, payload, when, &mut self.counts) {
                    drops.count(DropReason::RecoveryLate);
                }
            }
            Ok(Kind::Missing(ranges)) => self.sender.missing(&ranges),
            Err(_) => drops.count(DropReason::RecoveryInvalid),
        }
        None
    }

    /// The next payload in order.
    pub fn poll(&mut self) -> Option<PacketBuf> {
        self.receiver.poll()
    }

    /// Gives up what should have come by now.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.receiver.handle_timeout(now, &mut self.counts);
    }

    /// When [`Recovery::handle_timeout`] or [`Recovery::next_nack`] has something to do.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.receiver.poll_timeout()
    }

    /// What became of payloads since it was asked last.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}
