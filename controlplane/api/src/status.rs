//! What `GET /v1/status` says.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the daemon is to its mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It belongs to none: found or join.
    Uninitialised,
    /// It founded the mesh and orders its changes.
    Sequencer,
    /// It follows the sequencer.
    Follower,
    /// It was restored, and asks the members for what came after the backup before it orders changes.
    Restoring,
    /// It ordered changes until it was restored elsewhere: it must be stopped.
    Superseded,
    /// It left, or was revoked.
    Left,
}

/// The daemon's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateStatus {
    /// Unix seconds.
    pub not_before_s: u64,
    /// Unix seconds.
    pub not_after_s: u64,
    /// When it will be renewed, Unix seconds.
    pub renew_at_s: u64,
}

/// What is known of this host's stoqd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoqdStatus {
    /// Number of the bundle that it enforces.
    pub bundle: Option<u64>,
    /// Why it cannot be reached or refuses; none if it answers.
    pub error: Option<String>,
}

/// How the daemon fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// What it is.
    pub state: State,
    /// The daemon's version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// MESH-ID.
    pub mesh: Option<String>,
    /// This node.
    pub node: Option<String>,
    /// Whether it issues certificates.
    pub issuer: bool,
    /// The ledger's height.
    pub height: u64,
    /// When the mesh's sequencer was last restored, Unix seconds; 0 if never.
    #[serde(default)]
    pub term: u64,
    /// Hash of the ledger's state, hexadecimal.
    pub state_hash: String,
    /// Sequence of the set of revocations.
    pub revocation_sequence: u64,
    /// Active members.
    pub members: u64,
    /// The certificate of this node.
    pub certificate: Option<CertificateStatus>,
    /// This host's stoqd.
    pub stoqd: StoqdStatus,
    /// What the operator should mend, each with the command.
    pub warnings: Vec<String>,
}
