//! The heads that a node has been shown, and whether they can be of one log each.
//!
//! A log that shows different trees to different nodes has to sign two heads that do not fit. Two
//! of equal size with different roots are the proof at sight. Of different sizes, a consistency
//! proof is needed; until it comes the newer head is held as unproven.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::head::{Consistency, TreeHead};
use crate::signed::{OpenError, Signed, short};
use crate::signers::Signers;
use crate::tree::ProofError;

/// Most logs that heads are kept of: each issuer has one, and there are at most 16 issuers.
pub const LOGS_MAX: usize = 16;
/// Most heads kept of each log, the largest trees: peers are behind by a few heads, not by more.
const HEADS_MAX: usize = 64;

/// Two signed heads that can not be of one log: the proof that it shows different trees.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the log {} has forked: it signed two different trees of size {}. Its issuer shows different certificates to different nodes: revoke it", short(.log), .size
)]
pub struct Fork {
    /// The log.
    pub log: [u8; 32],
    /// The size of both trees.
    pub size: u64,
    /// The head that was known.
    pub known: Signed<TreeHead>,
    /// The head that came.
    pub came: Signed<TreeHead>,
}

/// Why a head is not taken over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// It does not count.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It and a known one can not be of one log.
    #[error(transparent)]
    Fork(Box<Fork>),
    /// Heads of more logs than there are issuers.
    #[error(
        "expected heads of at most {LOGS_MAX} logs, got one of another: take the mesh state again"
    )]
    Logs,
    /// No head of this log is known that the proof could be for.
    #[error("expected a consistency proof between two known heads of the log {}, got one from size {from} to {to}: exchange heads first", short(.log))]
    Unknown {
        /// The log.
        log: [u8; 32],
        /// Size of the older tree.
        from: u64,
        /// Size of the newer tree.
        to: u64,
    },
    /// A proof between two known heads does not hold.
    #[error("the log {} does not prove that it only grew: {error}", short(.log))]
    Inconsistent {
        /// The log.
        log: [u8; 32],
        /// Why not.
        error: ProofError,
    },
}

/// What a head that came means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The first of its log.
    First,
    /// One that is known.
    Known,
    /// Another size than the newest proven one (`proven`): a consistency proof has to be asked for.
    Unproven {
        /// Size of the newest head that is proven.
        proven: u64,
    },
}

#[derive(Clone, Debug)]
struct Kept {
    head: TreeHead,
    signed: Signed<TreeHead>,
    /// Whether it is known to be of one history with the other proven heads.
    is_proven: bool,
}

/// The heads of the mesh's logs, as far as this node was shown.
#[derive(Clone, Debug, Default)]
pub struct HeadStore {
    logs: HashMap<[u8; 32], BTreeMap<u64, Kept>>,
}

impl HeadStore {
    /// No heads yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a head that came from anywhere.
    ///
    /// # Errors
    /// When it does not count, or shows that its log has forked.
    pub fn hear(
        &mut self,
        signed: &Signed<TreeHead>,
        signers: &Signers,
    ) -> Result<Heard, HeadError> {
        let head = signed.open(signers)?;
        if self.logs.len() >= LOGS_MAX && !self.logs.contains_key(&head.log) {
            return Err(HeadError::Logs);
        }
        let heads = self.logs.entry(head.log).or_default();
        if let Some(known) = heads.get(&head.size) {
            if known.head.root == head.root {
                return Ok(Heard::Known);
            }
            let (known, came) = (known.signed.clone(), signed.clone());
            let fork = Fork { log: head.log, size: head.size, known, came };
            return Err(HeadError::Fork(Box::new(fork)));
        }
        let is_first = heads.is_empty();
        let proven = newest_proven(heads).map_or(0, |kept| kept.head.size);
        heads.insert(head.size, Kept { head, signed: signed.clone(), is_proven: is_first });
        trim(heads);
        Ok(if is_first { Heard::First } else { Heard::Unproven { proven } })
    }

    /// Takes a proof that connects two known heads of a log; what it connects to a proven one is
    /// proven from then on.
    ///
    /// # Errors
    /// When one of the heads is unknown, or the proof does not hold: the log has then changed its
    /// past, unless the proof was damaged on the way.
    pub fn prove(&mut self, log: &[u8; 32], proof: &Consistency) -> Result<(), HeadError> {
        let unknown = || HeadError::Unknown { log: *log, from: proof.from, to: proof.to };
        let heads = self.logs.get_mut(log).ok_or_else(unknown)?;
        let (older, newer) = (heads.get(&proof.from), heads.get(&proof.to));
        let (older, newer) = (older.ok_or_else(unknown)?, newer.ok_or_else(unknown)?);
        proof
            .verify(&older.head, &newer.head)
            .map_err(|error| HeadError::Inconsistent { log: *log, error })?;
        let is_proven = older.is_proven || newer.is_proven;
        for size in [proof.from, proof.to] {
            if let Some(kept) = heads.get_mut(&size) {
                kept.is_proven |= is_proven;
            }
        }
        Ok(())
    }

    /// The newest proven head of each log, to tell peers.
    pub fn newest(&self) -> impl Iterator<Item = &Signed<TreeHead>> {
        self.logs.values().filter_map(|heads| newest_proven(heads)).map(|kept| &kept.signed)
    }

    /// The newest proven head of one log.
    #[must_use]
    pub fn newest_of(&self, log: &[u8; 32]) -> Option<&TreeHead> {
        newest_proven(self.logs.get(log)?).map(|kept| &kept.head)
    }

    /// The heads of every log: of each its largest tree first, then of each the next.
    #[must_use]
    pub fn all(&self) -> Vec<&Signed<TreeHead>> {
        let mut ranked: Vec<_> = Vec::new();
        for heads in self.logs.values() {
            ranked.extend(heads.values().rev().enumerate());
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, kept)| &kept.signed).collect()
    }

    /// How many heads wait for a consistency proof.
    #[must_use]
    pub fn unproven(&self) -> usize {
        self.logs.values().flat_map(BTreeMap::values).filter(|kept| !kept.is_proven).count()
    }
}

fn newest_proven(heads: &BTreeMap<u64, Kept>) -> Option<&Kept> {
    heads.values().rev().find(|kept| kept.is_proven)
}

/// Forgets the smallest trees when there are too many, but never the newest proven one.
fn trim(heads: &mut BTreeMap<u64, Kept>) {
    let keep = newest_proven(heads).map(|kept| kept.head.size);
    if heads.len() > HEADS_MAX {
        let smallest = heads.keys().copied().find(|size| Some(*size) != keep);
        smallest.and_then(|size| heads.remove(&size));
    }
}
