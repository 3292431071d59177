//! The parameters of one link that may change while it runs. Set by the daemon, which knows the link's
//! tier; read by the endpoint and handed to the queues and connections of the link.

use std::time::Duration;

use crate::{governor, tls};

/// Packets that one connection sends before the next one has its turn: a GSO train.
pub(crate) const TURN: usize = 44;

/// Parameters of a link. The defaults are those of a link of which nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkProfile {
    /// Delay that a connection may add to the path by what it has in flight.
    pub queue_target: Duration,
    /// CoDel's target for each flow.
    pub codel_target: Duration,
    /// Bytes that a flow may send before it is the next one's turn.
    pub quantum_bytes: u32,
    /// Packets that wait for a slot at most.
    pub queue_packets: u16,
    /// Packets that a connection sends in its turn, at least 1.
    pub turn_packets: u16,
    /// Slots of this worker that flows are spread over at most, at least 1.
    pub lanes: u8,
    /// First and least congestion window of a connection that is dialled from now on, in packets.
    pub initial_window_packets: u16,
    /// Bytes to which the window of a stream that the peer sends on may be raised. Fixed by the
    /// handshake: connections with less are replaced, make before break.
    pub stream_window: u32,
}

impl Default for LinkProfile {
    fn default() -> Self {
        Self {
            queue_target: governor::TARGET,
            codel_target: Duration::from_millis(5),
            quantum_bytes: 1514,
            queue_packets: 4096,
            turn_packets: TURN as u16,
            lanes: u8::MAX,
            initial_window_packets: 512,
            stream_window: tls::STREAM_WINDOW_MAX,
        }
    }
}
