//! Handing over to another process of this node: two endpoints with one boot identity, one of which stands
//! aside and then leaves (`docs/protocol.md`, section 12). Whoever decides that is the caller; this module
//! owns what an endpoint does and leaves undone meanwhile.

use std::time::{Duration, Instant};

use super::Endpoint;
use crate::PeerId;
use crate::conn::{Conn, Stage};
use crate::control::{Frame, Goaway, GoawayReason};
use crate::link::Key;

/// Pause after which an end that stands aside sends PING: half of what a peer keeps a replaced connection
/// without a packet.
const ASIDE_KEEPALIVE: Duration = Duration::from_secs(1);

/// How long one that leaves waits for its peers to close its connections: 2 s after the last packet, and
/// as long again for a path that lost the news.
const LINGER: Duration = Duration::from_secs(4);

/// How long it waits for the streams on them: as long as a peer does.
const STREAMS_LINGER: Duration = Duration::from_secs(3600);

/// How often it looks whether they have ended.
const STREAMS_LOOK: Duration = Duration::from_secs(1);

/// What this endpoint is in a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// None is under way, or it is the one that takes over.
    Serving,
    /// Another process makes connections for this node; those that are here carry on.
    Aside,
    /// The other process carries all; what is still on the way here is taken, since when.
    Leaving(Instant),
}

impl Role {
    /// Whether connections are dialled and accepted.
    pub fn makes_connections(self) -> bool {
        self == Self::Serving
    }

    /// Whether its links are another process's.
    pub fn is_leaving(self) -> bool {
        matches!(self, Self::Leaving(_))
    }

    /// The pause without a packet after which a connection whose own is `usual` sends PING.
    pub fn keepalive(self, usual: Duration) -> Duration {
        match self {
            Self::Aside => ASIDE_KEEPALIVE,
            Self::Serving | Self::Leaving(_) => usual,
        }
    }
}

impl Endpoint {
    /// Leaves making connections to another process of this node, or takes it up again. What is there
    /// carries on, and is kept open by a PING each second also when peers have moved to the other's. Taking it
    /// up replaces every connection: a peer may still wait for the other process.
    pub fn stand_aside(&mut self, aside: bool, now: Instant) {
        self.role = if aside { Role::Aside } else { Role::Serving };
        for key in self.conns.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            self.reschedule_conn(key, now);
        }
        let peers = self.links.iter().flatten().map(|link| link.peer.id);
        for peer in peers.collect::<Vec<_>>() {
            self.want_connections(peer, now);
        }
        if !aside {
            self.replace_all(now);
        }
    }

    /// Asks the diallers of accepted connections for new ones (GOAWAY 2): those of `peers`, or all that
    /// this node could not dial.
    pub fn ask_for_successors(&mut self, peers: Option<&[PeerId]>) {
        let asked = |peer: PeerId| match peers {
            Some(peers) => peers.contains(&peer),
            None => self
                .links
                .get(peer.0 as usize)
                .and_then(Option::as_ref)
                .is_some_and(|link| link.peer.endpoints.is_empty()),
        };
        let accepted = |(key, conn): (Key, &Conn)| {
            let theirs = conn.stage == Stage::Ready && !conn.dialled_here();
            (theirs && conn.peer.is_some_and(asked)).then_some(key)
        };
        for key in self.conns.iter().filter_map(accepted).collect::<Vec<_>>() {
            self.ask_for_successor(key);
        }
    }

    /// Asks the dialler of this connection for a new one.
    pub(super) fn ask_for_successor(&mut self, key: Key) {
        let goaway = Goaway { reason: GoawayReason::Replace, drain_ms: 0 };
        if let Some(conn) = self.conns.get_mut(key) {
            conn.send_frame(&Frame::Goaway(goaway));
        }
        self.activate(key);
    }

    /// Whether all that was queued has been sent, and has arrived or was lost.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let lanes = self.links.iter().flatten().flat_map(|link| &link.lanes);
        lanes.filter_map(|lane| Some((lane, lane.slot.current?))).all(|(lane, current)| {
            lane.backlog.packets() == 0
                && !lane.backlog.is_mid_packet()
                && self.conns.get(current.key).is_none_or(Conn::is_drained)
        })
    }

    /// Leaves what this endpoint had to the other process: takes what still arrives, and waits until the
    /// peers have closed every connection, which they do once they have moved. [`Endpoint::is_drained`] says
    /// when that is so. Connections with streams are kept until these end, for an hour at most.
    pub fn leave(&mut self, now: Instant) {
        self.role = Role::Leaving(now);
        self.draining = Some(now + LINGER);
    }

    /// Whether an end is put off for streams that have not ended.
    pub(super) fn waits_for_streams(&mut self, now: Instant) -> bool {
        let Role::Leaving(since) = self.role else { return false };
        let waits = self.stream_count() > 0 && now < since + STREAMS_LINGER;
        if waits {
            self.draining = Some(now + STREAMS_LOOK);
        }
        waits
    }
}
