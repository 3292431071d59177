//! The set of revoked keys, as issuers sign it and nodes exchange it.

use serde::{Deserialize, Serialize};
use stoq_identity::{Label, NAME_MAX};

use crate::signed::{Body, ContentError};
use crate::signers::Signer;

/// Most bytes of a signed set, so that a node that was away fetches it in about a second.
pub const REVOCATIONS_MAX_BYTES: usize = 1024 * 1024;
/// Most entries, as in the ledger: with the longest names they stay under the most bytes.
pub const REVOCATIONS_MAX: usize = 8192;

/// All keys that were ever revoked. It only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// The mesh's identity.
    pub mesh: String,
    /// Rises whenever an entry is added.
    pub sequence: u64,
    /// Ascending by keys, each once.
    pub entries: Vec<Revoked>,
}

/// Keys that never come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Fingerprint of the keys.
    pub keys: [u8; 32],
    /// What they were for.
    pub kind: RevokedKind,
    /// The member or operator whose they were.
    pub node: String,
    /// When, in seconds since 1970 UTC.
    pub at_s: u64,
}

/// What revoked keys were for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedKind {
    /// To be a node: its name does not come back either.
    Node,
    /// To be an operator: its name does not come back either.
    Operator,
    /// To issue certificates. The member may still be one.
    Issuer,
    /// To sign a log. The member may still be one.
    Log,
}

impl Body for Revocations {
    const WHAT: &'static str = "set of revocations";
    const LABEL: Label = Label::REVOCATIONS;
    const SIGNER: Signer = Signer::Issuer;
    /// The signed set with its signature stays within [`REVOCATIONS_MAX_BYTES`].
    const MAX_BYTES: usize = REVOCATIONS_MAX_BYTES - 4096;

    fn mesh(&self) -> Option<&str> {
        Some(&self.mesh)
    }

    fn check(&self) -> Result<(), ContentError> {
        let rule = |holds: bool, expected: &'static str, got: String| {
            if holds { Ok(()) } else { Err(ContentError { what: Self::WHAT, expected, got }) }
        };
        let count = self.entries.len();
        rule(count <= REVOCATIONS_MAX, "at most 8192 entries", count.to_string())?;
        rule(self.sequence > 0, "a sequence from 1", self.sequence.to_string())?;
        let ascending = self.entries.is_sorted_by(|one, next| one.keys < next.keys);
        rule(ascending, "entries ascending by keys, each once", "another order".to_owned())?;
        let long = self.entries.iter().map(|entry| entry.node.len()).find(|len| *len > NAME_MAX);
        rule(long.is_none(), "names of at most 63 bytes", long.unwrap_or_default().to_string())
    }
}
