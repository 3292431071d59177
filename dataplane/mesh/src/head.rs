//! The head of a certificate log, and what can be proven under one.

use serde::{Deserialize, Serialize};
use stoq_identity::Label;
use thiserror::Error;

use crate::signed::{Body, ContentError, DecodeError, OpenError, Signed, decode, encode};
use crate::signers::{Signer, Signers};
use crate::tree::{PATH_MAX, ProofError, leaf_hash, verify_consistency, verify_inclusion};

/// Most bytes of an encoded [`LogProof`]: a signed head and a path.
pub const LOG_PROOF_MAX_BYTES: usize = 4096;

/// Most leaves of a log, so that sizes never overflow.
const SIZE_MAX: u64 = 1 << 62;

/// What a log says that it holds, signed by its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeHead {
    /// Fingerprint of the log's keys: the log's name.
    pub log: [u8; 32],
    /// How many certificates it has.
    pub size: u64,
    /// Root of the tree over them (RFC 9162 §2.1.1).
    pub root: [u8; 32],
    /// When it was signed, in seconds since 1970 UTC.
    pub at_s: u64,
}

impl Body for TreeHead {
    const WHAT: &'static str = "log's head";
    const LABEL: Label = Label::TREE_HEAD;
    const SIGNER: Signer = Signer::Log;
    const MAX_BYTES: usize = 32 + 10 + 32 + 10;

    fn mesh(&self) -> Option<&str> {
        None
    }

    fn signer(&self) -> Option<&[u8; 32]> {
        Some(&self.log)
    }

    fn check(&self) -> Result<(), ContentError> {
        if self.size <= SIZE_MAX {
            return Ok(());
        }
        let (what, expected) = (Self::WHAT, "a size of at most 2^62");
        Err(ContentError { what, expected, got: self.size.to_string() })
    }
}

/// That a certificate is in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogProof {
    /// The head of the tree that it is in.
    pub head: Signed<TreeHead>,
    /// Its place in the log, from 0.
    pub index: u64,
    /// The path from it to the root, at most [`PATH_MAX`] hashes.
    pub path: Vec<[u8; 32]>,
}

/// Why a proof does not show that a certificate is in a log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogProofError {
    /// The bytes are no proof.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The head does not count.
    #[error(transparent)]
    Head(#[from] OpenError),
    /// The path does not lead to it.
    #[error("the certificate is not shown to be in the log: {0}")]
    Path(#[from] ProofError),
}

impl LogProof {
    /// The bytes that travel.
    ///
    /// # Errors
    /// When the path is longer than any tree is high.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        encode("log proof", LOG_PROOF_MAX_BYTES, self)
    }

    /// Reads what [`LogProof::to_bytes`] gave; nothing is verified.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode("log proof", LOG_PROOF_MAX_BYTES, bytes)
    }

    /// Verifies that the certificate (DER) is in a log of the mesh, and returns the head, which the
    /// caller compares with those that it knows ([`crate::HeadStore`]).
    ///
    /// # Errors
    /// Why that is not shown.
    pub fn verify(&self, certificate: &[u8], signers: &Signers) -> Result<TreeHead, LogProofError> {
        let head = self.head.open(signers)?;
        let leaf = leaf_hash(certificate);
        verify_inclusion(&leaf, self.index, head.size, &self.path, &head.root)?;
        Ok(head)
    }
}

/// That a log only grew between two heads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consistency {
    /// Size of the older tree.
    pub from: u64,
    /// Size of the newer tree.
    pub to: u64,
    /// The path, at most [`PATH_MAX`] hashes.
    pub path: Vec<[u8; 32]>,
}

impl Consistency {
    /// Verifies it between two heads of one log.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify(&self, older: &TreeHead, newer: &TreeHead) -> Result<(), ProofError> {
        for (said, head) in [(self.from, older), (self.to, newer)] {
            if said != head.size {
                return Err(ProofError::Outside { size: head.size, got: said });
            }
        }
        if self.path.len() > PATH_MAX {
            return Err(ProofError::Length { got: self.path.len() });
        }
        verify_consistency((older.size, &older.root), (newer.size, &newer.root), &self.path)
    }
}
