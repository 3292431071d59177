//! What the control plane pushes: one numbered, complete set of peers at a time, plain or as the mesh's
//! signed bundle.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// All pushed peers. It replaces the one before as a whole; a lower or equal number is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Rises with each snapshot, over restarts of both daemons too.
    pub number: u64,
    /// The peers, each name once; none if there is a bundle, which names them by signed records.
    #[serde(default)]
    pub peers: Vec<SnapshotPeer>,
    /// The mesh's signed state: a postcard-encoded bundle in base64 (RFC 4648 §4, with padding).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// One pushed peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotPeer {
    /// The node's name, as in its certificate.
    pub name: String,
    /// Where it can be reached; none if it only dials.
    #[serde(default)]
    pub endpoints: Vec<SocketAddr>,
    /// The prefixes behind it, such as `10.2.0.0/16`.
    #[serde(default)]
    pub allowed_ips: Vec<String>,
}
