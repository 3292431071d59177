//! A signed statement how far the log goes, and what it comes to there.

use serde::{Deserialize, Serialize};
use stoq_identity::{KeyError, Label, Policy, PrivateKeys, PublicKeys, Signature, SignatureError};
use thiserror::Error;

use crate::hex;

/// A head of the log. Whoever keeps one can tell later that nothing before it was changed or lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The last entry that it covers.
    pub number: u64,
    /// The hash of that entry.
    #[serde(with = "hex::hash")]
    pub hash: [u8; 32],
    /// When it was signed, in seconds since 1970 UTC.
    pub at_s: u64,
    /// Fingerprint of the keys that signed it.
    #[serde(with = "hex::hash")]
    pub keys: [u8; 32],
    /// The signature.
    #[serde(with = "hex::signature")]
    pub signature: Signature,
}

/// Why a head does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// It was signed with keys that are not the log's.
    #[error(
        "expected a head signed with the log's keys, got one signed with {}: name the keys of the host whose log this is", hex::text(.got)
    )]
    Keys {
        /// Fingerprint of the keys that it names.
        got: [u8; 32],
    },
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Head {
    pub(crate) fn sign(
        (number, hash): (u64, [u8; 32]),
        at_s: u64,
        keys: &PrivateKeys,
    ) -> Result<Self, KeyError> {
        let signature = keys.sign(&Label::AUDIT_HEAD, &body(number, &hash, at_s))?;
        Ok(Self { number, hash, at_s, keys: keys.public().fingerprint(), signature })
    }

    /// Verifies the signature under one of `keys`.
    ///
    /// # Errors
    /// When it is not signed with one of them.
    pub fn verify(&self, keys: &[PublicKeys], policy: Policy) -> Result<(), HeadError> {
        let signer = keys.iter().find(|keys| keys.fingerprint() == self.keys);
        let signer = signer.ok_or(HeadError::Keys { got: self.keys })?;
        let body = body(self.number, &self.hash, self.at_s);
        Ok(signer.verify(&Label::AUDIT_HEAD, &body, &self.signature, policy)?)
    }
}

fn body(number: u64, hash: &[u8; 32], at_s: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], hash, &at_s.to_be_bytes()].concat()
}
