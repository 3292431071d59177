//! What an accepted command did, for the one who asked and for the audit log.

use serde::{Deserialize, Serialize};

use crate::command::{OperatorRole, Role};
use crate::ledger::Addresses;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The mesh began; its first member has these addresses.
    Founded(Enrolment),
    /// A member issues certificates.
    IssuerAdded {
        /// The member.
        node: String,
        /// Whether it did before, and only its certificates are new.
        renewed: bool,
    },
    /// A token is open.
    TokenCreated {
        /// The name that it fixes.
        node: String,
        /// The addresses that it holds, for a node.
        addresses: Option<Addresses>,
    },
    /// A token was withdrawn.
    TokenDropped {
        /// The name that it fixed.
        node: String,
    },
    /// A token was consumed, now or before.
    Enrolled(Enrolment),
    /// A member's endpoints are new.
    EndpointsSet {
        /// The member.
        node: String,
    },
    /// A member has one network more.
    RouteAdded {
        /// The member.
        node: String,
    },
    /// A member has one network less.
    RouteRemoved {
        /// The member.
        node: String,
    },
    /// Someone was cut off.
    Revoked {
        /// The name.
        node: String,
        /// The sequence of the set that first has it.
        sequence: u64,
    },
    /// An operator has this role.
    RoleSet {
        /// The operator.
        operator: String,
        /// What it may do.
        role: OperatorRole,
    },
    /// A member left.
    Left {
        /// The member.
        node: String,
        /// The sequence of the set of revocations: a new one when the member was an issuer, whose
        /// issuing keys end with it.
        sequence: u64,
    },
}

/// What a token gave to its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The name.
    pub node: String,
    /// What it is.
    pub role: Role,
    /// A node's addresses.
    pub addresses: Option<Addresses>,
}
