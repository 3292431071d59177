//! Whose signatures count: the issuing and log keys whose certificates lead to the root.

use std::fmt;

use stoq_identity::{Policy, PublicKeys};
use thiserror::Error;

/// Most issuers, and most logs: each issuer has one log, and there are few.
pub const SIGNERS_MAX: usize = 16;

/// Which keys sign something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// An issuer's: records and revocations.
    Issuer,
    /// A log's: its heads.
    Log,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Issuer => "an issuer",
            Self::Log => "a log",
        })
    }
}

/// One signer too many.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected at most {SIGNERS_MAX} issuers and as many logs, got one more: take the mesh state from another host"
)]
pub struct SignersError;

/// The keys whose signatures count in a mesh. Whoever adds keys has verified their certificate, of
/// the right kind, under the root: [`crate::Bundle::verify`] does.
#[derive(Clone, Debug)]
pub struct Signers {
    mesh: String,
    policy: Policy,
    issuers: Vec<([u8; 32], PublicKeys)>,
    logs: Vec<([u8; 32], PublicKeys)>,
}

impl Signers {
    /// Nobody's yet, in the mesh with this identity.
    #[must_use]
    pub fn new(mesh: &str, policy: Policy) -> Self {
        Self { mesh: mesh.to_owned(), policy, issuers: Vec::new(), logs: Vec::new() }
    }

    /// Lets these keys sign; those that do already, again.
    ///
    /// # Errors
    /// When there are [`SIGNERS_MAX`].
    pub fn add(&mut self, signer: Signer, keys: PublicKeys) -> Result<(), SignersError> {
        let fingerprint = keys.fingerprint();
        if self.keys(signer, &fingerprint).is_some() {
            return Ok(());
        }
        let all = match signer {
            Signer::Issuer => &mut self.issuers,
            Signer::Log => &mut self.logs,
        };
        if all.len() >= SIGNERS_MAX {
            return Err(SignersError);
        }
        all.push((fingerprint, keys));
        Ok(())
    }

    /// Takes keys away that were revoked.
    pub fn remove(&mut self, fingerprint: &[u8; 32]) {
        self.issuers.retain(|(known, _)| known != fingerprint);
        self.logs.retain(|(known, _)| known != fingerprint);
    }

    /// The keys with this fingerprint, if they may sign as `signer`.
    #[must_use]
    pub fn keys(&self, signer: Signer, fingerprint: &[u8; 32]) -> Option<&PublicKeys> {
        let all = match signer {
            Signer::Issuer => &self.issuers,
            Signer::Log => &self.logs,
        };
        all.iter().find(|(known, _)| known == fingerprint).map(|(_, keys)| keys)
    }

    /// The mesh's identity.
    #[must_use]
    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// Which signatures are needed.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }
}
