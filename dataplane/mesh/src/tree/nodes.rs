//! Where the complete nodes of a tree are kept.

use thiserror::Error;

/// A node whose leaves are all there: it never changes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complete {
    /// Its height above the leaves.
    pub level: u8,
    /// Its place among the nodes of its level, from 0.
    pub place: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// A node that should be stored and is not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected node {place} of level {level} of the log's tree, it is missing ({reason}): the log's storage is damaged, restore it from the backup"
)]
pub struct MissingNode {
    /// Its height above the leaves.
    pub level: u8,
    /// Its place in its level.
    pub place: u64,
    /// What the storage met.
    pub reason: String,
}

/// The stored nodes of a tree, written as [`super::Tree::append`] names them.
pub trait Nodes {
    /// The hash of a complete node.
    ///
    /// # Errors
    /// When it is not there.
    fn node(&self, level: u8, place: u64) -> Result<[u8; 32], MissingNode>;
}

/// Nodes in memory: for whoever has all leaves at hand and verifies a log from outside.
#[derive(Clone, Debug, Default)]
pub struct MemoryNodes {
    levels: Vec<Vec<[u8; 32]>>,
}

impl MemoryNodes {
    /// Keeps nodes as they were named, in that order.
    pub fn store(&mut self, complete: &[Complete]) {
        for node in complete {
            let level = usize::from(node.level);
            if self.levels.len() <= level {
                self.levels.resize_with(level + 1, Vec::new);
            }
            debug_assert_eq!(self.levels[level].len() as u64, node.place);
            self.levels[level].push(node.hash);
        }
    }
}

impl Nodes for MemoryNodes {
    fn node(&self, level: u8, place: u64) -> Result<[u8; 32], MissingNode> {
        let missing = || MissingNode { level, place, reason: "never appended".to_owned() };
        let stored = self.levels.get(usize::from(level));
        let place = usize::try_from(place).map_err(|_| missing())?;
        stored.and_then(|level| level.get(place)).copied().ok_or_else(missing)
    }
}
