//! What a node knows about revoked keys: the newest set that was proven to it.
//!
//! The rules keep a set that was rolled back, thinned out or forged from doing anything: only a
//! higher sequence counts, and only when every entry that was ever known is still in it.

use std::collections::{HashMap, HashSet};

use thiserror::Error;

use crate::revocation::{Revocations, Revoked, RevokedKind};
use crate::signed::{OpenError, Signed};
use crate::signers::Signers;

/// Why a set of revocations is not taken over. What was known before stays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RevocationError {
    /// It is not signed as it must be.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An older one.
    #[error(
        "expected a set of revocations of sequence {have} or later, got {got}: the sender is behind, or the set was rolled back"
    )]
    Older {
        /// The sequence that is known.
        have: u64,
        /// That of the set.
        got: u64,
    },
    /// Two sets of one sequence.
    #[error(
        "expected one set of revocations of sequence {sequence}, got a second one: issuers have signed different sets; restore the ledger of one of them"
    )]
    Forked {
        /// The sequence of both.
        sequence: u64,
    },
    /// An entry has disappeared.
    #[error(
        "expected the keys of {node} still in the set of sequence {got}, they are missing: an issuer works on an old ledger; restore the newest backup"
    )]
    Missing {
        /// Whose keys.
        node: String,
        /// The set's sequence.
        got: u64,
    },
}

/// The newest set that was proven, and answers out of it.
#[derive(Clone, Debug, Default)]
pub struct RevocationStore {
    newest: Option<Signed<Revocations>>,
    sequence: u64,
    entries: HashMap<[u8; 32], Revoked>,
    names: HashSet<String>,
}

impl RevocationStore {
    /// Nothing is revoked as far as is known: sequence 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a set over when it is newer than what is known. Returns the entries that are new: what
    /// they name has to be cut off now. The same set again is no error and has none.
    ///
    /// The caller writes the set down before it relies on it.
    ///
    /// # Errors
    /// Why it is not taken over.
    pub fn accept(
        &mut self,
        signed: &Signed<Revocations>,
        signers: &Signers,
    ) -> Result<Vec<Revoked>, RevocationError> {
        let claimed = signed.claims().map_err(OpenError::from)?.sequence;
        if claimed < self.sequence {
            return Err(RevocationError::Older { have: self.sequence, got: claimed });
        }
        let set = signed.open(signers)?;
        let got = set.sequence;
        let held: HashSet<&[u8; 32]> = set.entries.iter().map(|entry| &entry.keys).collect();
        let missing = self.entries.values().find(|known| !held.contains(&known.keys));
        let new: Vec<Revoked> = set
            .entries
            .into_iter()
            .filter(|entry| !self.entries.contains_key(&entry.keys))
            .collect();
        if got == self.sequence {
            let same = missing.is_none() && new.is_empty();
            return if same { Ok(new) } else { Err(RevocationError::Forked { sequence: got }) };
        }
        if let Some(missing) = missing {
            return Err(RevocationError::Missing { node: missing.node.clone(), got });
        }
        for entry in &new {
            if matches!(entry.kind, RevokedKind::Node | RevokedKind::Operator) {
                self.names.insert(entry.node.clone());
            }
            self.entries.insert(entry.keys, entry.clone());
        }
        self.sequence = got;
        self.newest = Some(signed.clone());
        Ok(new)
    }

    /// Whether the holder of these keys, or of this name, was cut off.
    #[must_use]
    pub fn is_revoked(&self, keys: &[u8; 32], node: &str) -> bool {
        self.entries.contains_key(keys) || self.names.contains(node)
    }

    /// How these keys were revoked: also those of an issuer or a log.
    #[must_use]
    pub fn entry(&self, keys: &[u8; 32]) -> Option<&Revoked> {
        self.entries.get(keys)
    }

    /// All revoked keys, in no order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Revoked> {
        self.entries.values()
    }

    /// The sequence of the newest set; 0 when there is none.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The newest set, to pass on.
    #[must_use]
    pub fn newest(&self) -> Option<&Signed<Revocations>> {
        self.newest.as_ref()
    }

    /// How many keys are revoked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no keys are revoked as far as is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
