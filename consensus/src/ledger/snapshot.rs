//! The whole state as bytes, and back.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::state::{Issuer, Member, Mesh, Operator, Retired, Revocation, Token};
use super::{Counters, Ledger};
use crate::hash::{Domain, hash};
use crate::table::{Table, encode};

/// Most bytes of a snapshot: full tables with the longest names come to under 30 MiB.
pub const SNAPSHOT_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// It is larger than [`SNAPSHOT_MAX_BYTES`].
    #[error(
        "expected a snapshot of at most {SNAPSHOT_MAX_BYTES} bytes, got {got}: it is not one of a ledger"
    )]
    Oversized {
        /// Bytes.
        got: usize,
    },
    /// It does not decode.
    #[error(
        "expected a snapshot of version 1, got something else ({got}): it was damaged, or written by a newer version; use another snapshot or the whole journal"
    )]
    Malformed {
        /// What the decoder met.
        got: String,
    },
    /// Its content is not what was written.
    #[error(
        "the snapshot of height {height} does not come to its own hash: it was damaged; use another snapshot or the whole journal"
    )]
    Hash {
        /// The height that it names.
        height: u64,
    },
}

#[derive(Serialize, Deserialize)]
enum Snapshot {
    V1(Box<SnapshotV1>),
}

#[derive(Serialize, Deserialize)]
struct SnapshotV1 {
    hash: [u8; 32],
    height: u64,
    history: [u8; 32],
    sequence: u64,
    last_index: u32,
    mesh: Option<Mesh>,
    members: Vec<(String, Member)>,
    tokens: Vec<(String, Token)>,
    issuers: Vec<(String, Issuer)>,
    operators: Vec<(String, Operator)>,
    routes: Vec<(IpNet, String)>,
    indexes: Vec<(u32, String)>,
    keys: Vec<([u8; 32], String)>,
    revocations: Vec<([u8; 32], Revocation)>,
    retired: Vec<(String, Retired)>,
}

impl Ledger {
    /// The state as bytes, with its hash.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let Counters { height, history, sequence, last_index } = self.counters;
        encode(&Snapshot::V1(Box::new(SnapshotV1 {
            hash: self.hash(),
            height,
            history,
            sequence,
            last_index,
            mesh: self.mesh.clone(),
            members: rows(&self.members),
            tokens: rows(&self.tokens),
            issuers: rows(&self.issuers),
            operators: rows(&self.operators),
            routes: rows(&self.routes),
            indexes: rows(&self.indexes),
            keys: rows(&self.keys),
            revocations: rows(&self.revocations),
            retired: rows(&self.retired),
        })))
    }

    /// The ledger that a snapshot was taken of.
    ///
    /// # Errors
    /// When the bytes are no snapshot, or were changed since.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        if bytes.len() > SNAPSHOT_MAX_BYTES {
            return Err(SnapshotError::Oversized { got: bytes.len() });
        }
        let malformed = |got: String| SnapshotError::Malformed { got };
        let (Snapshot::V1(from), rest) = postcard::take_from_bytes(bytes)
            .map_err(|error: postcard::Error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} bytes behind it", rest.len())));
        }
        let SnapshotV1 { hash: expected, height, history, sequence, last_index, .. } = *from;
        let mesh_hash =
            from.mesh.as_ref().map_or([0; 32], |mesh| hash(Domain::Row, &[&encode(mesh)]));
        let ledger = Self {
            mesh: from.mesh,
            mesh_hash,
            counters: Counters { height, history, sequence, last_index },
            saved: None,
            members: table(from.members),
            tokens: table(from.tokens),
            issuers: table(from.issuers),
            operators: table(from.operators),
            routes: table(from.routes),
            indexes: table(from.indexes),
            keys: table(from.keys),
            revocations: table(from.revocations),
            retired: table(from.retired),
        };
        if ledger.hash() == expected { Ok(ledger) } else { Err(SnapshotError::Hash { height }) }
    }
}

fn rows<K: Ord + Clone + Serialize, V: Clone + PartialEq + Serialize>(
    table: &Table<K, V>,
) -> Vec<(K, V)> {
    table.rows().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn table<K: Ord + Clone + Serialize, V: Clone + PartialEq + Serialize>(
    rows: Vec<(K, V)>,
) -> Table<K, V> {
    let mut table = Table::default();
    for (key, value) in rows {
        table.insert(key, value);
    }
    table.commit();
    table
}
