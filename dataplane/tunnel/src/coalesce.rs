//! Coalescing: packets received from links become super-packets, so that the kernel is entered
//! once for many and walks its stack once for many.
//!
//! A [`Coalescer`] belongs to one worker. Within a burst it keeps the packets of a few flows open;
//! a packet that continues its flow joins it, any other one sends its flow on first, so the order
//! within a flow never changes. At the end of the burst everything goes. What was merged is what
//! segmentation of the super-packet gives back, byte for byte (but for the identification of IPv4
//! packets that are never fragmented, which means nothing: RFC 6864 §4.1).
//!
//! A super-packet is written with a checksum for the kernel to complete, which hides what the
//! received checksums said. So only packets whose checksum was found right are merged; one with a
//! wrong checksum goes on alone, as it came, for its receiver to refuse
//! (docs/decisions/0003-inner-checksums.md).

use std::io::{self, IoSlice};

use stoq_buffer::PacketBuf;
use stoq_telemetry::{DropReason, Drops};

use crate::device::{Offloads, Sink};
use crate::packet::{Fragment, View, protocol};
use crate::vnet::{self, VnetHeader};

mod flow;

use flow::{Flow, Joined, Piece};

/// Flows that are open at a time. A burst of 64 packets rarely holds more that have two packets in
/// a row, and the search through all of them stays within two cache lines.
pub const FLOWS_MAX: usize = 16;

/// Packets in one super-packet: a full GRO train from the wire, whose maximum is 64
/// (`UDP_GRO_CNT_MAX` in Linux).
pub const MERGED_MAX: usize = 64;

/// What tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) ports: (u16, u16),
    pub(crate) view: View,
}

impl Key {
    pub(crate) fn of(view: &View) -> Option<Self> {
        view.ports.map(|ports| Self { ports, view: *view })
    }

    pub(crate) fn is_same_flow(&self, other: &Self) -> bool {
        self.ports == other.ports
            && self.view.protocol == other.view.protocol
            && self.view.source == other.view.source
            && self.view.destination == other.view.destination
    }
}

/// Merges received packets into super-packets for the device.
#[derive(Debug)]
pub struct Coalescer {
    /// The first `open` are in use; the others keep their memory.
    flows: Vec<Flow>,
    open: usize,
    /// Who makes room when all are in use: each in turn.
    victim: usize,
    offloads: Offloads,
}

impl Coalescer {
    /// A coalescer that makes only super-packets that `offloads` has.
    #[must_use]
    pub fn new(offloads: Offloads) -> Self {
        let flows = (0..FLOWS_MAX).map(|_| Flow::default()).collect();
        Self { flows, open: 0, victim: 0, offloads }
    }

    /// Takes one complete packet, of which `view` is the view, and writes what is due to `sink`.
    /// A packet that the kernel refuses is counted in `drops`.
    pub fn push(&mut self, packet: PacketBuf, view: &View, sink: &mut impl Sink, drops: &Drops) {
        if view.fragment != Fragment::Whole {
            // A later fragment does not say which flow it belongs to.
            self.flush(sink, drops);
            return write_alone(&packet, sink, drops);
        }
        let key = Key::of(view).filter(|_| self.may_merge(view.protocol));
        let Some(key) = key else { return write_alone(&packet, sink, drops) };
        let piece = Piece::of(packet.as_slice(), view);
        let packet = match self.find(&key) {
            Some(slot) => match self.join(slot, packet, piece, sink, drops) {
                Some(packet) => packet,
                None => return,
            },
            None => packet,
        };
        match piece.filter(|piece| !piece.closes()) {
            Some(piece) => self.start(key, piece, packet, sink, drops),
            None => write_alone(&packet, sink, drops),
        }
    }

    /// Writes what is open of the flow of this packet: the flow goes on in another way.
    pub fn flush_flow(&mut self, view: &View, sink: &mut impl Sink, drops: &Drops) {
        if let Some(slot) = Key::of(view).and_then(|key| self.find(&key)) {
            self.close(slot, sink, drops);
        }
    }

    /// Writes all that is open: the end of a burst.
    pub fn flush(&mut self, sink: &mut impl Sink, drops: &Drops) {
        for flow in &mut self.flows[..self.open] {
            write_flow(flow, sink, drops);
        }
        self.open = 0;
    }

    fn may_merge(&self, protocol: u8) -> bool {
        match protocol {
            protocol::TCP => self.offloads.tso,
            protocol::UDP => self.offloads.uso,
            _ => false,
        }
    }

    fn find(&self, key: &Key) -> Option<usize> {
        self.flows[..self.open].iter().position(|flow| flow.is_of(key))
    }

    /// Lets the packet join the flow in `slot`, or sends that flow on and gives the packet back.
    fn join(
        &mut self,
        slot: usize,
        packet: PacketBuf,
        piece: Option<Piece>,
        sink: &mut impl Sink,
        drops: &Drops,
    ) -> Option<PacketBuf> {
        let joined = match piece {
            Some(piece) => self.flows[slot].join(packet, piece),
            None => Joined::No(packet),
        };
        let back = match joined {
            Joined::More => return None,
            Joined::Full => None,
            Joined::No(packet) => Some(packet),
        };
        self.close(slot, sink, drops);
        back
    }

    fn start(
        &mut self,
        key: Key,
        piece: Piece,
        packet: PacketBuf,
        sink: &mut impl Sink,
        drops: &Drops,
    ) {
        if self.open == FLOWS_MAX {
            self.close(self.victim, sink, drops);
            self.victim = (self.victim + 1) % FLOWS_MAX;
        }
        self.flows[self.open].start(key, piece, packet);
        self.open += 1;
    }

    fn close(&mut self, slot: usize, sink: &mut impl Sink, drops: &Drops) {
        write_flow(&mut self.flows[slot], sink, drops);
        self.open -= 1;
        self.flows.swap(slot, self.open);
    }
}

/// Writes the flow's packets as one, and empties it.
fn write_flow(flow: &mut Flow, sink: &mut impl Sink, drops: &Drops) {
    match flow.packets() {
        [] => return,
        [packet] => write_alone(packet, sink, drops),
        packets => match write_super(flow, sink) {
            Ok(()) => {}
            // A kernel that takes no such super-packet may still take what it was made of.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                packets.iter().for_each(|packet| write_alone(packet, sink, drops));
            }
            Err(_) => drops.count_many(DropReason::DeviceWrite, packets.len() as u64),
        },
    }
    flow.clear();
}

fn write_super(flow: &Flow, sink: &mut impl Sink) -> io::Result<()> {
    let headers = flow.super_headers();
    let mut parts = [IoSlice::new(&[]); MERGED_MAX + 1];
    parts[0] = IoSlice::new(headers.as_slice());
    let payloads = flow.payloads();
    let count = payloads.len();
    parts[1..].iter_mut().zip(payloads).for_each(|(part, payload)| *part = IoSlice::new(payload));
    sink.write(&parts[..=count])
}

fn write_alone(packet: &PacketBuf, sink: &mut impl Sink, drops: &Drops) {
    let header: [u8; vnet::HEADER] = VnetHeader::default().encode();
    if sink.write(&[IoSlice::new(&header), IoSlice::new(packet.as_slice())]).is_err() {
        drops.count(DropReason::DeviceWrite);
    }
}

#[cfg(test)]
mod tests;
