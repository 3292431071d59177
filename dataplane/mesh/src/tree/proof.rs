//! Inclusion and consistency (RFC 9162 §2.1.3 and §2.1.4): made from stored nodes, verified from
//! the proof alone.

use thiserror::Error;

use super::{MissingNode, Nodes, empty_root, node_hash};

/// Longest path: a tree has at most 2^63 leaves, and a consistency proof one hash more.
pub const PATH_MAX: usize = 64;

/// Why a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// What is asked for lies outside the tree.
    #[error(
        "expected a place before {size} in a tree of that size, got {got}: ask for one that it has"
    )]
    Outside {
        /// The tree's size.
        size: u64,
        /// What was asked for.
        got: u64,
    },
    /// The path is too long or too short.
    #[error(
        "expected a path as long as the tree is high, got {got} hashes: the proof is not for this place and size"
    )]
    Length {
        /// How many hashes came.
        got: usize,
    },
    /// The path leads to another root.
    #[error(
        "the path leads to another root than that of the tree of size {size}: the proof is not for this tree, or the log was changed"
    )]
    Root {
        /// The tree's size.
        size: u64,
    },
    /// A node is not stored.
    #[error(transparent)]
    Missing(#[from] MissingNode),
}

/// The path that proves that the leaf `index` is in the tree of the first `size` leaves.
///
/// # Errors
/// When the tree has no such leaf, or a node is missing.
pub fn inclusion_path(
    nodes: &impl Nodes,
    index: u64,
    size: u64,
) -> Result<Vec<[u8; 32]>, ProofError> {
    if index >= size {
        return Err(ProofError::Outside { size, got: index });
    }
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(range(nodes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The path that proves that the tree of size `from` is the beginning of that of size `to`. Empty
/// when they are the same, or the first has no leaves.
///
/// # Errors
/// When the first is larger, or a node is missing.
pub fn consistency_path(
    nodes: &impl Nodes,
    from: u64,
    to: u64,
) -> Result<Vec<[u8; 32]>, ProofError> {
    if from > to {
        return Err(ProofError::Outside { size: to, got: from });
    }
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, to);
    // Whether the part that is left began with the whole old tree: then the old root is known to
    // the verifier and not part of the proof.
    let mut whole = true;
    let mut path = Vec::new();
    while from != end {
        let middle = start + split(end - start);
        if from <= middle {
            path.push(range(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(range(nodes, start, middle)?);
            start = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(range(nodes, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// The largest power of two below `count`, where a tree of that many leaves is split.
fn split(count: u64) -> u64 {
    debug_assert!(count > 1, "one leaf is not split");
    1 << (count - 1).ilog2()
}

/// Root of the subtree over the leaves `start..end`, where `start` is a multiple of the largest
/// power of two that fits: joined from complete nodes, the rightmost first.
fn range(nodes: &impl Nodes, start: u64, end: u64) -> Result<[u8; 32], MissingNode> {
    let mut parts = Vec::new();
    let mut at = start;
    while at < end {
        let level = (end - at).ilog2();
        debug_assert_eq!(at % (1 << level), 0, "a subtree begins where it is complete");
        let level_u8 = u8::try_from(level).unwrap_or(u8::MAX);
        parts.push(nodes.node(level_u8, at >> level)?);
        at += 1 << level;
    }
    let joined = parts.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
    Ok(joined.unwrap_or_else(empty_root))
}

/// Verifies that the leaf with this hash is at `index` in the tree of `size` leaves with `root`
/// (RFC 9162 §2.1.3.2).
///
/// # Errors
/// Why the proof does not hold.
pub fn verify_inclusion(
    leaf: &[u8; 32],
    index: u64,
    size: u64,
    path: &[[u8; 32]],
    root: &[u8; 32],
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Outside { size, got: index });
    }
    let length = || ProofError::Length { got: path.len() };
    if path.len() > PATH_MAX {
        return Err(length());
    }
    let mut walk = Walk { at: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in path {
        let is_right = walk.up().ok_or_else(length)?;
        hash = if is_right { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
    }
    if walk.last != 0 {
        return Err(length());
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root { size }) }
}

/// Verifies that the tree of size `from` with `from_root` is the beginning of that of size `to`
/// with `to_root` (RFC 9162 §2.1.4.2).
///
/// # Errors
/// Why the proof does not hold.
pub fn verify_consistency(
    (from, from_root): (u64, &[u8; 32]),
    (to, to_root): (u64, &[u8; 32]),
    path: &[[u8; 32]],
) -> Result<(), ProofError> {
    let length = || ProofError::Length { got: path.len() };
    if from > to {
        return Err(ProofError::Outside { size: to, got: from });
    }
    if path.len() > PATH_MAX {
        return Err(length());
    }
    if from == 0 || from == to {
        let expected = if from == 0 { empty_root() } else { *to_root };
        let same = *from_root == expected && (to != 0 || *to_root == expected);
        return match (path.is_empty(), same) {
            (false, _) => Err(length()),
            (true, false) => Err(ProofError::Root { size: from }),
            (true, true) => Ok(()),
        };
    }
    // An old tree that is one complete node is not repeated in the path.
    let (first, rest) = if from.is_power_of_two() {
        (from_root, path)
    } else {
        path.split_first().ok_or_else(length)?
    };
    let complete = (from - 1).trailing_ones();
    let mut walk = Walk { at: (from - 1) >> complete, last: (to - 1) >> complete };
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if walk.up().ok_or_else(length)? {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
        } else {
            new = node_hash(&new, sibling);
        }
    }
    if walk.last != 0 {
        return Err(length());
    }
    if old != *from_root {
        return Err(ProofError::Root { size: from });
    }
    if new == *to_root { Ok(()) } else { Err(ProofError::Root { size: to }) }
}

/// The way from a node to the root: its place in its level, and the place of the last one there.
struct Walk {
    at: u64,
    last: u64,
}

impl Walk {
    /// Goes up past the next node that has a sibling; says whether that sibling is to the left.
    /// `None` when this is the root.
    fn up(&mut self) -> Option<bool> {
        if self.last == 0 {
            return None;
        }
        let is_right = self.at & 1 == 1 || self.at == self.last;
        if is_right {
            // The last node of a level without a sibling is that of the level above.
            while self.at & 1 == 0 && self.at != 0 {
                self.at >>= 1;
                self.last >>= 1;
            }
        }
        self.at >>= 1;
        self.last >>= 1;
        Some(is_right)
    }
}
