//! A set of revocations as it travels between nodes and is written down: with its issuer's certificate, so
//! that a node which knows nothing but the root can verify it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use stoq_identity::{MAX_CERTIFICATE_BYTES, Verifier, VerifyError};
use stoq_mesh::{
    REVOCATIONS_MAX_BYTES, RevocationError, Revocations, Signed, Signer, Signers, SignersError,
};

/// Most bytes of one: the set, the certificate, and their lengths.
pub const SET_MAX: usize = REVOCATIONS_MAX_BYTES + MAX_CERTIFICATE_BYTES + 16;

const _: () = assert!(SET_MAX <= stoq::control::REVOCATIONS_MAX, "it fits REVOCATIONS frames");

/// A set and who signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSet {
    /// The issuer's certificate in DER.
    #[serde(with = "serde_bytes")]
    pub issuer: Vec<u8>,
    /// The set.
    pub set: Signed<Revocations>,
}

/// Why a set is not used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It is none, or cut off.
    #[error("something else, or a part ({0})")]
    Malformed(String),
    /// Its issuer's certificate does not lead to the root.
    #[error("one whose issuer does not count: {0}")]
    Issuer(#[from] VerifyError),
    /// More signers than there can be.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// It is not the one that was named.
    #[error("sequence {got} where {named} was named")]
    Sequence {
        /// The sequence that the sender named.
        named: u64,
        /// That of the set.
        got: u64,
    },
    /// It was not signed by that issuer, or is older than the one in force.
    #[error("one that is refused: {0}")]
    Refused(RevocationError),
    /// Its issuer is revoked itself.
    #[error("one signed by the revoked issuer {node}")]
    Withdrawn {
        /// The issuer.
        node: String,
    },
}

impl SignedSet {
    /// Reads one; nothing is verified.
    ///
    /// # Errors
    /// [`SetError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SetError> {
        if bytes.len() > SET_MAX {
            return Err(SetError::Malformed(format!("{} bytes", bytes.len())));
        }
        let malformed = |error: postcard::Error| SetError::Malformed(error.to_string());
        let (set, rest): (Self, _) = postcard::take_from_bytes(bytes).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(SetError::Malformed(format!("{} bytes behind it", rest.len())));
        }
        Ok(set)
    }

    /// The bytes that travel.
    ///
    /// # Errors
    /// [`SetError::Malformed`] if they are too many, which no decoded one's are.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SetError> {
        let bytes = postcard::to_stdvec(self).map_err(|e| SetError::Malformed(e.to_string()))?;
        if bytes.len() > SET_MAX {
            return Err(SetError::Malformed(format!("{} bytes", bytes.len())));
        }
        Ok(bytes)
    }

    /// Its issuer alone, once its certificate was verified.
    ///
    /// # Errors
    /// When the certificate is no issuer's under the roots.
    pub fn signers(&self, verifier: &Verifier, now: SystemTime) -> Result<Signers, SetError> {
        let issuer = verifier.verify_issuer(&self.issuer, now)?;
        let mut signers = Signers::new(verifier.mesh(), verifier.policy());
        signers.add(Signer::Issuer, issuer.keys)?;
        Ok(signers)
    }
}
