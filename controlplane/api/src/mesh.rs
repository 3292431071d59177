//! Founding, joining and promoting: the requests that change what a daemon is.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Base64;

/// To [`ISSUER_REQUEST`](crate::path::ISSUER_REQUEST): for which node the keys are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerRequestOf {
    /// MESH-ID: it follows from the mesh's name and the root's keys, so the root is made first.
    pub mesh: String,
    /// The node's name.
    pub node: String,
}

/// What the root signs: an issuer's and a log's public keys, each proven by its own signatures
/// (`stoq_trustchain` request form). The private keys stay with the daemon. Asked again before it is
/// answered, it is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerRequest {
    /// The node that will issue.
    pub node: String,
    /// The request for the issuer's certificate.
    pub issuer: Base64,
    /// The request for the log's certificate.
    pub log: Base64,
}

/// Founds a mesh at this daemon: it becomes the first issuer and the sequencer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FoundRequest {
    /// The mesh's name; its identity follows from it and the root.
    pub name: String,
    /// This node's name, the one of the issuer's request.
    pub node: String,
    /// The root's certificate, PEM.
    pub root: String,
    /// The issuer's certificate, PEM, signed by the root.
    pub issuer: String,
    /// The log's certificate, PEM, signed by the root.
    pub log: String,
    /// Tunnel addresses of IPv4; none if left out.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub ipv4: Option<Ipv4Net>,
    /// Where peers reach this node by STOQ, and joiners reach this API.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<SocketAddr>,
    /// `hybrid` (default) or `classical`.
    #[serde(default)]
    pub policy: Option<String>,
}

/// The mesh that was founded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundReply {
    /// MESH-ID: the name and 16 hexadecimal digits of the root's fingerprint.
    pub mesh: String,
    /// This node's name.
    pub node: String,
    /// The mesh's IPv6 prefix, a /48.
    #[schema(value_type = String)]
    pub prefix: Ipv6Net,
    /// The mesh's IPv4 prefix.
    #[schema(value_type = Option<String>)]
    pub ipv4: Option<Ipv4Net>,
    /// This node's tunnel addresses.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// The identity file: certificate, keys and log proof.
    pub identity: String,
    /// The file with the root's certificate.
    pub root: String,
}

/// Joins a mesh.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The token's text.
    pub token: String,
    /// Where peers reach this node by STOQ; none if it only dials.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<SocketAddr>,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// The mesh that was joined: the same as that of [`FoundReply`].
pub type JoinReply = FoundReply;

/// Makes a member an issuer, by certificates that the root signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddIssuerRequest {
    /// The member.
    pub node: String,
    /// The issuer's certificate, PEM.
    pub issuer: String,
    /// The log's certificate, PEM.
    pub log: String,
}

/// A request about one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeName {
    /// The node's name.
    pub node: String,
}
