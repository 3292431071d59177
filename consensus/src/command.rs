//! What can be asked of the ledger: the commands, their versions and their one encoding.
//!
//! A command is what the journal stores and what followers receive, so its encoding is canonical:
//! [`Command::decode`] accepts exactly what [`Command::encode`] writes. The fields are checked when
//! the command is applied, not here; here only the size is bounded.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ledger::RevokedKind;

/// Most bytes of an encoded command: the largest brings two certificates of at most 16 KiB each;
/// the rest is names, addresses and endpoints.
pub const COMMAND_MAX_BYTES: usize = 40 * 1024;

/// A change of what the mesh agrees on, with the version of its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first rules.
    V1(CommandV1),
}

/// Commands under the first rules. Times (`at_s`) are seconds since 1970 UTC, set by whoever
/// proposes the command; keys are fingerprints of a pair of public keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandV1 {
    /// The mesh begins, with its first member. Only the first command of a ledger.
    Found {
        /// `NAME-` and 16 hexadecimal digits, bound to the root's keys.
        mesh: String,
        /// The mesh's name, at most 46 characters.
        name: String,
        /// The /48 of all tunnel addresses.
        prefix: Ipv6Net,
        /// IPv4 tunnel addresses, when the mesh has them.
        ipv4: Option<Ipv4Net>,
        /// Which signatures certificates need.
        policy: Policy,
        /// The root certificate, DER.
        #[serde(with = "serde_bytes")]
        root: Vec<u8>,
        /// The first member.
        founder: Founder,
        /// When.
        at_s: u64,
    },
    /// A member may issue certificates from now on. Repeated with the same keys, it replaces the
    /// certificates (their renewal).
    AddIssuer {
        /// The member.
        node: String,
        /// Its issuing keys, not those that it has as a node.
        keys: [u8; 32],
        /// The issuing certificate, DER.
        #[serde(with = "serde_bytes")]
        certificate: Vec<u8>,
        /// The keys that sign its log.
        log: [u8; 32],
        /// The log's certificate, DER.
        #[serde(with = "serde_bytes")]
        log_certificate: Vec<u8>,
    },
    /// A token is open: whoever shows its secret may enrol under this name. Holds the name and, for
    /// a node, an address, until it expires.
    CreateToken {
        /// Hash of the token's secret.
        hash: [u8; 32],
        /// The name that it fixes.
        node: String,
        /// What the holder becomes.
        role: Role,
        /// The first second in which it is no longer accepted.
        expires_at_s: u64,
        /// When.
        at_s: u64,
    },
    /// An open token is withdrawn.
    DropToken {
        /// The name that it fixes.
        node: String,
    },
    /// A token is consumed and its holder becomes a member or operator, in one transaction. The
    /// same token with the same keys again gives the same answer and changes nothing.
    Enrol {
        /// Hash of the secret that was shown.
        token: [u8; 32],
        /// The name that the token fixes.
        node: String,
        /// The keys that were proven.
        keys: [u8; 32],
        /// Where the node can be reached from outside the mesh.
        endpoints: Vec<SocketAddr>,
        /// When.
        at_s: u64,
    },
    /// A member can be reached elsewhere.
    SetEndpoints {
        /// The member.
        node: String,
        /// All of its endpoints from now on.
        endpoints: Vec<SocketAddr>,
    },
    /// A network lies behind a member.
    AddRoute {
        /// The member.
        node: String,
        /// The network; its host bits are zero.
        prefix: IpNet,
    },
    /// It no longer does.
    RemoveRoute {
        /// The member.
        node: String,
        /// The network.
        prefix: IpNet,
    },
    /// A member or operator is cut off for good: its keys and its name never come back.
    Revoke {
        /// Its name.
        node: String,
        /// When.
        at_s: u64,
    },
    /// An operator has this role from now on; a new one is made, a known one needs its own keys.
    SetRole {
        /// The operator's name.
        operator: String,
        /// The keys of the certificate.
        keys: [u8; 32],
        /// What it may do.
        role: OperatorRole,
        /// When.
        at_s: u64,
    },
    /// A member leaves of its own will: its name and its address may be given again.
    Leave {
        /// The member.
        node: String,
        /// When.
        at_s: u64,
    },
    /// Keys that an issuer of this mesh revoked in a part of the ledger that was lost stay revoked.
    /// Whoever holds them here is cut off; unlike [`Self::Revoke`], nobody has to.
    KeepRevoked {
        /// The keys.
        keys: [u8; 32],
        /// What they were for.
        kind: RevokedKind,
        /// Whose they were.
        node: String,
        /// When they were revoked.
        at_s: u64,
        /// The sequence of the set that has them: the ledger's will be above it.
        sequence: u64,
    },
}

/// The first member of a mesh: no token brought it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// Its name.
    pub node: String,
    /// Its keys.
    pub keys: [u8; 32],
    /// Where it can be reached from outside the mesh.
    pub endpoints: Vec<SocketAddr>,
}

/// Which signatures of a certificate must verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The classical and the post-quantum one.
    Hybrid,
    /// The classical one.
    Classical,
}

/// What a token makes of its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A node of the mesh, with tunnel addresses.
    Node,
    /// Someone who works with the control plane.
    Operator(OperatorRole),
}

/// What an operator may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Look.
    Viewer,
    /// Make tokens, set endpoints.
    Operator,
    /// Everything: routes, issuers, roles, revocation.
    Admin,
}

/// Why bytes are no command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// It is larger than [`COMMAND_MAX_BYTES`].
    #[error(
        "expected a command of at most {COMMAND_MAX_BYTES} bytes, got {got}: send one command at a time"
    )]
    Oversized {
        /// Bytes.
        got: usize,
    },
    /// It has no meaning under the versions that are known here.
    #[error(
        "expected a command of version 1, got something else ({got}): it was damaged, or written by a newer version, which then has to read it"
    )]
    Malformed {
        /// What the decoder met.
        got: String,
    },
    /// It decodes, but another encoding of the same command is the one that counts.
    #[error(
        "expected the canonical encoding of the command, got another: encode it with this library"
    )]
    NotCanonical,
}

impl Command {
    /// The canonical bytes.
    ///
    /// # Errors
    /// When they would be more than [`COMMAND_MAX_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CommandError> {
        let bytes = postcard::to_stdvec(self)
            .map_err(|error| CommandError::Malformed { got: error.to_string() })?;
        if bytes.len() > COMMAND_MAX_BYTES {
            return Err(CommandError::Oversized { got: bytes.len() });
        }
        Ok(bytes)
    }

    /// The command whose canonical encoding `bytes` is.
    ///
    /// # Errors
    /// When there is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        if bytes.len() > COMMAND_MAX_BYTES {
            return Err(CommandError::Oversized { got: bytes.len() });
        }
        let command: Self = postcard::from_bytes(bytes)
            .map_err(|error| CommandError::Malformed { got: error.to_string() })?;
        if command.encode()? != bytes {
            return Err(CommandError::NotCanonical);
        }
        Ok(command)
    }
}
