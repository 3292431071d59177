//! What waits in a slot until its connection may send: the fair queue, and the rest of a packet
//! that had to be cut.

use std::collections::VecDeque;
use std::time::Instant;

use stoq_buffer::PacketBuf;
use stoq_telemetry::{DropReason, Drops};

use crate::context::{self, CONTEXT_LEN};
use crate::fragment::Fragmenter;
use crate::profile::LinkProfile;
use crate::queue::{FqCodel, QueueConfig, Queued, ecn};

/// One inner packet that waits.
#[derive(Debug)]
struct Inner(PacketBuf);

impl Queued for Inner {
    fn len_bytes(&self) -> usize {
        self.0.len()
    }

    fn mark_ce(&mut self) -> bool {
        ecn::mark_ce(self.0.as_mut_slice())
    }
}

/// The packets of one slot.
pub(crate) struct Backlog {
    queue: FqCodel<Inner>,
    fragmenter: Fragmenter,
    /// Fragments of the packet that is being sent, at most `fragment::MAX_FRAGMENTS`.
    pieces: VecDeque<PacketBuf>,
}

impl Backlog {
    /// An empty queue that holds at most `max_bytes` bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            queue: FqCodel::new(QueueConfig { max_bytes, ..QueueConfig::default() }),
            fragmenter: Fragmenter::default(),
            pieces: VecDeque::new(),
        }
    }

    /// Uses these parameters from now on.
    pub fn tune(&mut self, profile: &LinkProfile) {
        let LinkProfile { queue_packets, quantum_bytes, codel_target, .. } = *profile;
        self.queue.tune(queue_packets, quantum_bytes, codel_target);
    }

    /// Queues an inner packet of the flow with this hash.
    pub fn push(&mut self, packet: PacketBuf, flow: u32, now: Instant, drops: &Drops) {
        self.queue.enqueue(Inner(packet), flow, now, |_, reason| drops.count(reason));
    }

    /// The next DATAGRAM payload of at most `max` bytes.
    pub fn next(&mut self, max: usize, now: Instant, drops: &Drops) -> Option<PacketBuf> {
        loop {
            if let Some(piece) = self.next_piece(max, drops) {
                return Some(piece);
            }
            let Inner(mut packet) = self.queue.dequeue(now, |_, reason| drops.count(reason))?;
            if packet.len() + CONTEXT_LEN <= max {
                context::seal(&mut packet);
                return Some(packet);
            }
            match self.fragmenter.split(packet, max) {
                Ok(pieces) => self.pieces.extend(pieces),
                Err(_) => drops.count(DropReason::TooBig),
            }
        }
    }

    /// The next piece of the packet that was cut last: its pieces leave on one connection.
    pub fn next_piece(&mut self, max: usize, drops: &Drops) -> Option<PacketBuf> {
        if self.pieces.front().is_some_and(|piece| piece.len() > max) {
            // Cut for a larger path than there is now: useless, and so are the others.
            drops.count(DropReason::TooBig);
            self.pieces.clear();
        }
        self.pieces.pop_front()
    }

    /// Whether a packet has left in part.
    pub fn is_mid_packet(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Inner packets that wait.
    pub fn packets(&self) -> usize {
        self.queue.packets()
    }
}
