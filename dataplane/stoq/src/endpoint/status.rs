//! What an endpoint tells about its links, for `stoqctl status` and the metrics.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::Endpoint;
use super::lane::Link;
use crate::PeerId;
use crate::conn::Conn;
use crate::context::CONTEXT_LEN;
use crate::recovery::Counts;

/// State of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Never connected yet: dialling, or waiting to be dialled.
    Connecting,
    /// At least one connection carries traffic.
    Up,
    /// The node takes leave.
    Draining,
    /// It had a connection and lost it.
    Down,
}

/// A worker's share of a link.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// The peer.
    pub peer: PeerId,
    /// Whether it carries traffic.
    pub state: LinkState,
    /// Address of the peer on the first connection.
    pub endpoint: Option<SocketAddr>,
    /// Name of the key exchange group.
    pub key_exchange: Option<&'static str>,
    /// Smoothed round trip time.
    pub rtt: Option<Duration>,
    /// Largest inner packet that passes whole, in bytes.
    pub datagram_max: usize,
    /// Inner bytes sent to the peer, in packets and on streams.
    pub tx_bytes: u64,
    /// Inner bytes received from the peer, in packets and on streams.
    pub rx_bytes: u64,
    /// Inner packets sent to the peer.
    pub tx_packets: u64,
    /// Inner packets received from the peer.
    pub rx_packets: u64,
    /// Connections of the link at this worker.
    pub connections: usize,
    /// Congestion window of the first connection in bytes.
    pub congestion_window: usize,
    /// For how long the peer's certificate has expired; zero unless it is taken all the same.
    pub expired_for: Duration,
    /// Packets that were lost on the current connections.
    pub lost_packets: u64,
    /// What became of lost payloads since the start.
    pub recovery: Counts,
    /// Inner packets that wait in the queues.
    pub queued_packets: usize,
}

impl Endpoint {
    /// Connections in the table, handshakes included.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.conns.len()
    }

    /// Handshakes under way that this node accepted.
    #[must_use]
    pub fn handshake_count(&self) -> usize {
        self.by_initial.len()
    }

    /// Retry packets sent since the start.
    #[must_use]
    pub fn retries_sent(&self) -> u64 {
        self.retries_sent
    }

    /// Largest inner packet that every connection to the peer carries whole; `None` while it is
    /// down or its path is still being probed.
    #[must_use]
    pub fn path_mtu(&self, peer: PeerId, now: Instant) -> Option<usize> {
        let link = self.links.get(peer.0 as usize)?.as_ref()?;
        let current = |lane: &super::lane::Lane| {
            let conn = self.conns.get(lane.slot.current?.key)?;
            conn.knows_path_mtu(now).then_some(conn.datagram_max.saturating_sub(CONTEXT_LEN))
        };
        link.lanes.iter().filter_map(current).min().map(|mtu| mtu.min(link.tunnel_mtu))
    }

    /// Every link.
    pub fn links(&mut self) -> Vec<LinkStatus> {
        let draining = self.draining.is_some();
        let wall = (self.credentials.clock)();
        let conns = &mut self.conns;
        let status = |link| LinkStatus {
            expired_for: expired_for(link, conns, wall),
            ..link_status(link, conns, draining)
        };
        self.links.iter().flatten().map(status).collect()
    }
}

/// The longest of what its connections carry traffic on.
fn expired_for(link: &Link, conns: &slab::Slab<Conn>, wall: SystemTime) -> Duration {
    let members = link.lanes.iter().filter_map(|lane| lane.slot.current);
    let ends =
        members.filter_map(|member| Some(conns.get(member.key)?.peer_identity.as_ref()?.not_after));
    let first = ends.min();
    first.and_then(|end| wall.duration_since(end).ok()).unwrap_or_default()
}

fn link_status(link: &Link, conns: &mut slab::Slab<Conn>, draining: bool) -> LinkStatus {
    let state = match (draining, link.is_up()) {
        (true, _) => LinkState::Draining,
        (_, true) => LinkState::Up,
        _ if link.boot.is_none() => LinkState::Connecting,
        _ => LinkState::Down,
    };
    let current: Vec<_> = link.lanes.iter().filter_map(|lane| lane.slot.current).collect();
    let first = current.first().and_then(|member| conns.get_mut(member.key));
    let key_exchange = first.and_then(|conn| {
        let ssl: &mut boring::ssl::SslRef = (*conn.quic).as_mut();
        ssl.curve_name()
    });
    let first = current.first().and_then(|member| conns.get(member.key));
    let path = first.and_then(Conn::active_path);
    let carrying = || current.iter().filter_map(|member| conns.get(member.key));
    LinkStatus {
        peer: link.peer.id,
        state,
        endpoint: path.as_ref().map(|path| path.peer_addr),
        key_exchange,
        rtt: path.as_ref().map(|path| path.rtt),
        datagram_max: carrying()
            .map(|conn| conn.datagram_max.saturating_sub(CONTEXT_LEN))
            .min()
            .unwrap_or(0),
        tx_bytes: link.lanes.iter().map(|lane| lane.tx_bytes).sum(),
        rx_bytes: link.rx_bytes,
        tx_packets: link.lanes.iter().map(|lane| lane.tx_packets).sum(),
        rx_packets: link.rx_packets,
        connections: link.members().len(),
        expired_for: Duration::ZERO,
        congestion_window: path.as_ref().map_or(0, |path| path.cwnd),
        lost_packets: carrying().map(|conn| conn.quic.stats().lost as u64).sum(),
        recovery: link.recovery,
        queued_packets: link.lanes.iter().map(|lane| lane.backlog.packets()).sum(),
    }
}
