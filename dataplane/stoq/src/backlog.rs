//! What waits in a slot until its connection may send: the fair queue, and the rest of a packet
//! that had to be cut.

use std::collections::VecDeque;
use std::time::Instant;

use stoq_buffer::PacketBuf;
use stoq_telemetry::{DropReason, Drops};

use crate::context::{self, CONTEXT_LEN};
use crate::fragment::Fragmenter;

/// The packets of one slot.
pub(crate) struct Backlog {
    queue: VecDeque<PacketBuf>,
    bytes: usize,
    bytes_max: usize,
    fragmenter: Fragmenter,
    /// Fragments of the packet that is being sent, at most `fragment::MAX_FRAGMENTS`.
    pieces: VecDeque<PacketBuf>,
}

impl Backlog {
    /// An empty queue that holds at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            bytes_max,
            fragmenter: Fragmenter::default(),
            pieces: VecDeque::new(),
        }
    }

    /// Queues an inner packet.
    pub fn push(&mut self, packet: PacketBuf, _flow: u32, _now: Instant, drops: &Drops) {
        if self.bytes + packet.len() > self.bytes_max {
            drops.count(DropReason::QueueFull);
            return;
        }
        self.bytes += packet.len();
        self.queue.push_back(packet);
    }

    /// The next DATAGRAM payload of at most `max` bytes.
    pub fn next(&mut self, max: usize, _now: Instant, drops: &Drops) -> Option<PacketBuf> {
        loop {
            // Pieces cut for a larger path than there is now are useless, and so are the others.
            if self.pieces.front().is_some_and(|piece| piece.len() > max) {
                self.pieces.clear();
            }
            if let Some(piece) = self.pieces.pop_front() {
                return Some(piece);
            }
            let mut packet = self.queue.pop_front()?;
            self.bytes -= packet.len();
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

    /// Inner bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
