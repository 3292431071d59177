//! The Merkle tree of RFC 9162 §2: what a log has, a proof that something is in it, and a proof
//! that it only ever grew.
//!
//! ```text
//!  level 2          ◆                 a node of level l and place p covers the leaves
//!  level 1     ◆         ◆            p·2^l .. (p+1)·2^l; it is complete once they are all there,
//!  level 0   0   1     2   3     4    and never changes then
//! ```
//!
//! [`Tree`] holds only the complete nodes that no larger one covers (at most 64), so to append and
//! to know the root costs O(log n). Each append names the nodes that it completed; whoever keeps
//! the log stores them ([`Nodes`]), and proofs are made from those. Proofs are verified with
//! nothing but themselves.

mod nodes;
mod proof;

#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{Context, SHA256};

pub use nodes::{Complete, MemoryNodes, MissingNode, Nodes};
pub use proof::{
    PATH_MAX, ProofError, consistency_path, inclusion_path, verify_consistency, verify_inclusion,
};

/// Hash of a leaf (RFC 9162 §2.1.1).
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    sha256(&[&[0], leaf])
}

/// Hash of a node over two others (RFC 9162 §2.1.1).
#[must_use]
pub fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left, right])
}

/// Root of the tree without leaves.
#[must_use]
pub fn empty_root() -> [u8; 32] {
    sha256(&[])
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// A tree that leaves are appended to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// The roots of the largest complete subtrees, from the left; one per set bit of `size`.
    peaks: Vec<[u8; 32]>,
}

impl Tree {
    /// The tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of the first `size` leaves, whose complete nodes are in `nodes`.
    ///
    /// # Errors
    /// When a node is missing.
    pub fn from_nodes(size: u64, nodes: &impl Nodes) -> Result<Self, MissingNode> {
        let mut peaks = Vec::new();
        let mut start = 0;
        for level in (0..64).rev().filter(|level| size >> level & 1 == 1) {
            peaks.push(nodes.node(level, start >> level)?);
            start += 1_u64 << level;
        }
        Ok(Self { size, peaks })
    }

    /// How many leaves it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash, and returns the nodes that are complete now: the leaf itself
    /// first, then one more for each level that it fills.
    pub fn append(&mut self, leaf: [u8; 32]) -> Vec<Complete> {
        let mut place = self.size;
        let mut hash = leaf;
        let mut complete = vec![Complete { level: 0, place, hash }];
        let full = self.size.trailing_ones();
        for level in (1..).take(full as usize) {
            let left = self.peaks.pop();
            debug_assert!(left.is_some(), "one peak per set bit of the size");
            hash = left.map_or(hash, |left| node_hash(&left, &hash));
            place >>= 1;
            complete.push(Complete { level, place, hash });
        }
        self.peaks.push(hash);
        self.size += 1;
        complete
    }

    /// The root hash.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let joined =
            self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        joined.unwrap_or_else(empty_root)
    }
}
