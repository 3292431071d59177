//! Work that a connection needs and a worker must not do, because it takes as long as a burst of packets:
//! signing and verifying proofs of possession, and whatever the daemon makes of a peer's mesh state.
//!
//! An endpoint hands out a [`Task`]; whoever carries it out (a thread of the daemon, a test's network)
//! tells the endpoint what came of it by a [`Done`].

use std::sync::Arc;

use stoq_identity::{
    Identity, Label, PeerIdentity, Policy, Role, Signature, possession_body,
};
use stoq_telemetry::DropReason;

use crate::PeerId;
use crate::control::{LOG_PROOF_LEN_MAX, Proof, SIGNATURE_LEN_MAX, State};

/// The connection that a task is for. One that is gone meanwhile takes no answer, even if its place in
/// the table is another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(crate) key: usize,
    pub(crate) serial: u64,
}

/// What both ends' proofs are bound to, seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Our end of the handshake.
    pub role: Role,
    /// The connection's exporter value (RFC 8446 §7.5).
    pub exporter: [u8; 32],
    /// SHA-256 of our certificate.
    pub own: [u8; 32],
    /// SHA-256 of the peer's.
    pub peer: [u8; 32],
}

impl Binding {
    fn own_body(&self) -> Vec<u8> {
        possession_body(self.role, &self.exporter, &self.own, &self.peer)
    }

    fn peer_body(&self) -> Vec<u8> {
        let role = match self.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        possession_body(role, &self.exporter, &self.peer, &self.own)
    }
}

/// Sign our proof.
#[derive(Clone, Debug)]
pub struct Sign {
    /// For whom.
    pub ticket: Ticket,
    /// The identity that this connection's handshake used.
    pub identity: Arc<Identity>,
    /// What to sign.
    pub binding: Binding,
}

impl Sign {
    /// Signs; takes about 0.4 ms with hybrid keys.
    #[must_use]
    pub fn perform(&self) -> Done {
        let log = self.identity.log_proof().unwrap_or_default();
        // One that is too long would end the connection; without one a grace period may still hold.
        let log = if log.len() <= LOG_PROOF_LEN_MAX { log.to_vec() } else { Vec::new() };
        let proof = self.signature().map(|signature| Proof { signature, log });
        Done::Signed(self.ticket, proof)
    }

    fn signature(&self) -> Result<Vec<u8>, String> {
        let keys = self.identity.keys().ok_or("expected both private keys, got one alone")?;
        let signature = keys.sign(&Label::POSSESSION, &self.binding.own_body());
        let signature = signature.map_err(|error| error.to_string())?.to_bytes();
        debug_assert!(signature.len() <= SIGNATURE_LEN_MAX);
        Ok(signature)
    }
}

/// Verify the peer's proof.
#[derive(Clone, Debug)]
pub struct Verify {
    /// For whom.
    pub ticket: Ticket,
    /// The peer that the certificate stands for.
    pub peer: PeerId,
    /// The peer's verified certificate.
    pub identity: Arc<PeerIdentity>,
    /// That certificate in DER, which is what its log holds.
    pub leaf: Arc<[u8]>,
    /// What the peer sent.
    pub proof: Proof,
    /// Which of the signatures are asked for.
    pub policy: Policy,
    /// What the signature must be bound to.
    pub binding: Binding,
}

impl Verify {
    /// Whether the peer holds the keys of its certificate, on this connection; takes about 0.1 ms.
    ///
    /// # Errors
    /// The reason to count, and one for the log.
    pub fn perform(&self) -> Result<(), Refused> {
        let refused = |why: String| {
            let node = &self.identity.id;
            Refused { reason: DropReason::ProofRefused, why: format!("proof of {node}: {why}") }
        };
        let signature =
            Signature::from_bytes(&self.proof.signature).map_err(|e| refused(e.to_string()))?;
        self.identity
            .keys
            .verify(&Label::POSSESSION, &self.binding.peer_body(), &signature, self.policy)
            .map_err(|error| refused(error.to_string()))
    }
}

/// Why a connection must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is counted.
    pub reason: DropReason,
    /// What is logged.
    pub why: String,
}

/// Something to be done elsewhere.
#[derive(Clone, Debug)]
pub enum Task {
    /// Sign our proof, and answer with [`Done::Signed`].
    Sign(Sign),
    /// Verify a proof, and answer with [`Done::Verified`].
    Verify(Verify),
    /// A peer has sent a newer set of revocations: verify it, and give every worker the mesh's new state.
    Revocations {
        /// Who sent it.
        peer: PeerId,
        /// The sequence that the peer says it has.
        sequence: u64,
        /// The signed set.
        set: Vec<u8>,
    },
    /// A peer has said what it knows of the mesh.
    State {
        /// The peer.
        peer: PeerId,
        /// What it knows.
        state: State,
    },
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Our proof, or why there is none.
    Signed(Ticket, Result<Proof, String>),
    /// Whether the peer's proof holds.
    Verified(Ticket, Result<(), Refused>),
}
