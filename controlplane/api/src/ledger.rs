//! The ledger and the bundle as they travel between hypermeshds.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Base64;

/// Which commands, and how long to wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FromHeight {
    /// The height that the caller has; commands above it are returned.
    #[serde(default)]
    pub above: u64,
    /// How long to wait if there is none, in seconds; at most 60.
    #[serde(default)]
    pub wait_s: u64,
}

/// One command, and what the ledger is after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Command {
    /// The height with it.
    pub height: u64,
    /// The command, encoded.
    pub command: Base64,
    /// The state's hash with it.
    pub state_hash: Base64,
}

/// Some commands in order; fewer than there are when there are many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Commands {
    /// The commands.
    pub commands: Vec<Command>,
    /// The height of the answering ledger.
    pub height: u64,
}

/// The ledger at a height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its height.
    pub height: u64,
    /// The ledger, encoded.
    pub ledger: Base64,
}

/// The signed state of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleReply {
    /// The ledger's height in it.
    pub number: u64,
    /// The bundle, encoded.
    pub bundle: Base64,
}
