//! What waits in a slot until its connection may send: the fair queue, and the rest of a packet
//! that had to be cut.

use std::collections::VecDeque;
use std::time::Instant;

use stoq_buffer::{PacketBuf, Slice};
use stoq_telemetry::{DropReason, Drops};

use crate::context::{self, CONTEXT_LEN};
use crate::fragment::Fragmenter;
use crate::profile::LinkProfile;
use crate::queue::{FqCodel, QueueConfig, Queued, ecn};
use crate::slice;

/// What waits.
#[derive(Debug)]
enum Waiting {
    /// An inner packet.
    Packet(PacketBuf),
    /// A slice, sealed for the path as it was, and whether its flow understands marks.
    Slice(PacketBuf, bool),
}

impl Queued for Waiting {
    fn len_bytes(&self) -> usize {
        match self {
            Self::Packet(bytes) | Self::Slice(bytes, _) => bytes.len(),
        }
    }

    fn mark_ce(&mut self) -> bool {
        match self {
            Self::Packet(packet) => ecn::mark_ce(packet.as_mut_slice()),
            Self::Slice(sealed, understood) => {
                if *understood {
                    slice::mark_ce(sealed.as_mut_slice());
                }
                *understood
            }
        }
    }
}

/// The packets of one slot.
pub(crate) struct Backlog {
    queue: FqCodel<Waiting>,
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
        self.queue.enqueue(Waiting::Packet(packet), flow, now, |_, reason| drops.count(reason));
    }

    /// Queues a slice of a super-packet of this flow, which may understand marks of congestion.
    pub fn push_slice(
        &mut self,
        slice: Slice,
        understands_marks: bool,
        flow: u32,
        now: Instant,
        drops: &Drops,
    ) {
        let slice = Waiting::Slice(slice::seal(slice), understands_marks);
        self.queue.enqueue(slice, flow, now, |_, reason| drops.count(reason));
    }

    /// The next DATAGRAM payload of at most `max` bytes.
    pub fn next(&mut self, max: usize, now: Instant, drops: &Drops) -> Option<PacketBuf> {
        loop {
            if let Some(piece) = self.next_piece(max, drops) {
                return Some(piece);
            }
            let mut packet = match self.queue.dequeue(now, |_, reason| drops.count(reason))? {
                Waiting::Slice(sealed, _) if sealed.len() <= max => return Some(sealed),
                // Cut for a larger path than there is now.
                Waiting::Slice(sealed, _) => {
                    match slice::cut(sealed, max) {
                        Some(both) => self.pieces.extend(both),
                        None => drops.count(DropReason::TooBig),
                    }
                    continue;
                }
                Waiting::Packet(packet) => packet,
            };
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

    /// Gives back the memory of a queue that is empty.
    pub fn release(&mut self) {
        self.queue.release();
        self.pieces.shrink_to_fit();
    }

    /// Inner packets that wait.
    pub fn packets(&self) -> usize {
        self.queue.packets()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::context::Payload;

    /// Takes slices out of a queue that stands far too long; returns how many were marked, and how many
    /// dropped for the delay.
    fn of_a_standing_queue(understands_marks: bool) -> (usize, u64) {
        let (mut backlog, drops) = (Backlog::new(1 << 20), Drops::default());
        let mut now = Instant::now();
        for offset in 0..200 {
            let body = PacketBuf::from_slice(&[0; 1000]);
            let slice = Slice { number: 1, offset, congested: false, head: None, body };
            backlog.push_slice(slice, understands_marks, 7, now, &drops);
        }
        now += Duration::from_millis(200);
        let mut marked = 0;
        while let Some(sealed) = backlog.next(1400, now, &drops) {
            now += Duration::from_millis(2);
            let Ok(Payload::Slice(slice)) = context::parse(sealed) else { panic!("no slice") };
            marked += usize::from(slice.congested);
        }
        (marked, drops.get(DropReason::CodelDrop))
    }

    #[test]
    fn slices_that_waited_too_long_are_marked_or_dropped() {
        let (marked, dropped) = of_a_standing_queue(true);
        assert!(marked >= 3 && dropped == 0, "{marked} marked, {dropped} dropped");
        let (marked, dropped) = of_a_standing_queue(false);
        assert!(marked == 0 && dropped >= 3, "{marked} marked, {dropped} dropped");
    }

    #[test]
    fn a_slice_for_a_larger_path_is_cut_again() {
        let (mut backlog, drops) = (Backlog::new(1 << 20), Drops::default());
        let now = Instant::now();
        for len in [1300, 100] {
            let body = PacketBuf::from_slice(&vec![0; len]);
            let slice = Slice { number: 1, offset: 0, congested: false, head: None, body };
            backlog.push_slice(slice, false, 7, now, &drops);
        }
        let mut next = || backlog.next(1200, now, &drops).map(|sealed| sealed.len());
        assert_eq!([next(), next(), next(), next()], [Some(1200), Some(112), Some(106), None]);
        assert_eq!(drops.get(DropReason::TooBig), 0);
    }
}
