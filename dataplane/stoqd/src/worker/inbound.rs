//! From the port to the site: open, check the source, merge, write to the device.

use std::time::Instant;

use stoq_telemetry::DropReason;
use stoq_tunnel::packet;

use super::command::to_path;
use super::outbound::clamp_mss;
use super::{Stage, Worker, WorkerError, failed};

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
        let mut packets = 0;
        let Some(device) = device else {
            while endpoint.poll_packet().is_some() {
                drops.count(DropReason::DeviceWrite);
            }
            return packets;
        };
        while let Some((peer, mut packet)) = endpoint.poll_packet() {
            packets += 1;
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
            if let Some(tap) = tap {
                tap.inner(packet.as_slice());
            }
            device.coalescer.push(packet, &view, &mut device.queue, drops);
        }
        device.coalescer.flush(&mut device.queue, drops);
        packets
    }
}
