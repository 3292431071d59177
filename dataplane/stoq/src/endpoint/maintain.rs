//! Time: timers of connections and links, silence, keepalive, replacement, drain and removal.

use std::time::{Duration, Instant};

use stoq_telemetry::DropReason;

use super::{Endpoint, Event, Timer};
use crate::PeerId;
use crate::conn::{Code, Conn, HANDSHAKE_LIFE, Stage};
use crate::control::{Frame, Goaway, GoawayReason};
use crate::link::Key;

/// How often a connection with traffic is looked at.
const CHECK: Duration = Duration::from_millis(200);

/// Least time without an answer after which a connection is doubted; on slow paths it is three
/// probe timeouts.
const SILENCE: Duration = Duration::from_millis(600);

/// And the most: late packets of an outage leave probe timeouts of many seconds.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Pause after which an end that only receives asks whether it still can be reached, once. One that moved
/// has nothing to send by which it would notice, and only it knows its new address.
const CEASED: Duration = Duration::from_millis(600);

/// The code that stands for one of ours in the packets of a handshake (RFC 9000 §10.2.3).
const APPLICATION_ERROR: u64 = 0x0c;

/// How long GOAWAY may take to arrive before connections are closed.
const DRAIN: Duration = Duration::from_millis(100);

/// Pause before a lost connection is dialled again.
const REDIAL: Duration = Duration::from_millis(50);

/// That pause after the peer took leave: it stops, or starts again, which takes a moment.
const REDIAL_LEFT: Duration = Duration::from_millis(500);

/// How often it is said of a peer that its certificate has expired and is taken all the same: an operator
/// must come upon it in any part of the log, and no peer may fill it.
const OUTLIVED_EVERY: Duration = Duration::from_secs(3600);

impl Endpoint {
    /// When [`Endpoint::handle_timeout`] has to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.timers.first().map(|(at, _)| *at);
        [first, self.draining].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.end_run();
        if self.draining.is_some_and(|at| now >= at) && !self.waits_for_streams(now) {
            self.close_all();
        }
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Conn(key) => self.conn_timeout(key, now),
                Timer::Link(peer) => self.link_timeout(peer, now),
            }
        }
    }

    fn conn_timeout(&mut self, key: Key, now: Instant) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.timer = None;
        if conn.quic.timeout_instant().is_some_and(|at| at <= now) {
            conn.quic.on_timeout();
        }
        if conn.is_unfinished() && now.saturating_duration_since(conn.started) >= HANDSHAKE_LIFE {
            let why: &[u8] = match conn.stage {
                Stage::Behind => b"a newer set of revocations was named, and did not come",
                _ => b"handshake took too long",
            };
            conn.close(Code::Done, why);
        }
        if conn.stage == Stage::Ready && conn.check_at <= now {
            conn.check_at = now + CHECK;
            self.check(key, now);
            self.check_retired(key, now);
        }
        // What is held for others may have waited long enough.
        self.overdue.push((key, now));
        // What is due leaves with the next poll_transmit, which also sets the next timer.
        self.activate(key);
    }

    /// Looks after an established connection.
    fn check(&mut self, key: Key, now: Instant) {
        self.replace_retired_ids(key);
        if self.end_expired(key, now) {
            return;
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let (Some(peer), slot) = (conn.peer, conn.slot) else { return };
        let quiet = now.saturating_duration_since(conn.last_received);
        if quiet >= self.role.keepalive(conn.keepalive) || conn.may_be_cut_off && quiet >= CEASED {
            conn.may_be_cut_off = false;
            // Refused only on a closed connection, which is removed anyway.
            let _closed = conn.quic.send_ack_eliciting();
            // An end that has nothing to send learns by this that its address has changed.
            conn.unanswered_since.get_or_insert(now);
        }
        conn.mend_black_hole(now);
        let silent = conn.unanswered_since.is_some_and(|since| {
            let patience = (conn.probe_timeout * 3).clamp(SILENCE, SILENCE_MAX);
            now.saturating_duration_since(since) >= patience
        });
        let stats = conn.quic.stats();
        let packets = stats.sent.max(stats.recv) as u64;
        let worn = conn.dialled_here() && packets >= self.settings.packets_per_connection;
        let (patience, keepalive) = (self.dial_patience(peer), self.settings.keepalive);
        let Some(lane) = self.link(peer).and_then(|link| link.lane(slot)) else { return };
        if !lane.slot.carries(key) {
            return;
        }
        lane.rest(keepalive / 2, now);
        lane.slot.suspect = silent;
        if silent {
            lane.slot.dialler.want(now + patience);
        } else if worn {
            lane.slot.dialler.want(now);
        }
        self.reschedule_link(peer);
    }

    /// Ends a connection whose peer's certificate has: a node that renewed has had it replaced. While
    /// certificates may outlive their issuers it goes on, and that is said.
    fn end_expired(&mut self, key: Key, now: Instant) -> bool {
        let Some(conn) = self.conns.get(key) else { return false };
        let (Some(peer), Some(identity)) = (conn.peer, conn.peer_identity.as_ref()) else {
            return false;
        };
        let slot = conn.slot;
        let wall = (self.credentials.clock)();
        let expired_for = wall.duration_since(identity.not_after).unwrap_or_default();
        if expired_for <= self.credentials.verifier.outlive() {
            // Slot 0 alone, so that a link of many workers says it once.
            if slot == 0 && !expired_for.is_zero() {
                self.tell_outlived(peer, expired_for, now);
            }
            return false;
        }
        let why = format!("the certificate of {} has expired, and was not renewed", identity.id);
        self.refuse(key, DropReason::CertificateRefused, Code::PeerUnknown, why);
        self.remove_from_lane(key, peer, now);
        true
    }

    fn tell_outlived(&mut self, peer: PeerId, expired_for: Duration, now: Instant) {
        let Some(link) = self.link(peer) else { return };
        let since = link.outlived_at.map(|at| now.saturating_duration_since(at));
        if since.is_none_or(|since| since >= OUTLIVED_EVERY) {
            link.outlived_at = Some(now);
            self.event(Event::Outlived { peer, expired_for });
        }
    }

    /// Forgets the IDs that the peer retired, which it does when it changes to another, and issues as
    /// many: a peer that roams needs a fresh one each time.
    fn replace_retired_ids(&mut self, key: Key) {
        while let Some(id) = self.conns.get_mut(key).and_then(|conn| conn.quic.retired_scid_next())
        {
            self.forget_id(&id);
            self.issue_spare_cid(key);
        }
    }

    fn forget_id(&mut self, id: &quiche::ConnectionId<'_>) {
        if let Ok(id) = <[u8; crate::cid::CID_LEN]>::try_from(id.as_ref()) {
            self.by_cid.remove(&id);
        }
    }

    pub(super) fn reschedule_conn(&mut self, key: Key, now: Instant) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let quiet = conn.unanswered_since.is_none()
            && now.saturating_duration_since(conn.last_received) > CHECK;
        let check = match conn.stage {
            Stage::Ready if quiet && conn.may_be_cut_off => conn.last_received + CEASED,
            Stage::Ready if quiet => conn.last_received + self.role.keepalive(conn.keepalive),
            Stage::Ready => conn.check_at,
            Stage::Handshake | Stage::Proof | Stage::Hello | Stage::Behind => {
                conn.started + HANDSHAKE_LIFE
            }
            // quiche's timer ends it; a check would find nothing to do, again and again.
            Stage::Closing => now + CHECK,
        };
        let others = [conn.quic.timeout_instant(), conn.recovery_timeout()];
        let due = others.into_iter().flatten().fold(check, Instant::min);
        let due = due.max(now);
        // An earlier timer stays: it finds nothing to do and sets the next one. To move it with every
        // burst would cost more.
        if conn.timer.is_some_and(|set| set <= due) {
            return;
        }
        if let Some(old) = conn.timer.replace(due) {
            self.timers.remove(&(old, Timer::Conn(key)));
        }
        self.timers.insert((due, Timer::Conn(key)));
    }

    pub(super) fn reschedule_link(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        let due = link.timeout();
        let old = std::mem::replace(&mut link.timer, due);
        if old == due {
            return;
        }
        if let Some(old) = old {
            self.timers.remove(&(old, Timer::Link(peer)));
        }
        if let Some(due) = due {
            self.timers.insert((due, Timer::Link(peer)));
        }
    }

    fn link_timeout(&mut self, peer: PeerId, now: Instant) {
        let Some(link) = self.link(peer) else { return };
        link.timer = None;
        let slots: Vec<u8> = link.lanes.iter().map(|lane| lane.slot.number).collect();
        for slot in slots {
            self.switch(peer, slot, false, now);
            while let Some(key) = self.poll_faded(peer, slot, now) {
                self.retire(key, now);
            }
            let jitter = fastrand::f32();
            let lane = self.link(peer).and_then(|link| link.lane(slot));
            let due = lane.and_then(|lane| lane.slot.dialler.poll(now, jitter));
            if let Some(remote) = due.filter(|_| !self.is_being_answered(peer, slot, now)) {
                self.dial(peer, slot, remote, now);
            }
        }
        self.reschedule_link(peer);
    }

    fn poll_faded(&mut self, peer: PeerId, slot: u8, now: Instant) -> Option<Key> {
        let Self { links, conns, .. } = self;
        let link = links.get_mut(peer.0 as usize).and_then(Option::as_mut)?;
        link.lane(slot)?.slot.poll_faded(now, |key| Some(conns.get(key)?.last_received))
    }

    /// Takes leave of all peers: GOAWAY now, CONNECTION_CLOSE a moment later.
    pub fn drain(&mut self, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(now + DRAIN);
        for link in self.links.iter_mut().flatten() {
            for lane in &mut link.lanes {
                lane.slot.dialler.connected(now);
            }
        }
        let reason = GoawayReason::Shutdown;
        let drain_ms = u32::try_from(DRAIN.as_millis()).unwrap_or(0);
        let ready = |(key, conn): (Key, &Conn)| (conn.stage == Stage::Ready).then_some(key);
        for key in self.conns.iter().filter_map(ready).collect::<Vec<_>>() {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.send_frame(&Frame::Goaway(Goaway { reason, drain_ms }));
            }
            self.activate(key);
        }
    }

    /// Whether a drain is complete: every connection was closed, and the peers were told.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining.is_some()
            && self.conns.iter().all(|(_, conn)| conn.stage == Stage::Closing && !conn.is_active)
    }

    pub(super) fn close_all(&mut self) {
        for key in self.conns.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            if self.conns.get(key).is_some_and(|conn| conn.stage != Stage::Closing) {
                self.close(key, Code::Done, b"node stops");
            }
        }
        // Far enough that an idle loop does not spin while the caller looks at is_drained.
        self.draining = self.draining.map(|at| at + Duration::from_secs(3600));
    }

    /// Forgets a closed connection.
    pub(super) fn remove(&mut self, key: Key, now: Instant) {
        // Its number may be given to another connection at once.
        self.receiving.take_if(|run| run.key == key);
        let Some(mut conn) = self.conns.try_remove(key) else { return };
        if let Some(at) = conn.timer {
            self.timers.remove(&(at, Timer::Conn(key)));
        }
        if let Some(initial) = &conn.initial_dcid {
            self.by_initial.remove(initial);
        }
        // A key in the table of IDs must not outlive its connection: the next one gets its number.
        while let Some(id) = conn.quic.retired_scid_next() {
            self.forget_id(&id);
        }
        for id in conn.quic.source_ids() {
            self.forget_id(id);
        }
        match conn.stage {
            Stage::Handshake => self.handshake_failed(&conn),
            Stage::Proof | Stage::Hello | Stage::Behind => self.turned_away(&conn),
            Stage::Ready | Stage::Closing => {}
        }
        self.lose_streams(std::mem::take(&mut conn.streams));
        if let Some(peer) = conn.peer {
            self.remove_from_lane(key, peer, now);
        }
    }

    fn handshake_failed(&mut self, conn: &Conn) {
        let alert = conn.quic.local_error().map(|error| error.error_code);
        let refused = self.refusal.take();
        // CRYPTO_ERROR and the TLS alerts about certificates (RFC 9001 §4.8, RFC 8446 §6).
        let certificate = alert.is_some_and(|code| (0x100 + 42..=0x100 + 49).contains(&code));
        let reason = if certificate || refused.is_some() {
            DropReason::CertificateRefused
        } else {
            DropReason::HandshakeFailed
        };
        let peer = conn.quic.peer_error().map(|error| error.error_code);
        let given_up = peer.is_none_or(|code| code == APPLICATION_ERROR);
        if alert.is_none() && given_up {
            return; // Nobody answered, or the dialler chose another attempt: no fault of a packet.
        }
        self.local.drops.count(reason);
        let remote = conn.path.remote;
        let why = refused.unwrap_or_else(|| {
            format!("handshake failed: {:?}, code {alert:?} here, {peer:?} there", conn.fault)
        });
        self.event(Event::Refused { remote, why });
    }

    /// The peer has closed a connection that was being made: says why, as far as the peer did.
    fn turned_away(&mut self, conn: &Conn) {
        let Some(error) = conn.quic.peer_error().filter(|error| error.is_app) else { return };
        if error.error_code == Code::Done as u64 || error.error_code == Code::Superseded as u64 {
            return; // The other end chose another connection, or leaves.
        }
        if error.error_code == Code::PolicyMismatch as u64 {
            self.local.drops.count(DropReason::PolicyMismatch);
        }
        let said = String::from_utf8_lossy(&error.reason);
        let why =
            format!("the peer closed with code {}: {}", error.error_code, said.escape_debug());
        self.event(Event::Refused { remote: conn.path.remote, why });
    }

    pub(super) fn remove_from_lane(&mut self, key: Key, peer: PeerId, now: Instant) {
        let patience = self.dial_patience(peer);
        let draining = self.draining.is_some();
        let Some(link) = self.link(peer) else { return };
        let pause = patience + if link.peer_left { REDIAL_LEFT } else { REDIAL };
        for lane in &mut link.lanes {
            if lane.slot.lost(key, now) && !draining {
                lane.slot.dialler.want(now + pause);
            }
        }
        let went_down = link.was_up && !link.is_up();
        link.was_up = link.is_up();
        if went_down && !self.role.is_leaving() {
            self.event(Event::Down { peer });
        }
        self.reschedule_link(peer);
    }
}
