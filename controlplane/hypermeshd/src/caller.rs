//! Who calls, and what they may do. The listeners say who it is (by the socket or the certificate);
//! each route says what it needs.

use hypermesh_api::{ErrorCode, OperatorRole, Refusal};

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A process of this host: root, or this daemon's own user.
    Local {
        /// Its user.
        uid: u32,
    },
    /// Someone with an operator's certificate.
    Operator {
        /// The certificate's name.
        name: String,
        /// The role that the ledger gives to it now.
        role: OperatorRole,
    },
    /// Another node of the mesh, by its STOQ link.
    Node {
        /// Its name.
        name: String,
    },
    /// Someone with a certificate of this mesh that is none of an operator in office.
    Stranger {
        /// Whose certificate it is, and why it does not count.
        what: String,
    },
    /// Someone without a certificate, over TLS.
    Anonymous {
        /// Where from.
        address: std::net::IpAddr,
    },
}

/// What a route needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A process of this host.
    Local,
    /// An operator with at least this role, or a process of this host.
    Role(OperatorRole),
    /// What every member may see; operators too.
    Member,
}

impl Caller {
    /// Checks that the caller may do what needs `need`.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthenticated`] or [`ErrorCode::Forbidden`], with what to do.
    pub fn check(&self, need: Need) -> Result<(), Refusal> {
        let allowed = match (self, need) {
            (Self::Local { .. }, _) | (Self::Operator { .. } | Self::Node { .. }, Need::Member) => {
                true
            }
            (Self::Operator { role, .. }, Need::Role(least)) => *role >= least,
            _ => false,
        };
        if allowed {
            return Ok(());
        }
        let (code, advice) = match (self, need) {
            (Self::Anonymous { .. }, _) => {
                (ErrorCode::Unauthenticated, "connect with an operator's certificate")
            }
            (_, Need::Local) => (ErrorCode::Forbidden, "run it on the host itself, as root"),
            _ => (ErrorCode::Forbidden, "ask an admin of the mesh"),
        };
        Err(Refusal::new(code, format!("expected {need}, got {self}; {advice}")))
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { uid } => write!(f, "local uid {uid}"),
            Self::Operator { name, role } => write!(f, "operator {name} ({})", role_name(*role)),
            Self::Node { name } => write!(f, "node {name}"),
            Self::Stranger { what } => write!(f, "{what}"),
            Self::Anonymous { address } => write!(f, "no certificate from {address}"),
        }
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => write!(f, "root of this host"),
            Self::Role(role) => write!(f, "the role {} or more", role_name(*role)),
            Self::Member => write!(f, "a member or an operator of the mesh"),
        }
    }
}

const fn role_name(role: OperatorRole) -> &'static str {
    match role {
        OperatorRole::Viewer => "viewer",
        OperatorRole::Operator => "operator",
        OperatorRole::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_may_do_what_its_kind_allows() {
        let operator = |role| Caller::Operator { name: "eva".into(), role };
        let anonymous = Caller::Anonymous { address: [127, 0, 0, 1].into() };
        let callers = [
            anonymous,
            Caller::Node { name: "edge-a".into() },
            operator(OperatorRole::Viewer),
            operator(OperatorRole::Operator),
            operator(OperatorRole::Admin),
            Caller::Local { uid: 0 },
        ];
        let allowed = |need| callers.iter().map(|c| c.check(need).is_ok()).collect::<Vec<_>>();
        let role = |role| allowed(Need::Role(role));
        assert_eq!(allowed(Need::Member), [false, true, true, true, true, true]);
        assert_eq!(role(OperatorRole::Viewer), [false, false, true, true, true, true]);
        assert_eq!(role(OperatorRole::Operator), [false, false, false, true, true, true]);
        assert_eq!(role(OperatorRole::Admin), [false, false, false, false, true, true]);
        assert_eq!(allowed(Need::Local), [false, false, false, false, false, true]);
    }

    #[test]
    fn a_refusal_says_what_is_needed_and_who_came() {
        let node = Caller::Node { name: "edge-a".into() };
        let refusal = node.check(Need::Role(OperatorRole::Admin)).unwrap_err();
        assert_eq!(
            refusal.message,
            "expected the role admin or more, got node edge-a; ask an admin of the mesh"
        );
    }
}
