//! A table of the ledger: ordered rows, a hash over all of them that is kept up as they change, and
//! the way back to where a transaction began.
//!
//! The hash is a binary Merkle tree over [`BUCKETS`] buckets; a row lies in the bucket that the
//! hash of its key names. So the hash follows from the rows alone, not from the order in which
//! they came, and a change costs the hashing of one row, of its bucket's row hashes (40 among
//! 10,000 rows) and of the eight nodes above it, however many rows there are.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::hash::{Domain, hash};

/// Buckets of the tree, a power of two: with 10,000 rows a bucket's 40 hashes take about as long to
/// hash as the eight nodes above it.
const BUCKETS: usize = 256;

/// The canonical bytes of a value of the ledger.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Only a type that does not know its length fails here, and the ledger has none.
    postcard::to_stdvec(value).unwrap_or_else(|error| unreachable!("a value without form: {error}"))
}

#[derive(Clone, Debug)]
pub(crate) struct Table<K, V> {
    rows: BTreeMap<K, V>,
    /// Per bucket the hashes of its rows, by the hash of their keys.
    buckets: Vec<BTreeMap<[u8; 32], [u8; 32]>>,
    /// The tree: node 1 is the root, the children of n are 2n and 2n+1, buckets begin at
    /// [`BUCKETS`].
    nodes: Vec<[u8; 32]>,
    /// What the rows that this transaction has touched were before, the oldest first.
    undo: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        let mut nodes = vec![hash(Domain::Bucket, &[]); 2 * BUCKETS];
        for node in (1..BUCKETS).rev() {
            nodes[node] = hash(Domain::Node, &[&nodes[2 * node], &nodes[2 * node + 1]]);
        }
        let buckets = vec![BTreeMap::new(); BUCKETS];
        Self { rows: BTreeMap::new(), buckets, nodes, undo: Vec::new() }
    }
}

impl<K: Ord + Clone + Serialize, V: Clone + PartialEq + Serialize> Table<K, V> {
    pub(crate) fn rows(&self) -> &BTreeMap<K, V> {
        &self.rows
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.rows.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The hash over all rows.
    pub(crate) fn root(&self) -> [u8; 32] {
        self.nodes[1]
    }

    /// Puts a row in place of the one with this key; an equal row is no change.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.rows.get(&key) != Some(&value) {
            let before = self.set(&key, Some(value));
            self.undo.push((key, before));
        }
    }

    /// Takes the row with this key away, if there is one.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let before = self.rows.contains_key(key).then(|| self.set(key, None)).flatten();
        if before.is_some() {
            self.undo.push((key.clone(), before.clone()));
        }
        before
    }

    pub(crate) fn is_touched(&self) -> bool {
        !self.undo.is_empty()
    }

    /// What the transaction did stays.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
    }

    /// What the transaction did has not happened.
    pub(crate) fn roll_back(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            self.set(&key, before);
        }
    }

    fn set(&mut self, key: &K, value: Option<V>) -> Option<V> {
        let key_hash = hash(Domain::Key, &[&encode(key)]);
        let index = usize::from(key_hash[0]);
        let bucket = &mut self.buckets[index];
        match &value {
            Some(value) => {
                bucket.insert(key_hash, hash(Domain::Row, &[&key_hash, &encode(value)]));
            }
            None => {
                bucket.remove(&key_hash);
            }
        }
        let rows: Vec<&[u8]> = bucket.values().map(<[u8; 32]>::as_slice).collect();
        let mut node = BUCKETS + index;
        self.nodes[node] = hash(Domain::Bucket, &rows);
        while node > 1 {
            node /= 2;
            self.nodes[node] =
                hash(Domain::Node, &[&self.nodes[2 * node], &self.nodes[2 * node + 1]]);
        }
        match value {
            Some(value) => self.rows.insert(key.clone(), value),
            None => self.rows.remove(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same rows, put into an empty table in ascending order.
    fn afresh(table: &Table<u16, String>) -> Table<u16, String> {
        let mut fresh = Table::default();
        for (key, value) in table.rows() {
            fresh.insert(*key, value.clone());
        }
        fresh
    }

    proptest! {
        #[test]
        fn the_hash_follows_from_the_rows_alone(
            steps in prop::collection::vec((0_u16..64, prop::option::of("[ab]{0,2}")), 0..80),
        ) {
            let mut table = Table::default();
            for (key, value) in steps {
                match value {
                    Some(value) => table.insert(key, value),
                    None => { table.remove(&key); }
                }
            }
            prop_assert_eq!(table.root(), afresh(&table).root());
        }

        #[test]
        fn a_transaction_that_is_rolled_back_has_not_happened(
            rows in prop::collection::btree_map(0_u16..64, "[ab]{0,2}", 0..40),
            steps in prop::collection::vec((0_u16..64, prop::option::of("[ab]{0,2}")), 0..40),
        ) {
            let mut table = Table::default();
            for (key, value) in &rows {
                table.insert(*key, value.clone());
            }
            table.commit();
            let before = table.root();
            for (key, value) in steps {
                match value {
                    Some(value) => table.insert(key, value),
                    None => { table.remove(&key); }
                }
            }
            table.roll_back();
            prop_assert_eq!(table.root(), before);
            prop_assert_eq!(table.rows(), &rows);
        }
    }

    #[test]
    fn rows_that_differ_in_key_or_value_hash_differently() {
        let root = |key: u16, value: &str| {
            let mut table = Table::default();
            table.insert(key, value.to_owned());
            table.root()
        };
        let empty = Table::<u16, String>::default().root();
        let roots = [empty, root(1, ""), root(2, ""), root(1, "a"), root(1, "b")];
        for (n, one) in roots.iter().enumerate() {
            assert!(!roots[n + 1..].contains(one));
        }
    }

    #[test]
    fn an_equal_row_is_no_change() {
        let mut table = Table::default();
        table.insert(1, "a".to_owned());
        table.commit();
        table.insert(1, "a".to_owned());
        assert!(!table.is_touched());
    }
}
