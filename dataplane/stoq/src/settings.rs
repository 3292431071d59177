//! The numbers that an endpoint works by, with the reasons for their defaults.

use std::time::Duration;

/// Limits, timers and sizes of an endpoint.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most connections, handshakes included; beyond it Initial packets are dropped and counted.
    pub connections_max: usize,
    /// Handshake packets that one burst may bring to the TLS stack: 64 handshakes of about
    /// 0.3 ms bound the time that established connections wait to some 20 ms.
    pub handshake_packets_per_burst: u32,
    /// Unfinished handshakes from which on clients must prove their address by Retry.
    pub retry_above: usize,
    /// Silence after which a connection is given up (RFC 9000 §10.1).
    pub idle_timeout: Duration,
    /// Longest silence after which a PING keeps the connection, and NAT bindings, alive: below the 30 s
    /// that are common for UDP (RFC 9000 §10.1.2).
    pub keepalive: Duration,
    /// Packets sent or received on one connection after which the dialler replaces it: below the
    /// 2^22 that are the most under one key here, half of AES-GCM's 2^23 (RFC 9001 §6.6), with
    /// room for the packets that are sent while the successor is made.
    pub packets_per_connection: u64,
    /// Largest UDP payload to probe for over IPv6; IPv4 has 20 bytes more.
    pub udp_payload_max: u16,
    /// quiche's name of the congestion control.
    pub congestion: String,
    /// Congestion window at the start in packets. For BBR2 it is also the least window: what random
    /// loss cannot take from a link. What may be in flight is bounded by its delay besides.
    pub initial_window_packets: usize,
    /// Offer peers to repeat what is lost (context 3).
    pub recovery: bool,
    /// Bytes that the queue of one slot holds at most.
    pub queue_bytes_max: usize,
}

/// IPv6 and UDP header of an outer packet, in bytes.
pub const OUTER_HEADERS_V6: u16 = 48;

/// Difference between an IPv6 and an IPv4 header without options, in bytes.
pub const V4_GAIN: u16 = 20;

/// Round trip time that is assumed before one is measured: that of a long path on one continent. A lost
/// first packet is then repeated after 0.3 s, not after the second of RFC 9002 §6.2.2.
pub(crate) const INITIAL_RTT: Duration = Duration::from_millis(100);

/// What QUIC and STOQ put around an inner packet, in bytes: short header (RFC 9000 §17.3.1) with its
/// connection ID and the longest packet number, DATAGRAM frame with a length (RFC 9221 §4), context,
/// and the tag of the AEAD (RFC 9001 §5.3).
pub const INNER_OVERHEAD: u16 = 1 + 12 + 4 + 3 + 1 + 16;

/// Largest inner packet that passes whole where the outer path carries `udp_payload` bytes.
#[must_use]
pub const fn inner_mtu(udp_payload: u16) -> u16 {
    udp_payload.saturating_sub(INNER_OVERHEAD)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            handshake_packets_per_burst: 64,
            retry_above: 64,
            idle_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(10),
            packets_per_connection: 3 << 20,
            udp_payload_max: 1500 - OUTER_HEADERS_V6,
            // CUBIC takes every loss for congestion: at 5 % and 20 ms it leaves a link 4 Mbit/s.
            congestion: "bbr2".into(),
            // At 20 ms 300 Mbit/s, however many packets are lost. The governor begins with less.
            initial_window_packets: 512,
            recovery: true,
            queue_bytes_max: 8 << 20,
        }
    }
}
