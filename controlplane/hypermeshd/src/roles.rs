//! The roles of operators in the three places that name them: the API, the ledger, certificates.

use hypermesh_api::{OperatorRole, TokenRole};
use hypermesh_consensus::{OperatorRole as Ledger, Role};
use stoq_identity::{Kind, OperatorRole as Identity};

/// As the ledger names it.
#[must_use]
pub const fn to_ledger(role: OperatorRole) -> Ledger {
    match role {
        OperatorRole::Viewer => Ledger::Viewer,
        OperatorRole::Operator => Ledger::Operator,
        OperatorRole::Admin => Ledger::Admin,
    }
}

/// As the API names it.
#[must_use]
pub const fn from_ledger(role: Ledger) -> OperatorRole {
    match role {
        Ledger::Viewer => OperatorRole::Viewer,
        Ledger::Operator => OperatorRole::Operator,
        Ledger::Admin => OperatorRole::Admin,
    }
}

/// As certificates name it.
#[must_use]
pub const fn to_identity(role: OperatorRole) -> Identity {
    match role {
        OperatorRole::Viewer => Identity::Viewer,
        OperatorRole::Operator => Identity::Operator,
        OperatorRole::Admin => Identity::Admin,
    }
}

/// From the ledger to certificates.
#[must_use]
pub const fn ledger_to_identity(role: Ledger) -> Identity {
    to_identity(from_ledger(role))
}

/// What a token makes, in the ledger and in a certificate.
#[must_use]
pub const fn of_token(role: TokenRole) -> (Role, Kind) {
    let operator = match role {
        TokenRole::Node => return (Role::Node, Kind::Node),
        TokenRole::Viewer => OperatorRole::Viewer,
        TokenRole::Operator => OperatorRole::Operator,
        TokenRole::Admin => OperatorRole::Admin,
    };
    (Role::Operator(to_ledger(operator)), Kind::Operator(to_identity(operator)))
}
