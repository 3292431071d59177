//! What a certificate is for: a node, an operator, an issuer or a log.
//!
//! Said by a certificate policy under our own arc ([`crate::oid`]), so that a certificate made for
//! one use is refused in every other, whatever else it says.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oid;

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Look.
    Viewer,
    /// Look, and run the mesh from day to day.
    Operator,
    /// Everything, also who belongs to the mesh.
    Admin,
}

impl OperatorRole {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A node: STOQ, and the server side of the API.
    Node,
    /// A person or program that operates the mesh: the client side of the API, never STOQ.
    Operator(OperatorRole),
    /// It issues certificates of the other kinds, and signs records and revocations.
    Issuer,
    /// It signs the heads of one issuer's certificate log.
    Log,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Node,
        Self::Operator(OperatorRole::Viewer),
        Self::Operator(OperatorRole::Operator),
        Self::Operator(OperatorRole::Admin),
        Self::Issuer,
        Self::Log,
    ];

    /// Its certificate policy, as the contents of an OBJECT IDENTIFIER.
    #[must_use]
    pub const fn policy(self) -> &'static [u8] {
        match self {
            Self::Node => oid::POLICY_NODE,
            Self::Operator(OperatorRole::Viewer) => oid::POLICY_VIEWER,
            Self::Operator(OperatorRole::Operator) => oid::POLICY_OPERATOR,
            Self::Operator(OperatorRole::Admin) => oid::POLICY_ADMIN,
            Self::Issuer => oid::POLICY_ISSUER,
            Self::Log => oid::POLICY_LOG,
        }
    }

    pub(crate) fn from_policy(policy: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.policy() == policy)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Operator(role) => write!(f, "operator ({role})"),
            Self::Issuer => f.write_str("issuer"),
            Self::Log => f.write_str("log"),
        }
    }
}

/// Which kinds a certificate may be of where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A node: on STOQ, and as the server of the API.
    Node,
    /// An operator of any role: as a client of the API.
    Operator,
    /// The key of a certificate log: in the mesh's state.
    Log,
}

impl Expected {
    pub(crate) fn allows(self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Node, Kind::Node) | (Self::Operator, Kind::Operator(_)) | (Self::Log, Kind::Log)
        )
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Operator => "operator",
            Self::Log => "log",
        })
    }
}
