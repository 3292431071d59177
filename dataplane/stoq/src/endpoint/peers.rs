//! Peers and their links: whom to dial, whom to recognise, and what becomes of a connection when
//! both ends have said who they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoq_telemetry::DropReason;

use super::lane::Link;
use super::{Endpoint, Event, Peer};
use crate::cid;
use crate::conn::{Code, Conn, Origin, Progress, Stage};
use crate::control::{Frame, Goaway, GoawayReason, Hello, Purpose, feature};
use crate::link::{Admission, Key, Member};
use crate::random;
use crate::tls::{self, Credentials, TlsError};
use crate::{Path, PeerId, Via};

/// How much later the node dials whose connections lose a simultaneous dial: time for the other's
/// handshake on all but the slowest paths.
const YIELD: Duration = Duration::from_millis(400);

/// How long another attempt leaves it to the one that said HELLO: a round trip on the slowest paths.
const HELLO_PATIENCE: Duration = Duration::from_secs(1);

/// For how long no other attempt begins beside one that was answered: the repetition of a lost packet, and
/// little enough that a link is back within 3 s also where the path was lost in the middle of the attempt.
const ANSWER_PATIENCE: Duration = Duration::from_millis(750);

/// The longest wait of a successor.
const SWITCH_MAX: Duration = Duration::from_secs(1);

impl Endpoint {
    /// Replaces the list of peers. Links that both lists have stay; new ones are dialled, and those
    /// that are gone are closed.
    pub fn set_peers(&mut self, peers: &[Peer], now: Instant) {
        self.names = peers.iter().map(|peer| (peer.name.clone(), peer.id)).collect();
        for at in 0..self.links.len() {
            let Some(link) = &self.links[at] else { continue };
            let id = link.peer.id;
            if self.names.get(&link.peer.name) != Some(&id) {
                self.remove_link(id);
            }
        }
        for peer in peers {
            self.set_peer(peer, now);
        }
    }

    fn set_peer(&mut self, peer: &Peer, now: Instant) {
        let at = peer.id.0 as usize;
        if at >= self.links.len() {
            self.links.resize_with(at + 1, || None);
        }
        let (worker, workers) = (self.local.worker, self.local.workers);
        let queue = self.settings.queue_bytes_max;
        let link =
            self.links[at].get_or_insert_with(|| Link::new(peer.clone(), worker, workers, queue));
        link.set_endpoints(peer.endpoints.clone(), now);
        let changed = link.peer.keys != peer.keys;
        link.peer.keys = peer.keys;
        if let Some(keys) = peer.keys.filter(|_| changed) {
            self.end_others(peer.id, keys, now);
        }
        self.want_connections(peer.id, now);
    }

    fn remove_link(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer.0 as usize).and_then(Option::take) else { return };
        if let Some(at) = link.timer {
            self.timers.remove(&(at, super::Timer::Link(peer)));
        }
        let of_peer = |(key, conn): (Key, &Conn)| {
            let dialled = matches!(conn.origin, Origin::Dialled { peer: p, .. } if p == peer);
            (conn.peer == Some(peer) || dialled).then_some(key)
        };
        for key in self.conns.iter().filter_map(of_peer).collect::<Vec<_>>() {
            self.close(key, Code::Done, b"not a peer any more");
        }
    }

    /// Uses another certificate for new connections. (A link takes it up when it replaces its
    /// connections: see [`Endpoint::replace_all`].)
    ///
    /// # Errors
    /// When TLS refuses it; the old one stays in use.
    pub fn set_credentials(&mut self, credentials: Credentials) -> Result<(), TlsError> {
        self.quic = tls::configure(&credentials, &self.settings, &self.refusal)?;
        self.credentials = credentials;
        Ok(())
    }

    /// Has every connection replaced, make before break: those that this node dialled by itself, the others
    /// by their diallers, who are asked to.
    pub fn replace_all(&mut self, now: Instant) {
        let accepted = |(key, conn): (Key, &Conn)| {
            (conn.stage == Stage::Ready && !conn.dialled_here()).then_some(key)
        };
        for key in self.conns.iter().filter_map(accepted).collect::<Vec<_>>() {
            self.ask_for_successor(key);
        }
        for at in 0..self.links.len() {
            let Some(link) = &mut self.links[at] else { continue };
            let peer = link.peer.id;
            for lane in &mut link.lanes {
                if lane.slot.current.is_some_and(|member| member.dialled_here) {
                    lane.slot.dialler.want(now);
                }
            }
            self.reschedule_link(peer);
        }
    }

    /// Wants a connection for every lane that is down.
    pub(super) fn want_connections(&mut self, peer: PeerId, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        let patience = self.dial_patience(peer);
        let Some(link) = self.link(peer) else { return };
        for lane in link.lanes.iter_mut().filter(|lane| !lane.slot.is_up()) {
            lane.slot.dialler.want(now + patience);
        }
        self.reschedule_link(peer);
    }

    /// Connections dialled by the node whose name sorts lower win; so the other waits a little.
    pub(super) fn dial_patience(&self, peer: PeerId) -> Duration {
        if self.local_wins(peer) { Duration::ZERO } else { YIELD }
    }

    fn local_wins(&self, peer: PeerId) -> bool {
        let link = self.links.get(peer.0 as usize).and_then(Option::as_ref);
        link.is_some_and(|link| self.local.node.node() < link.peer.name.as_str())
    }

    pub(super) fn dial(&mut self, peer: PeerId, slot: u8, remote: SocketAddr, now: Instant) {
        if !self.role.makes_connections() {
            return;
        }
        let Some(cid) = self.new_cid() else { return };
        let Ok(random) = random::bytes::<{ cid::CID_LEN }>() else { return };
        if self.conns.len() >= self.settings.connections_max {
            self.local.drops.count(DropReason::ConnectionLimit);
            return;
        }
        self.prepare_config(None, remote.is_ipv4());
        let replaces = self.inherit(peer, slot);
        // The kernel chooses the source address, again for each packet: a changed one is a roam.
        let any: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let path = Path { local: SocketAddr::new(any, 0), remote, via: Via::Dial };
        let dcid = cid::initial_dcid(slot, random);
        let quic = quiche::connect_with_dcid_and_buffer_factory(
            None,
            &quiche::ConnectionId::from_ref(cid.as_bytes()),
            &quiche::ConnectionId::from_ref(&dcid),
            path.local,
            remote,
            &mut self.quic,
        );
        let Ok(quic) = quic else {
            self.local.drops.count(DropReason::HandshakeFailed);
            return;
        };
        let origin = Origin::Dialled { peer, slot, replaces };
        let conn = self.new_conn(quic, path, origin, now);
        let key = self.conns.insert(conn);
        self.by_cid.insert(*cid.as_bytes(), key);
        let mut attempts = self.attempts(peer, slot);
        attempts.push(key);
        if let Some(lane) = self.link(peer).and_then(|link| link.lane(slot)) {
            lane.attempts = attempts;
        }
        self.activate(key);
    }

    /// Whether an attempt to connect the slot has heard of the other side a moment ago: the path is there,
    /// and a busy peer must not be asked again and again.
    pub(super) fn is_being_answered(&mut self, peer: PeerId, slot: u8, now: Instant) -> bool {
        let attempts = self.attempts(peer, slot).into_iter();
        attempts.filter_map(|key| self.conns.get(key)).any(|conn| {
            let heard = conn.last_received;
            heard > conn.started && now.saturating_duration_since(heard) < ANSWER_PATIENCE
        })
    }

    /// Our unfinished attempts to connect a slot: few, where connections may be thousands.
    fn attempts(&mut self, peer: PeerId, slot: u8) -> Vec<Key> {
        let lane = self.link(peer).and_then(|link| link.lane(slot));
        let mut attempts = lane.map(|lane| std::mem::take(&mut lane.attempts)).unwrap_or_default();
        attempts.retain(|&key| self.conns.get(key).is_some_and(|c| c.is_attempt(peer, slot)));
        if let Some(lane) = self.link(peer).and_then(|link| link.lane(slot)) {
            lane.attempts.clone_from(&attempts);
        }
        attempts
    }

    /// Gives the next connection what the current one of the slot has learned. Returns whether
    /// there is a current one. What a silent connection knew says nothing about a path that works,
    /// and its round trip time would have a handshake repeat its packets at once.
    fn inherit(&mut self, peer: PeerId, slot: u8) -> bool {
        let usual = self.settings.initial_window_packets;
        let Some(link) = self.link(peer) else { return false };
        let first = link.profile.map_or(usual, |profile| profile.initial_window_packets.into());
        let window = link.stream_window();
        let Some(lane) = link.lane(slot) else { return false };
        let (current, suspect) = (lane.slot.current, lane.slot.suspect);
        tls::set_stream_window(&mut self.quic, window);
        self.quic.set_initial_congestion_window_packets(first);
        let path = current.and_then(|member| self.conns.get(member.key)?.active_path());
        if let Some(path) = path.filter(|_| !suspect) {
            let window = path.cwnd / path.pmtu.max(1200);
            // It is the least window of the successor too, so it must not grow with each.
            let window = window.clamp(first, 4 * first);
            self.quic.set_initial_congestion_window_packets(window);
            self.quic.set_initial_rtt(path.rtt);
        }
        current.is_some()
    }

    /// Acts on what a connection has to say since it was last asked.
    pub(super) fn settle(&mut self, key: Key, now: Instant) {
        while let Some(conn) = self.conns.get_mut(key) {
            match conn.progress() {
                Ok(Some(Progress::Authenticated)) => self.authenticated(key, now),
                Ok(Some(Progress::Frame(frame))) => self.frame(key, frame, now),
                Ok(None) => break,
                Err((reason, why)) => {
                    self.local.drops.count(reason);
                    let remote = conn.path.remote;
                    self.event(Event::Refused { remote, why });
                    break;
                }
            }
        }
        self.settle_streams(key);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.refresh(now);
        }
    }

    pub(super) fn close(&mut self, key: Key, code: Code, reason: &[u8]) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.close(code, reason);
            self.activate(key);
        }
    }

    /// Says HELLO on the first attempt that completes its handshake, and ends the others. The acceptor
    /// takes every connection on which it reads HELLO; were it said on several, the two ends would
    /// choose among them by themselves, and close each other's choice.
    pub(super) fn choose(&mut self, key: Key, peer: PeerId, slot: u8, now: Instant) {
        let is_answered_soon = |conn: &Conn| {
            let unanswered = matches!(conn.stage, Stage::Proof | Stage::Hello);
            let said = conn.hello_at.filter(|_| unanswered);
            said.is_some_and(|at| now.saturating_duration_since(at) < HELLO_PATIENCE)
        };
        let others = self.attempts(peer, slot).into_iter().filter(|&other| other != key);
        if others.filter_map(|other| self.conns.get(other)).any(is_answered_soon) {
            return self.close(key, Code::Superseded, b"another attempt won");
        }
        self.close_other_attempts(peer, slot, key);
        let (hello, state) = (self.our_hello(key), self.mesh.state());
        if let (Some(conn), Some(hello)) = (self.conns.get_mut(key), hello) {
            conn.hello_at = Some(now);
            if let Some(proof) = conn.own_proof.take() {
                conn.send_frame(&Frame::Proof(proof));
            }
            conn.send_frame(&Frame::Hello(hello));
            conn.send_frame(&Frame::State(state));
        }
    }

    fn features(&self) -> u64 {
        let recovery = if self.settings.recovery { feature::RECOVERY } else { 0 };
        self.local.features | recovery
    }

    fn our_hello(&mut self, key: Key) -> Option<Hello> {
        let features = self.features();
        let conn = self.conns.get(key)?;
        let (peer, slot) = (conn.peer?, conn.slot);
        let replaces = matches!(conn.origin, Origin::Dialled { replaces: true, .. });
        let lane = self.links.get_mut(peer.0 as usize)?.as_mut()?.lane_or_new(slot)?;
        let replaced = lane.dialled;
        lane.dialled = lane.dialled.wrapping_add(1);
        let purpose =
            if replaces { Purpose::Replace { connection: replaced } } else { Purpose::First };
        Some(Hello {
            node: self.local.node.clone(),
            boot: self.local.boot,
            features,
            workers: self.local.workers,
            worker: self.local.worker,
            slot,
            connection: lane.dialled,
            purpose,
            tunnel_mtu: self.local.tunnel_mtu,
        })
    }

    fn hello(&mut self, key: Key, hello: &Hello, now: Instant) {
        let features = self.features();
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(peer) = conn.peer else { return };
        let named = self.names.get(hello.node.node()) == Some(&peer);
        if !named || hello.node.mesh() != self.local.node.mesh() {
            let why = "HELLO names another node than the certificate".to_owned();
            return self.refuse(key, DropReason::ControlInvalid, Code::PeerUnknown, why);
        }
        conn.hello = Some(hello.clone());
        conn.features = hello.features & features;
        if !conn.dialled_here() {
            conn.slot = hello.slot;
            let answer = Hello {
                node: self.local.node.clone(),
                boot: self.local.boot,
                features,
                workers: self.local.workers,
                worker: self.local.worker,
                tunnel_mtu: self.local.tunnel_mtu,
                ..hello.clone()
            };
            conn.send_frame(&Frame::Hello(answer));
            conn.send_frame(&Frame::State(self.mesh.state()));
        }
        self.supersede_boot(peer, key, hello, now);
    }

    /// A later run of the peer ends all connections of an earlier one; a straggler of an earlier
    /// one is refused.
    fn supersede_boot(&mut self, peer: PeerId, key: Key, hello: &Hello, now: Instant) {
        let Some(link) = self.link(peer) else { return };
        match link.boot {
            Some(known) if known == hello.boot => {}
            Some(known) if !hello.boot.supersedes(&known) => {
                self.close(key, Code::Superseded, b"a later run of this node is connected");
            }
            _ => {
                link.boot = Some(hello.boot);
                for old in link.members() {
                    self.remove_from_lane(old, peer, now);
                    self.close(old, Code::Superseded, b"a later run of this node has connected");
                }
            }
        }
    }

    /// Both ends have said HELLO and STATE, and this one's revocations are no older: gives the connection its place in the link.
    pub(super) fn ready(&mut self, key: Key, peer: PeerId, hello: &Hello, now: Instant) {
        let local_wins = self.local_wins(peer);
        let Some(conn) = self.conns.get(key) else { return };
        let (slot, dialled_here, began) = (conn.slot, conn.dialled_here(), conn.started);
        let endpoint = conn.path.remote;
        let (worker, workers) = (self.local.worker, self.local.workers);
        let patience = self.patience(peer, slot);
        let widest = self.widest;
        let Some(link) = self.link(peer) else { return };
        let stream_window = if dialled_here { link.stream_window() } else { widest };
        link.add_lanes(worker, workers, hello.workers);
        link.tunnel_mtu = hello.tunnel_mtu.into();
        let Some(lane) = link.lane_or_new(slot) else {
            return self.close(key, Code::ControlInvalid, b"slot beyond the maximum");
        };
        let member = Member { key, dialled_here, began, ready_at: now };
        if lane.slot.admit(member, local_wins, patience) == Admission::Refused {
            return self.close(key, Code::Superseded, b"the other half of a simultaneous dial won");
        }
        lane.stream_window = stream_window;
        if dialled_here {
            lane.slot.dialler.reached(endpoint, now);
        }
        let came_up = !std::mem::replace(&mut link.was_up, true);
        link.peer_left = false;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.stage = Stage::Ready;
            conn.peer_leaf = Arc::default();
            if conn.features & feature::RECOVERY != 0 {
                conn.begin_recovery();
            }
        }
        self.begin_tier(key, peer);
        if dialled_here || !local_wins {
            self.close_other_attempts(peer, slot, key);
        }
        self.issue_spare_cid(key);
        self.take_datagrams(key, now);
        // Streams that the peer has opened meanwhile wait for this.
        self.activate(key);
        self.want_connections(peer, now);
        if came_up {
            self.event(Event::Up { peer, endpoint });
        }
    }

    /// How long a successor waits for the packets of the connection that it replaces. An outage can
    /// leave that one with an estimate of many seconds.
    fn patience(&mut self, peer: PeerId, slot: u8) -> Duration {
        let current = self.link(peer).and_then(|link| link.lane(slot)?.slot.current);
        let conn = current.and_then(|member| self.conns.get(member.key));
        conn.map_or(Duration::ZERO, |conn| conn.probe_timeout.min(SWITCH_MAX))
    }

    /// There is a winner: ends our other attempts for the same slot. Those of the peer are its own to
    /// end; and ours go on beside a connection of the peer that loses to them.
    fn close_other_attempts(&mut self, peer: PeerId, slot: u8, winner: Key) {
        for key in self.attempts(peer, slot).into_iter().filter(|&key| key != winner) {
            self.close(key, Code::Superseded, b"another attempt won");
        }
    }

    /// A second connection ID, so that the peer can use a fresh one on a new path (RFC 9000 §9.5).
    pub(super) fn issue_spare_cid(&mut self, key: Key) {
        let Some(cid) = self.new_cid() else { return };
        let Some(token) = self.local.cid_keys.reset_token(&cid) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        let id = quiche::ConnectionId::from_ref(cid.as_bytes());
        if conn.quic.new_scid(&id, u128::from_be_bytes(token), false).is_ok() {
            self.by_cid.insert(*cid.as_bytes(), key);
        }
    }

    fn frame(&mut self, key: Key, frame: Frame, now: Instant) {
        let Some(conn) = self.conns.get(key) else { return };
        let (Some(peer), slot) = (conn.peer, conn.slot) else { return };
        match frame {
            Frame::Proof(proof) => self.proof(key, proof),
            Frame::Hello(hello) => self.hello(key, &hello, now),
            Frame::State(state) => self.state(key, state, now),
            Frame::Revocations(chunk) => self.revocations(key, chunk),
            Frame::TunnelMtu(mtu) => {
                if let Some(link) = self.link(peer) {
                    link.tunnel_mtu = usize::from(mtu);
                }
            }
            Frame::Goaway(goaway) => self.goaway(peer, slot, goaway, now),
            Frame::Tier(note) => self.tier_note(peer, note, now),
        }
    }

    fn goaway(&mut self, peer: PeerId, slot: u8, goaway: Goaway, now: Instant) {
        let Some(link) = self.link(peer) else { return };
        if goaway.reason == GoawayReason::Shutdown {
            link.peer_left = true;
        }
        if let Some(lane) = link.lane(slot) {
            lane.slot.goaway(goaway.reason, now, fastrand::f32());
            self.reschedule_link(peer);
        }
    }
}
