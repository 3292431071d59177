//! DATAGRAM payloads of a connection, in and out, with recovery between them and QUIC where both ends
//! speak it. Called by the endpoint for what arrived, and by [`Conn::transmit`] for what leaves.

use std::time::Instant;

use stoq_buffer::PacketBuf;
use stoq_telemetry::Drops;

use super::{Conn, Stage};
use crate::recovery::{Counts, Recovery};

impl Conn {
    /// Both ends speak recovery.
    pub fn begin_recovery(&mut self) {
        if let Some(path) = self.active_path() {
            self.recovery = Some(Box::new(Recovery::new(path.rtt, path.rttvar)));
        }
    }

    /// The next DATAGRAM payload; none before both ends have said HELLO.
    pub fn next_datagram(&mut self, now: Instant, drops: &Drops) -> Option<PacketBuf> {
        if self.stage != Stage::Ready {
            return None;
        }
        loop {
            if let Some(payload) = self.recovery.as_mut().and_then(|recovery| recovery.poll()) {
                return Some(payload);
            }
            let datagram = self.quic.dgram_recv_buf().ok()?;
            self.may_be_cut_off = true;
            let passed = match self.recovery.as_mut() {
                Some(recovery) => recovery.receive(datagram, now, drops),
                None => Some(datagram),
            };
            if passed.is_some() {
                return passed;
            }
        }
    }

    /// Gives up what should have come by now; afterwards ask for datagrams.
    pub fn give_up_late(&mut self, now: Instant) {
        if let Some(recovery) = self.recovery.as_mut() {
            recovery.handle_timeout(now);
        }
    }

    /// The next payload to send: what recovery has to say, then what waits. What is late is of no use to
    /// recovery, so it need not wait until less is in flight: new payloads then wait the longer.
    pub(super) fn next_payload(
        &mut self,
        now: Instant,
        next: impl FnOnce(usize) -> Option<PacketBuf>,
    ) -> Option<PacketBuf> {
        let max = self.datagram_max;
        let urgent = self.recovery.as_mut().and_then(|recovery| {
            let nack = recovery.next_nack(now);
            nack.or_else(|| recovery.next_repeat(max + recovery.overhead(), now))
        });
        if urgent.is_some() || !self.governor.permits(now, self.probe_timeout * 3) {
            return urgent;
        }
        let payload = next(max)?;
        Some(match self.recovery.as_mut() {
            Some(recovery) => recovery.wrap(payload, now),
            None => payload,
        })
    }

    /// Tells recovery what is known of the active path. Returns the bytes that it takes of each datagram.
    pub(super) fn look_at_loss(
        &mut self,
        path: &quiche::PathStats,
        stats: &quiche::Stats,
        now: Instant,
    ) -> usize {
        let Some(recovery) = self.recovery.as_mut() else { return 0 };
        recovery.set_path(path.rtt, path.rttvar);
        let lost = stats.lost.saturating_sub(stats.spurious_lost);
        recovery.look(stats.sent as u64, lost as u64, now);
        recovery.overhead()
    }

    /// When recovery has something to do.
    pub fn recovery_timeout(&mut self) -> Option<Instant> {
        self.recovery.as_mut().and_then(|recovery| recovery.poll_timeout())
    }

    /// What became of lost payloads since it was asked last.
    pub fn take_recovery_counts(&mut self) -> Counts {
        self.recovery.as_mut().map(|recovery| recovery.take_counts()).unwrap_or_default()
    }
}
