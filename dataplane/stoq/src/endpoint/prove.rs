//! From the end of the handshake to HELLO: is the other side who it says it is, is it a peer, is it cut
//! off, and, under the hybrid policy, does it hold both keys of its certificate?
//!
//! ```text
//!   dialler   handshake ─▶ sign ─▶ PROOF HELLO STATE ─────────────▶ read PROOF ─▶ verify ─▶ read HELLO
//!   acceptor  handshake ─▶ read PROOF ─▶ verify ─▶ sign ─▶ PROOF ─▶ read HELLO ─▶ HELLO STATE
//! ```

use std::sync::Arc;
use std::time::Instant;

use stoq_identity::{PeerIdentity, Policy};
use stoq_telemetry::DropReason;

use super::Endpoint;
use crate::PeerId;
use crate::conn::{Code, Conn, Origin, Stage};
use crate::control::{Frame, Proof};
use crate::link::Key;
use crate::task::{Done, Refused, Sign, Task, Ticket, Verify};
use crate::tls;

impl Endpoint {
    /// The next piece of work for somebody else; ask after every burst.
    pub fn poll_task(&mut self) -> Option<Task> {
        self.tasks.pop_front()
    }

    /// What became of a task.
    pub fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Signed(ticket, proof) => {
                let Some(key) = self.holder(ticket) else { return };
                match proof {
                    Ok(proof) => self.signed(key, proof, now),
                    Err(why) => {
                        let why = format!("this node cannot prove its own keys: {why}");
                        self.refuse(key, DropReason::ProofRefused, Code::ProofRefused, why);
                    }
                }
            }
            Done::Verified(ticket, result) => {
                let Some(key) = self.holder(ticket) else { return };
                match result {
                    Ok(()) => self.proven(key),
                    Err(Refused { reason, why }) => {
                        self.refuse(key, reason, Code::ProofRefused, why);
                    }
                }
            }
        }
    }

    fn holder(&self, ticket: Ticket) -> Option<Key> {
        let conn = self.conns.get(ticket.key)?;
        let waits = conn.serial == ticket.serial && conn.stage == Stage::Proof;
        waits.then_some(ticket.key)
    }

    /// The handshake is complete: finds out who the other side is.
    pub(super) fn authenticated(&mut self, key: Key, now: Instant) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if let Some(initial) = conn.initial_dcid.take() {
            self.by_initial.remove(&initial);
        }
        let Some(verified) = tls::take_verified((*conn.quic).as_mut()) else {
            let why = "the handshake ended without a verified certificate".to_owned();
            return self.refuse(key, DropReason::CertificateRefused, Code::PeerUnknown, why);
        };
        let tls::Verified { identity, leaf } = verified;
        let origin = conn.origin;
        let peer = match self.welcome(&identity, origin) {
            Ok(peer) => peer,
            Err((reason, code, why)) => return self.refuse(key, reason, code, why),
        };
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.peer = Some(peer);
        conn.peer_identity = Some(identity);
        conn.peer_leaf = leaf;
        let slot = conn.slot;
        match (conn.stage, conn.dialled_here()) {
            (Stage::Proof, true) => self.want_proof(key),
            (Stage::Hello, true) => self.choose(key, peer, slot, now),
            // The acceptor speaks when it has read something.
            _ => {}
        }
    }

    /// The peer that this certificate stands for, if it may connect.
    fn welcome(
        &self,
        identity: &PeerIdentity,
        origin: Origin,
    ) -> Result<PeerId, (DropReason, Code, String)> {
        let name = identity.id.node();
        if self.mesh.is_revoked(identity) {
            let sequence = self.mesh.sequence;
            let why = format!("node {name} is revoked (set {sequence}): it has to stay away");
            return Err((DropReason::Revoked, Code::Revoked, why));
        }
        let unknown = |why| (DropReason::PeerUnknown, Code::PeerUnknown, why);
        let peer = match (origin, self.names.get(name).copied()) {
            (Origin::Dialled { peer: wanted, .. }, Some(peer)) if wanted == peer => peer,
            (Origin::Accepted, Some(peer)) => peer,
            (Origin::Dialled { .. }, _) => {
                return Err(unknown(format!("another node than was dialled answered: {name}")));
            }
            (Origin::Accepted, None) => {
                let why = format!("node {name} is no configured peer; add a [[peer]] for it");
                return Err(unknown(why));
            }
        };
        let link = self.links.get(peer.0 as usize).and_then(Option::as_ref);
        let wanted = link.and_then(|link| link.peer.keys);
        if wanted.is_some_and(|keys| keys != identity.keys.fingerprint()) {
            let why = format!("node {name} has other keys than its member record names");
            return Err((DropReason::CertificateRefused, Code::PeerUnknown, why));
        }
        Ok(peer)
    }

    /// Ends the connections of a peer that have other keys than its member record names by now.
    pub(super) fn end_others(&mut self, peer: PeerId, keys: [u8; 32], now: Instant) {
        let other = |(key, conn): (Key, &Conn)| {
            let identity = conn.peer_identity.as_ref().filter(|_| conn.peer == Some(peer))?;
            (identity.keys.fingerprint() != keys).then_some(key)
        };
        for key in self.conns.iter().filter_map(other).collect::<Vec<_>>() {
            let why = "its member record names other keys now".to_owned();
            self.refuse(key, DropReason::CertificateRefused, Code::PeerUnknown, why);
            self.remove_from_lane(key, peer, now);
        }
    }

    /// Asks for our proof.
    fn want_proof(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(binding) = conn.binding() else {
            let why = "TLS gave no exporter value for the proof".to_owned();
            return self.refuse(key, DropReason::HandshakeFailed, Code::ProofRefused, why);
        };
        let ticket = Ticket { key, serial: conn.serial };
        let identity = Arc::clone(&conn.identity);
        self.tasks.push_back(Task::Sign(Sign { ticket, identity, binding }));
    }

    /// The peer's proof has come: it is looked at before anything else of this connection.
    pub(super) fn proof(&mut self, key: Key, proof: Proof) {
        let policy = self.credentials.policy;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(peer) = conn.peer else { return };
        let (Some(binding), Some(identity)) = (conn.binding(), conn.peer_identity.clone()) else {
            let why = "TLS gave no exporter value for the proof".to_owned();
            return self.refuse(key, DropReason::HandshakeFailed, Code::ProofRefused, why);
        };
        let ticket = Ticket { key, serial: conn.serial };
        let leaf = Arc::clone(&conn.peer_leaf);
        let verify = Verify { ticket, peer, identity, leaf, proof, policy, binding };
        self.tasks.push_back(Task::Verify(verify));
    }

    fn signed(&mut self, key: Key, proof: Proof, now: Instant) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let (Some(peer), slot) = (conn.peer, conn.slot) else { return };
        if conn.dialled_here() {
            conn.own_proof = Some(proof);
            self.choose(key, peer, slot, now);
        } else {
            conn.send_frame(&Frame::Proof(proof));
            conn.stage = Stage::Hello;
        }
        self.activate(key);
    }

    fn proven(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.dialled_here() {
            conn.stage = Stage::Hello;
        } else {
            self.want_proof(key);
        }
        self.activate(key);
    }

    pub(super) fn refuse(&mut self, key: Key, reason: DropReason, code: Code, why: String) {
        self.local.drops.count(reason);
        let said: &[u8] = match code {
            Code::ProofRefused => b"proof of the keys refused",
            Code::Revoked => b"revoked",
            _ => b"not a peer",
        };
        if let Some(conn) = self.conns.get(key) {
            let remote = conn.path.remote;
            self.event(super::Event::Refused { remote, why });
        }
        self.close(key, code, said);
    }
}

/// Whether connections under this policy begin with proofs.
pub(super) const fn proves(policy: Policy) -> bool {
    matches!(policy, Policy::Hybrid)
}
