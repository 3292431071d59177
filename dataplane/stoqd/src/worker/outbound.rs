//! From the site to the link: read from the device, find the peer, cut, queue.

use std::net::IpAddr;
use std::time::Instant;

use stoq::slice::HEAD_LEN;
use stoq::{ALWAYS_PASSES, Endpoint, PeerId, Slicing, Undelivered};
use stoq_buffer::{Head, PacketBuf, Slice};
use stoq_telemetry::{DropReason, Drops};
use stoq_tunnel::device::Queue;
use stoq_tunnel::mss;
use stoq_tunnel::packet::{self, View, protocol};
use stoq_tunnel::segment::Plan;
use stoq_tunnel::slice::Uncut;
use stoq_tunnel::vnet::VnetHeader;

use super::{Stage, Worker, WorkerError, failed};

/// Super-packets read in one turn until the tiers of links say otherwise: of 64 kB each, they become
/// some 180 packets, close to what one turn sends.
pub(super) const READ_BURST: usize = 4;

/// Longest TCP header in bytes (RFC 9293 §3.1).
const TCP_HEADER_MAX: usize = 60;

impl Worker {
    /// Takes what the site sends. Returns how many reads there were.
    pub(super) fn read_device(&mut self, now: Instant) -> Result<usize, WorkerError> {
        if !self.reading.is_ours() {
            return Ok(0);
        }
        let mut reads = 0;
        let mut packets = 0;
        while reads < self.read_burst {
            let Some(device) = &mut self.device else { break };
            match device.queue.read(&mut device.buffer).map_err(failed("tunnel device"))? {
                None => break,
                Some(_) => reads += 1,
            }
            packets += self.forward(now);
        }
        self.stages.end(Stage::Forward, packets);
        Ok(reads)
    }

    /// Forwards the packet in the device's buffer. Returns how many it became.
    fn forward(&mut self, now: Instant) -> usize {
        let Self { endpoint, device, drops, forwarder, tap, hasher, icmp, addresses, .. } = self;
        let Some(device) = device else { return 0 };
        let Ok((header, packet)) = device.buffer.parts() else {
            drops.count(DropReason::DeviceRead);
            return 0;
        };
        let Ok(view) = packet::parse(packet) else {
            drops.count(DropReason::MalformedInner);
            return 0;
        };
        if let Some(tap) = tap {
            tap.inner(packet);
        }
        let Some(peer) = forwarder.lookup(view.destination) else {
            drops.count(DropReason::NoRoute);
            let from = addresses.of_family(&view);
            let answer = from.and_then(|from| icmp.no_route(packet, &view, from, now));
            write_answer(&mut device.queue, answer, drops);
            return 0;
        };
        let flow = hasher.hash(&view);
        let mut out = Outbound { endpoint, drops, peer, flow, now, pieces: 0 };
        let cut = out.cut(header, packet, &view);
        let pieces = out.pieces;
        if let Err(mtu) = cut {
            drops.count(DropReason::TooBig);
            // As if from the other end: the kernel takes nothing from the device that bears one of its
            // own addresses as the source.
            let answer = icmp.too_big(packet, &view, mtu, view.destination, now);
            write_answer(&mut device.queue, answer, drops);
        }
        pieces
    }
}

fn write_answer(queue: &mut Queue, answer: Option<PacketBuf>, drops: &Drops) {
    if answer.is_some_and(|answer| queue.write_packet(answer.as_slice()).is_err()) {
        drops.count(DropReason::DeviceWrite);
    }
}

/// Our addresses in the tunnel, one of each family: the senders of ICMP errors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnAddresses {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl OwnAddresses {
    pub fn new(addresses: &[IpAddr]) -> Self {
        let first = |v6: bool| addresses.iter().copied().find(|address| address.is_ipv6() == v6);
        Self { v4: first(false), v6: first(true) }
    }

    fn of_family(self, view: &View) -> Option<IpAddr> {
        if view.is_ipv6() { self.v6 } else { self.v4 }
    }
}

/// Keeps new TCP connections from choosing segments that the path does not carry.
pub(super) fn clamp_mss(
    endpoint: &Endpoint,
    peer: PeerId,
    packet: &mut PacketBuf,
    view: &View,
    now: Instant,
) {
    // Only a SYN is changed, and it has no payload: spare all others the look at the path.
    let bare = packet.len() <= view.transport + TCP_HEADER_MAX;
    if view.protocol != protocol::TCP || !bare {
        return;
    }
    if let Some(mtu) = endpoint.path_mtu(peer, now) {
        mss::clamp(packet.as_mut_slice(), view, narrow(mtu));
    }
}

fn narrow(mtu: usize) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

/// One packet of the site on its way to its link.
struct Outbound<'a> {
    endpoint: &'a mut Endpoint,
    drops: &'a Drops,
    peer: PeerId,
    flow: u32,
    now: Instant,
    /// What it was cut into.
    pieces: usize,
}

impl Outbound<'_> {
    /// Cuts the packet and queues the pieces. Returns the MTU to answer with if it is too big.
    fn cut(&mut self, header: VnetHeader, packet: &[u8], view: &View) -> Result<(), u16> {
        let Ok(plan) = Plan::new(header, packet, view) else {
            self.drops.count(DropReason::DeviceRead);
            return Ok(());
        };
        // Ask once for a super-packet; its pieces would each be refused for the same reason.
        if view.dont_fragment && plan.longest() > ALWAYS_PASSES {
            let mtu = self.endpoint.path_mtu(self.peer, self.now);
            let mtu = mtu.map(|mtu| mtu.max(ALWAYS_PASSES));
            if let Some(mtu) = mtu.filter(|&mtu| plan.longest() > mtu) {
                return Err(narrow(mtu));
            }
        }
        let Self { endpoint, drops, peer, flow, now, pieces } = self;
        let whose = (*peer, *flow, view.ecn() != 0);
        if let Some(uncut) = plan.uncut()
            && let Some(slices) = enqueue_slices(endpoint, drops, uncut, whose, *now)
        {
            *pieces += slices;
            return Ok(());
        }
        let may_cut = !view.dont_fragment;
        let mut too_big = None;
        plan.emit(|mut piece| {
            *pieces += 1;
            clamp_mss(endpoint, *peer, &mut piece, view, *now);
            match endpoint.enqueue(*peer, piece, *flow, may_cut, *now) {
                Ok(()) => {}
                Err(Undelivered::LinkDown) => drops.count(DropReason::LinkDown),
                Err(Undelivered::TooBig { mtu, .. }) => too_big = Some(narrow(mtu)),
            }
        });
        too_big.map_or(Ok(()), Err)
    }
}

/// Queues a super-packet in slices, of a flow that may understand marks of congestion. Returns how many
/// there are, of which those are counted that found no connection; `None` if it has to leave in packets.
pub fn enqueue_slices(
    endpoint: &mut Endpoint,
    drops: &Drops,
    uncut: Uncut<'_>,
    (peer, flow, marks): (PeerId, u32, bool),
    now: Instant,
) -> Option<usize> {
    let Slicing { number, room } = endpoint.slicing(peer, flow, now)?;
    // The largest IP packet has a payload below 2^16, and its headers are below 2^8.
    let (total, size) = (uncut.payload.len() as u16, uncut.size);
    let mut count = 0;
    for part in uncut.parts(room, HEAD_LEN) {
        count += 1;
        let headers = part.headers.len() as u8;
        let head = (headers > 0).then_some(Head { total, size, headers });
        let mut body = PacketBuf::from_slice(part.headers);
        body.extend_from_slice(part.payload);
        let slice = Slice { number, offset: part.offset, congested: false, head, body };
        if endpoint.enqueue_slice(peer, slice, marks, flow, now).is_err() {
            drops.count(DropReason::LinkDown);
        }
    }
    (count > 0).then_some(count)
}
