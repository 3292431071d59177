//! What the ledger holds: the rows of its tables, and how they are read.
//!
//! Keys are fingerprints of a pair of public keys, times are seconds since 1970 UTC.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::Ledger;
use crate::command::{OperatorRole, Policy, Role};

/// The mesh itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// `NAME-` and 16 hexadecimal digits, bound to the root's keys.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The /48 of all tunnel addresses.
    pub prefix: Ipv6Net,
    /// IPv4 tunnel addresses, when the mesh has them.
    pub ipv4: Option<Ipv4Net>,
    /// Which signatures certificates need.
    pub policy: Policy,
    /// The root certificate, DER.
    #[serde(with = "serde_bytes")]
    pub root: Vec<u8>,
}

/// A node's tunnel addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Its number in the mesh's prefixes, from 1.
    pub index: u32,
    /// That address of the IPv6 prefix.
    pub ipv6: Ipv6Addr,
    /// That address of the IPv4 prefix, when the mesh has one.
    pub ipv4: Option<Ipv4Addr>,
}

/// A node of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number in the mesh's prefixes.
    pub index: u32,
    /// Its keys.
    pub keys: [u8; 32],
    /// Hash of the token that it enrolled with; the founder had none.
    pub token: Option<[u8; 32]>,
    /// Where it can be reached from outside the mesh.
    pub endpoints: Vec<SocketAddr>,
    /// The networks behind it.
    pub routes: BTreeSet<IpNet>,
    /// When it joined.
    pub joined_s: u64,
    /// The height at which its record last changed.
    pub changed: u64,
}

/// A token that waits for its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Hash of its secret.
    pub hash: [u8; 32],
    /// What it makes of its holder.
    pub role: Role,
    /// The address index that it holds, for a node.
    pub index: Option<u32>,
    /// The first second in which it is no longer accepted.
    pub expires_at_s: u64,
}

/// A member that issues certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Its issuing keys.
    pub keys: [u8; 32],
    /// The issuing certificate, DER.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// The keys that sign its log.
    pub log: [u8; 32],
    /// The log's certificate, DER.
    #[serde(with = "serde_bytes")]
    pub log_certificate: Vec<u8>,
}

/// Someone who works with the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// The keys of the certificate.
    pub keys: [u8; 32],
    /// What it may do.
    pub role: OperatorRole,
    /// Hash of the token that it enrolled with, if it did with one.
    pub token: Option<[u8; 32]>,
}

/// What revoked keys were for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedKind {
    /// To be a node.
    Node,
    /// To be an operator.
    Operator,
    /// To issue certificates: the member may still be one.
    Issuer,
    /// To sign a log: the member may still be one.
    Log,
}

/// How keys were revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What they were for.
    pub kind: RevokedKind,
    /// Whose they were.
    pub node: String,
    /// When.
    pub at_s: u64,
    /// The sequence of the set that first had them.
    pub sequence: u64,
}

/// Revoked keys, as read from the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked<'a> {
    /// The keys.
    pub keys: &'a [u8; 32],
    /// How they were revoked.
    pub revocation: &'a Revocation,
}

/// A name that never comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retired {
    /// Since when.
    pub(crate) at_s: u64,
}

impl Ledger {
    /// The mesh, once it is founded.
    #[must_use]
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    /// All members by name.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&str, &Member)> {
        self.members.rows().iter().map(|(name, member)| (name.as_str(), member))
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, node: &str) -> Option<&Member> {
        self.members.get(node)
    }

    /// The addresses with this index; `None` before the mesh is founded.
    #[must_use]
    pub fn addresses(&self, index: u32) -> Option<Addresses> {
        let mesh = self.mesh.as_ref()?;
        let ipv6 = Ipv6Addr::from(u128::from(mesh.prefix.network()) | u128::from(index));
        let ipv4 =
            mesh.ipv4.map(|net| Ipv4Addr::from(u32::from(net.network()).wrapping_add(index)));
        Some(Addresses { index, ipv6, ipv4 })
    }

    /// All open tokens by the names that they fix, expired ones that were not swept yet among them.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = (&str, &Token)> {
        self.tokens.rows().iter().map(|(name, token)| (name.as_str(), token))
    }

    /// The open token for this name.
    #[must_use]
    pub fn token(&self, node: &str) -> Option<&Token> {
        self.tokens.get(node)
    }

    /// All issuers by their members' names.
    pub fn issuers(&self) -> impl ExactSizeIterator<Item = (&str, &Issuer)> {
        self.issuers.rows().iter().map(|(name, issuer)| (name.as_str(), issuer))
    }

    /// The issuer of this member's name.
    #[must_use]
    pub fn issuer(&self, node: &str) -> Option<&Issuer> {
        self.issuers.get(node)
    }

    /// All operators by name.
    pub fn operators(&self) -> impl ExactSizeIterator<Item = (&str, &Operator)> {
        self.operators.rows().iter().map(|(name, operator)| (name.as_str(), operator))
    }

    /// The operator of this name.
    #[must_use]
    pub fn operator(&self, name: &str) -> Option<&Operator> {
        self.operators.get(name)
    }

    /// Whose keys these are: a member's or operator's, or a member's for issuing or its log.
    #[must_use]
    pub fn holder(&self, keys: &[u8; 32]) -> Option<&str> {
        self.keys.get(keys).map(String::as_str)
    }

    /// The sequence of the set of revocations: it rises with every change of the set, and is 0 only
    /// before the mesh is founded.
    #[must_use]
    pub fn revocation_sequence(&self) -> u64 {
        self.counters.sequence
    }

    /// All revoked keys, ascending.
    pub fn revocations(&self) -> impl ExactSizeIterator<Item = Revoked<'_>> {
        self.revocations.rows().iter().map(|(keys, revocation)| Revoked { keys, revocation })
    }

    /// How these keys were revoked.
    #[must_use]
    pub fn revocation(&self, keys: &[u8; 32]) -> Option<&Revocation> {
        self.revocations.get(keys)
    }

    /// Whether this name was revoked: then it never comes back.
    #[must_use]
    pub fn is_retired(&self, name: &str) -> bool {
        self.retired.get(name).is_some()
    }
}
