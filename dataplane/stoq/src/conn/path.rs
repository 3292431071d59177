//! What a connection knows of its path: round trips for the governor, what fits a datagram, and a path
//! that swallows large packets.

use std::time::{Duration, Instant};

use super::{Conn, PAYLOAD_MIN, PROBING};
use crate::governor::PathView;

impl Conn {
    /// Reads again what received packets and timers may have changed.
    pub fn refresh(&mut self, now: Instant) {
        let mut overhead = 0;
        if let Some(path) = self.active_path() {
            // RFC 9002 §6.2.1, with an acknowledgement delay of 25 ms.
            self.probe_timeout = path.rtt
                + (path.rttvar * 4).max(Duration::from_millis(1))
                + Duration::from_millis(25);
            let stats = self.quic.stats();
            self.governor.settled(stats.acked_bytes + stats.lost_bytes);
            let rtt_min = path.min_rtt.unwrap_or(path.rtt);
            let view =
                PathView { rtt: path.rtt, variation: path.rttvar, rtt_min, lost: stats.lost_bytes };
            self.governor.look(view, now);
            overhead = self.look_at_loss(&path, &stats, now);
        }
        // While quiche probes a size it already reports what would fit that size; a packet beyond
        // the proven one would stay in its queue.
        let Some(fits) = self.quic.dgram_max_writable_len() else { return };
        let assumed = self.quic.max_send_udp_payload_size();
        let proven = self.quic.pmtu().unwrap_or(PAYLOAD_MIN);
        self.datagram_max = fits.saturating_sub(assumed.saturating_sub(proven) + overhead);
    }

    /// Whether all DATAGRAMs that were sent are acknowledged or lost.
    pub fn is_drained(&self) -> bool {
        self.quic.dgram_send_queue_len() == 0 && self.governor.in_flight() == 0
    }

    pub fn active_path(&self) -> Option<quiche::PathStats> {
        self.quic.path_stats().find(|path| path.active)
    }

    /// Whether path MTU discovery has ended, or had its time; until then large packets are cut, so
    /// that no one is told a path MTU that is about to grow.
    pub fn knows_path_mtu(&self, now: Instant) -> bool {
        self.quic.pmtu().is_some() || now.saturating_duration_since(self.probing_since) >= PROBING
    }

    /// Looks for the path MTU again if large packets vanish. Until it is found, only what every
    /// path carries is sent.
    pub fn mend_black_hole(&mut self, now: Instant) {
        let stats = self.quic.stats();
        let (acked, lost) = (stats.acked_bytes, stats.lost_bytes);
        if !self.black_hole.check(acked, lost, stats.lost as u64, PAYLOAD_MIN as u64) {
            return;
        }
        self.probing_since = now;
        self.quic.revalidate_pmtu();
        self.refresh(now);
        let max = self.datagram_max;
        self.quic.dgram_purge_outgoing(|datagram| datagram.len() > max);
    }
}
