//! What is set by the tier of a link. Each value is applied to the running link, or to the next
//! connection that is dialled for it; `docs/tiers.md` gives the reasons in one table.

use std::time::Duration;

use super::Tier;

/// The parameters of a link and of the worker that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Delay that a connection may add to the path by what it has in flight.
    pub queue_target: Duration,
    /// Delay that a flow's queue in front of the link may stand at (CoDel's target).
    pub codel_target: Duration,
    /// Bytes that a flow may send before the next one has its turn.
    pub quantum_bytes: u32,
    /// Packets that wait for a slot of the link at most.
    pub queue_packets: u16,
    /// Packets that a connection sends before another link has its turn.
    pub turn_packets: u16,
    /// Connections of the link that a worker spreads flows over, at most.
    pub lanes: u8,
    /// First congestion window of a connection that is dialled, in packets.
    pub initial_window_packets: u16,
    /// Bytes to which the window of a stream that the peer sends on may be raised. Connections whose
    /// handshake has fixed less are replaced, make before break.
    pub stream_window_bytes: u32,
    /// Super-packets that a worker reads from the tunnel device in one turn. The fastest link of a
    /// worker decides.
    pub read_burst: u16,
    /// UDP packets that a worker sends in one turn. The fastest link of a worker decides.
    pub transmit_burst: u16,
}

impl Profile {
    /// Of a link from 1 Gbit/s on, and of one that is not measured yet.
    const USUAL: Self = Self {
        // Long enough that a bursty shaper and a busy CPU never run dry.
        queue_target: Duration::from_millis(2),
        // RFC 8290 §5.2.
        codel_target: Duration::from_millis(5),
        quantum_bytes: 1514,
        // 47 ms of full-size packets at 1 Gbit/s, and as many buffers as a thread pools.
        queue_packets: 4096,
        // A GSO train: 64 KiB of full-size packets.
        turn_packets: 44,
        lanes: u8::MAX,
        // What loss at random cannot take: 300 Mbit/s over 20 ms. What is in flight has another bound.
        initial_window_packets: 512,
        // 1 Gbit/s over 17 ms.
        stream_window_bytes: 2 << 20,
        read_burst: 4,
        transmit_burst: 256,
    };

    /// That of a link of these tiers: of what this end sends, and of what the peer does. A direction that is
    /// not measured counts as `1G`. What both have in common follows the lower one that is measured.
    #[must_use]
    pub fn of(sending: Option<Tier>, receiving: Option<Tier>) -> Self {
        let own = match sending {
            Some(Tier::Floor) => Self::FLOOR,
            Some(Tier::M100) => Self::M100,
            Some(Tier::G10) => Self::G10,
            Some(Tier::G1 | Tier::G2_5) | None => Self::USUAL,
        };
        // Each connection may have ten packets in flight whatever the path is like (RFC 9002 §7.2):
        // at 100 Mbit/s that is 1.2 ms apiece.
        let shared = sending.into_iter().chain(receiving).min();
        let lanes = if shared.is_some_and(|tier| tier <= Tier::M100) { 1 } else { u8::MAX };
        // 8 MiB carry 2.5 Gbit/s over 27 ms, 10 Gbit/s over 7.
        let is_fast = receiving.is_some_and(|tier| tier >= Tier::G2_5);
        let stream_window_bytes = if is_fast { 8 << 20 } else { own.stream_window_bytes };
        Self { lanes, stream_window_bytes, ..own }
    }

    const FLOOR: Self = Self {
        // Ten packets, the least that may be in flight, take 12 ms at 10 Mbit/s: a smaller target
        // would never be met, and delay that stays is taken for the path's own.
        queue_target: Duration::from_millis(15),
        // Above the time of one packet at 1 Mbit/s, 12 ms (RFC 8289 §4.4).
        codel_target: Duration::from_millis(15),
        // Small packets pass large ones (RFC 8290 §5.2.4).
        quantum_bytes: 300,
        // 600 ms at 10 Mbit/s.
        queue_packets: 512,
        // 1.2 ms at 80 Mbit/s.
        turn_packets: 8,
        // 18 Mbit/s over 20 ms, and half a second of queue at 1.4 Mbit/s.
        initial_window_packets: 64,
        ..Self::USUAL
    };

    const M100: Self = Self {
        // 120 ms at 100 Mbit/s.
        queue_packets: 1024,
        // 1.9 ms at 100 Mbit/s.
        turn_packets: 16,
        // 100 Mbit/s over 28 ms.
        initial_window_packets: 256,
        ..Self::USUAL
    };

    const G10: Self = Self {
        // A round trip of 1.2 ms at 10 Gbit/s.
        initial_window_packets: 1024,
        // 512 full-size packets are 0.6 ms at 10 Gbit/s. No tier has less than the usual turn: short
        // ones cost a busy core throughput, and a link that they hold back is not seen to get faster.
        read_burst: 8,
        transmit_burst: 512,
        ..Self::USUAL
    };
}
