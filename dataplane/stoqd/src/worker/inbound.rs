//! From the port to the site: open, check the source, assemble or merge, write to the device.

use std::io::{self, IoSlice};
use std::time::Instant;

use stoq::Inner;
use stoq_telemetry::DropReason;
use stoq_tunnel::device::{Queue, Sink};
use stoq_tunnel::packet::{self, View};
use stoq_tunnel::vnet;

use super::command::to_path;
use super::outbound::clamp_mss;
use super::{Device, Stage, Tap, Worker, WorkerError, failed};

impl Worker {
    /// Takes a burst from the port. Returns how many UDP packets it had.
    pub(super) fn receive(&mut self, now: Instant) -> Result<usize, WorkerError> {
        self.endpoint.begin_burst();
        let Self { port, endpoint, inbox, drops, tap, .. } = self;
        let received = port.receive(&mut |datagram, meta| {
            if let Some(tap) = tap {
                tap.received(datagram, meta);
            }
            let path = to_path(meta);
            if let Some(owner) = endpoint.receive(datagram, path, now)
                && !inbox.hand_over(owner, datagram, path)
            {
                drops.count(DropReason::HandoverFull);
            }
        });
        inbox.wake_others();
        let received = received.map_err(failed("port"))?;
        self.stages.end(Stage::Open, received);
        let delivered = self.deliver(now);
        self.stages.end(Stage::Deliver, delivered);
        Ok(received)
    }

    /// Writes the inner packets that arrived to the device. Returns how many there were.
    fn deliver(&mut self, now: Instant) -> usize {
        let Self { endpoint, device, drops, forwarder, tap, .. } = self;
        let mut inners = 0;
        let Some(device) = device else {
            while endpoint.poll_inner().is_some() {
                drops.count(DropReason::DeviceWrite);
            }
            return inners;
        };
        let Device { queue, coalescer, assembler, .. } = device;
        let mut site = Site { queue, tap: tap.as_ref() };
        while let Some((peer, inner)) = endpoint.poll_inner() {
            inners += 1;
            let mut packet = match inner {
                Inner::Packet(packet) => packet,
                Inner::Slice(slot, slice) => {
                    let permits = |view: &View| forwarder.permits(peer, view.source);
                    let lane = (peer.0, slot);
                    match assembler.push(lane, slice, now, permits, &mut site, drops) {
                        Ok(None) => {}
                        Ok(Some(view)) => coalescer.flush_flow(&view, site.queue, drops),
                        Err(error) => drops.count(error.reason()),
                    }
                    continue;
                }
            };
            let Ok(view) = packet::parse(packet.as_slice()) else {
                drops.count(DropReason::MalformedInner);
                continue;
            };
            // Reverse path: a peer may only send from what would be sent to it (BCP 38).
            if !forwarder.permits(peer, view.source) {
                drops.count(DropReason::SourceNotAllowed);
                continue;
            }
            clamp_mss(endpoint, peer, &mut packet, &view, now);
            if let Some(tap) = site.tap {
                tap.inner(packet.as_slice());
            }
            assembler.make_way(&view, &mut site, drops);
            coalescer.push(packet, &view, site.queue, drops);
        }
        coalescer.flush(site.queue, drops);
        assembler.flush(now, &mut site, drops);
        inners
    }
}

/// The device, with a look at what is assembled for it: those packets are seen nowhere else.
struct Site<'a> {
    queue: &'a mut Queue,
    tap: Option<&'a Tap>,
}

impl Sink for Site<'_> {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if let Some(tap) = self.tap {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            tap.inner(bytes.get(vnet::HEADER..).unwrap_or_default());
        }
        self.queue.write(parts)
    }
}
