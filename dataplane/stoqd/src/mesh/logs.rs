//! Whether a peer's certificate is in its issuer's log. Asked by the signer's thread for each connection,
//! so it has a copy of what it needs, replaced when the mesh's state is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crossbeam::channel::Sender;
use stoq::control::State;
use stoq::task::{Refused, Task, Verify};
use stoq_mesh::{LogProof, Signers};
use stoq_telemetry::DropReason;

use crate::worker::Errand;

/// What a proof is checked by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The logs whose heads count; without any, proofs are not asked for.
    pub signers: Signers,
    /// The mesh's state names logs.
    pub has_logs: bool,
    /// How long after its start a certificate may lack a proof.
    pub grace: Duration,
}

/// The check; its clones share the rules.
#[derive(Clone)]
pub struct LogCheck {
    rules: Arc<Mutex<Arc<Rules>>>,
    clock: fn() -> SystemTime,
    /// Heads that proofs show are compared with the known ones.
    heads: Sender<Errand>,
}

impl LogCheck {
    /// A check by these rules, which tells `heads` what it is shown.
    #[must_use]
    pub fn new(rules: Rules, clock: fn() -> SystemTime, heads: Sender<Errand>) -> Self {
        Self { rules: Arc::new(Mutex::new(Arc::new(rules))), clock, heads }
    }

    /// Uses these rules from now on.
    pub fn set(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Whether the peer of this connection may be used.
    ///
    /// # Errors
    /// When its certificate is in no log, and has had the time to be.
    pub fn check(&self, verify: &Verify) -> Result<(), Refused> {
        let rules = Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner));
        if !rules.has_logs {
            return Ok(());
        }
        let Err(error) = self.in_log(verify, &rules.signers) else { return Ok(()) };
        let age = (self.clock)().duration_since(verify.identity.not_before).unwrap_or_default();
        if age <= rules.grace {
            return Ok(());
        }
        let (node, grace) = (&verify.identity.id, rules.grace.as_secs());
        let why = format!(
            "{node}: {error}, and its certificate began more than {grace} s ago; renew it there"
        );
        Err(Refused { reason: DropReason::LogProofRefused, why })
    }

    fn in_log(&self, verify: &Verify, signers: &Signers) -> Result<(), String> {
        if verify.proof.log.is_empty() {
            return Err("expected a proof that the certificate is in its log, got none".to_owned());
        }
        let proof = LogProof::from_bytes(&verify.proof.log).map_err(|error| error.to_string())?;
        proof.verify(&verify.leaf, signers).map_err(|error| error.to_string())?;
        if let Ok(head) = proof.head.to_bytes() {
            let state = State { heads: vec![head], ..State::default() };
            // A full queue: the head is in the peer's STATE as well.
            let _full = self.heads.try_send((0, Task::State { peer: verify.peer, state }));
        }
        Ok(())
    }
}
