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
    /// The term that the caller knows. A ledger of another term, or one below `above`, is told at once.
    #[serde(default)]
    pub term: Option<u64>,
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
    /// What the ledger comes to, signed by the sequencer (a signed `LedgerHead`); none of an older release, or
    /// where this host has none.
    #[serde(default)]
    pub head: Option<Base64>,
}

/// The ledger at a height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its height.
    pub height: u64,
    /// The ledger, encoded.
    pub ledger: Base64,
    /// What it comes to, signed by the sequencer; none of an older release, or where this host has none.
    #[serde(default)]
    pub head: Option<Base64>,
}

/// What a host's ledger comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeadReply {
    /// Signed by the sequencer (a signed `LedgerHead`); none where this host has none.
    pub head: Option<Base64>,
}

/// A member's word to the sequencer that its own ledger is of another term, or further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerReport {
    /// The head that it holds, as the sequencer once signed it.
    pub head: Option<Base64>,
    /// The set of revocations that it holds, as an issuer signed it.
    pub revocations: Option<Base64>,
}

/// The signed state of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleReply {
    /// The ledger's height in it.
    pub number: u64,
    /// The bundle, encoded.
    pub bundle: Base64,
}
