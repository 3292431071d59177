//! Tokens, enrolment, members, routes and operators.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Base64;

/// What a token makes of its holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// A node of the mesh, with tunnel addresses.
    #[default]
    Node,
    /// An operator who reads.
    Viewer,
    /// An operator who makes tokens.
    Operator,
    /// An operator who may do everything.
    Admin,
}

/// Asks for an enrolment token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The name that the node will have.
    pub node: String,
    /// What the holder becomes.
    #[serde(default)]
    pub role: TokenRole,
    /// Life of the token in seconds.
    pub expires_s: u64,
    /// Where the joiner reaches this API (`host:port`); the daemon's own if empty.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<SocketAddr>,
}

/// A token, shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenReply {
    /// The token's text: a secret.
    pub token: String,
    /// When it ends, Unix seconds.
    pub expires_at_s: u64,
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// The node's name.
    pub node: String,
    /// When it ends, Unix seconds.
    pub expires_at_s: u64,
}

/// All tokens that the ledger knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// The tokens.
    pub tokens: Vec<TokenInfo>,
}

/// Enrols a node. Sent only after the root's fingerprint was found in the server's chain; whoever
/// reads it can do nothing with it but pass it on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The token's public key and its signature over all else here (`stoq_trustchain` proof form).
    pub proof: Base64,
    /// The node's name, mesh and public keys, proven by both keys (`stoq_trustchain` request form).
    pub request: Base64,
    /// Where peers reach the node by STOQ.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<SocketAddr>,
    /// The joiner's clock, Unix seconds: a difference is named before a certificate fails on it.
    pub at_s: u64,
}

/// What makes a host a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolReply {
    /// The certificate, PEM.
    pub certificate: String,
    /// The proof that it is in the issuer's log, encoded.
    pub log_proof: Base64,
    /// The mesh's bundle, encoded.
    pub bundle: Base64,
    /// The ledger.
    pub snapshot: crate::Snapshot,
}

/// Renews the certificate of a node or an operator, for the same keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// As in [`EnrolRequest`].
    pub request: Base64,
    /// The asker's clock, Unix seconds.
    pub at_s: u64,
}

/// The renewed certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenewReply {
    /// The certificate, PEM; an operator's is followed by its issuer's.
    pub certificate: String,
    /// The proof that it is in the issuer's log, encoded.
    pub log_proof: Base64,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// `stoq://MESH-ID/NODE`.
    pub id: String,
    /// Whether it issues certificates.
    pub issuer: bool,
    /// Its tunnel addresses.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// The networks behind it.
    #[schema(value_type = Vec<String>)]
    pub routes: Vec<IpNet>,
    /// Where it is reached by STOQ.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<SocketAddr>,
    /// Fingerprint of its keys, hexadecimal.
    pub keys: String,
}

/// All members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Members {
    /// MESH-ID.
    pub mesh: String,
    /// The ledger's height.
    pub height: u64,
    /// The members, by name.
    pub members: Vec<Member>,
}

/// A network behind a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The node.
    pub node: String,
    /// The network.
    #[schema(value_type = String)]
    pub prefix: IpNet,
}

/// Where a node is reached now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// Its addresses.
    #[schema(value_type = Vec<String>)]
    pub endpoints: Vec<SocketAddr>,
}

/// A change that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// The ledger's height with it.
    pub height: u64,
}

/// A revocation that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// The ledger's height with it.
    pub height: u64,
    /// The sequence of the signed set.
    pub sequence: u64,
    /// Why this host's stoqd does not enforce it yet; none if it does.
    pub not_pushed: Option<String>,
}

/// What an operator may do. Each may do what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Reads.
    Viewer,
    /// Makes tokens.
    Operator,
    /// Everything: routes, revocation, roles, promotion.
    Admin,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operator {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: OperatorRole,
}

/// All operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operators {
    /// The operators, by name.
    pub operators: Vec<Operator>,
}

/// Gives an operator a role and a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    /// The operator's name.
    pub name: String,
    /// The role.
    pub role: OperatorRole,
    /// Its public keys, proven (`stoq_trustchain` request form).
    pub request: Base64,
}

/// An operator's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperatorCertificate {
    /// The certificate and its issuer's, PEM.
    pub certificate: String,
    /// When it ends, Unix seconds.
    pub not_after_s: u64,
}

/// A request about one operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorName {
    /// The operator's name.
    pub name: String,
}
