//! The certificate logs and the audit log as they are read from outside.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Base64;

/// The newest signed head of every log that the daemon knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Heads {
    /// Signed tree heads, encoded.
    pub heads: Vec<Base64>,
    /// The certificates of the logs, PEM.
    pub logs: Vec<String>,
    /// The root's certificate, PEM.
    pub root: String,
}

/// A part of a list. The daemon's own log or audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangeQuery {
    /// Index of the first.
    #[serde(default)]
    pub from: u64,
    /// How many at most; the daemon returns no more than 1000.
    #[serde(default)]
    pub limit: u64,
}

/// One leaf of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEntry {
    /// Its index.
    pub index: u64,
    /// The certificate, DER: what the leaf's hash covers.
    pub certificate: Base64,
}

/// Leaves in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEntries {
    /// The leaves.
    pub entries: Vec<LogEntry>,
    /// How many the log has.
    pub size: u64,
}

/// Which leaf, in the tree of which size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ProofQuery {
    /// The leaf.
    pub index: u64,
    /// Size of the tree.
    pub size: u64,
}

/// An inclusion proof (RFC 9162 §2.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// Hashes from the leaf to the root.
    pub path: Vec<Base64>,
}

/// Which two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConsistencyQuery {
    /// Size of the older tree.
    pub from: u64,
    /// Size of the newer tree.
    pub to: u64,
}

/// A consistency proof (RFC 9162 §2.1.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Consistency {
    /// The hashes.
    pub path: Vec<Base64>,
}

/// One entry of the audit log, as it is chained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number, from 0.
    pub number: u64,
    /// When, Unix seconds.
    pub at_s: u64,
    /// Who.
    pub actor: String,
    /// What was asked.
    pub action: String,
    /// What came of it.
    pub result: String,
}

/// Entries in order, and the log itself for `stoqctl audit verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntries {
    /// The entries asked for.
    pub entries: Vec<AuditEntry>,
    /// How many there are.
    pub size: u64,
    /// The chained log's bytes of these entries with its heads (`stoq_audit` form); verifiable on
    /// their own when they begin at 0.
    pub log: Base64,
}
