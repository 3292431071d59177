//! Why the ledger does not accept a command, said so that an operator can act on it.

use std::net::SocketAddr;

use ipnet::IpNet;
use thiserror::Error;

/// The first rule that a command breaks. A rejected command has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// There is no mesh yet.
    #[error("expected a mesh to be founded first: `stoqctl mesh create NAME`")]
    NotFounded,
    /// There is one already.
    #[error("expected an empty ledger, got that of mesh {mesh}: a host founds or joins one mesh")]
    Founded {
        /// Its identity.
        mesh: String,
    },
    /// A name breaks the rule for names.
    #[error(
        "expected a name of 1 to {most} letters a-z, digits and inner hyphens, got {got:?}: choose another"
    )]
    Name {
        /// The start of what came.
        got: String,
        /// The most characters.
        most: usize,
    },
    /// The mesh's identity does not follow from its name.
    #[error("expected the mesh's name, '-' and 16 hexadecimal digits, got {got:?}")]
    MeshId {
        /// The start of what came.
        got: String,
    },
    /// The mesh's IPv6 prefix can not be used.
    #[error("expected a /48 in fd00::/8 (RFC 4193 §3.1), got {got}")]
    MeshPrefix {
        /// What came.
        got: IpNet,
    },
    /// The mesh's IPv4 prefix can not be used.
    #[error(
        "expected a private IPv4 prefix of /8 to /30 without host bits for the mesh, got {got}: choose one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10, or a part"
    )]
    MeshIpv4 {
        /// What came.
        got: IpNet,
    },
    /// A certificate is empty or too large.
    #[error(
        "expected a certificate of 1 to 16384 bytes, got {got}: issue one without needless extensions"
    )]
    Certificate {
        /// Bytes.
        got: usize,
    },
    /// Too many endpoints, or one twice.
    #[error(
        "expected at most {most} different endpoints, got {got}: keep those that peers can reach"
    )]
    EndpointCount {
        /// How many came.
        got: usize,
        /// The most.
        most: usize,
    },
    /// Nobody can dial this.
    #[error(
        "expected an endpoint's unicast address and port, got {got}: set the one that peers dial"
    )]
    Endpoint {
        /// What came.
        got: SocketAddr,
    },
    /// No member has this name.
    #[error("expected the name of a member, got {node:?}: see `stoqctl mesh members`")]
    UnknownMember {
        /// What came.
        node: String,
    },
    /// Neither a member nor an operator has this name.
    #[error("expected the name of a member or operator, got {name:?}: see `stoqctl mesh members`")]
    UnknownName {
        /// What came.
        name: String,
    },
    /// A member or operator has this name.
    #[error("the name {name} is held: choose another, or revoke its holder")]
    NameHeld {
        /// The name.
        name: String,
    },
    /// The name was revoked.
    #[error("the name {name} was revoked and never comes back: choose another")]
    NameRevoked {
        /// The name.
        name: String,
    },
    /// Somebody has these keys.
    #[error("these keys are those of {by}: make new ones, each name has its own")]
    KeysHeld {
        /// The name of who has them.
        by: String,
    },
    /// The keys were revoked.
    #[error("these keys were revoked with {node} and never come back: make new ones")]
    KeysRevoked {
        /// The name that they were revoked with.
        node: String,
    },
    /// The token would end before it begins, or live too long.
    #[error(
        "expected a token to live 1 to {most_s} seconds, got {got_s}: choose another expiry, and see that the host's clock is right"
    )]
    TokenLife {
        /// Seconds, negative when it ends before it begins.
        got_s: i128,
        /// The most.
        most_s: u64,
    },
    /// A token for this name is open.
    #[error(
        "a token for {node} is open for another {left_s} s: use it, or withdraw it and make a new one"
    )]
    TokenOpen {
        /// The name.
        node: String,
        /// Until it expires.
        left_s: u64,
    },
    /// No such token.
    #[error(
        "no such token for {node} is open: it was withdrawn, swept after its expiry, or is of another mesh; ask for a new one (`stoqctl mesh token {node}`)"
    )]
    TokenUnknown {
        /// The name.
        node: String,
    },
    /// The token's time is over.
    #[error(
        "the token for {node} expired {ago_s} s ago: ask for a new one (`stoqctl mesh token {node}`), and see that the clocks are right"
    )]
    TokenExpired {
        /// The name.
        node: String,
        /// Since its expiry.
        ago_s: u64,
    },
    /// The token was consumed by other keys.
    #[error(
        "raced token: the token for {node} was consumed by other keys. If that was not you, someone else has seen it: revoke {node} at once (`stoqctl mesh revoke {node}`)"
    )]
    TokenRaced {
        /// The name.
        node: String,
    },
    /// A node's command about an operator's name, or the reverse.
    #[error("expected endpoints only from a node, got {got} from the operator {node}")]
    OperatorEndpoints {
        /// The name.
        node: String,
        /// How many.
        got: usize,
    },
    /// A table is full.
    #[error("there are {most} {what}, which is the most: remove what is not needed")]
    Full {
        /// What there would be one too many of.
        what: &'static str,
        /// The most.
        most: usize,
    },
    /// The IPv4 prefix has no address left.
    #[error("no tunnel address is left in {prefix}: let members leave, or withdraw tokens")]
    AddressesFull {
        /// The prefix.
        prefix: IpNet,
    },
    /// Without this issuer, nobody could renew or sign revocations.
    #[error("{node} is the last issuer: promote another first (`stoqctl mesh promote NODE`)")]
    LastIssuer {
        /// The member.
        node: String,
    },
    /// The member issues with other keys.
    #[error("{node} issues with other keys: to replace them, revoke the node and promote another")]
    IssuerKeys {
        /// The member.
        node: String,
    },
    /// The operator has other keys.
    #[error("the operator {operator} has other keys: revoke that name and choose another")]
    OperatorKeys {
        /// The operator.
        operator: String,
    },
    /// The network is no network behind a node.
    #[error(
        "expected a network behind a node (IPv4 /{least_v4} or longer, IPv6 /{least_v6} or longer; never the default route), got {got}: add the networks one by one"
    )]
    RouteWide {
        /// What came.
        got: IpNet,
        /// Shortest prefix of IPv4.
        least_v4: u8,
        /// Shortest prefix of IPv6.
        least_v6: u8,
    },
    /// Host bits are set.
    #[error("expected the network {expected}, got {got}: clear the host bits")]
    RouteHostBits {
        /// What came.
        got: IpNet,
        /// The network that it lies in.
        expected: IpNet,
    },
    /// Loopback, link-local, multicast, unspecified: never behind another host.
    #[error("expected a network that can lie behind a node, got {got}: its range is reserved")]
    RouteReserved {
        /// What came.
        got: IpNet,
    },
    /// The network is part of the mesh's own.
    #[error(
        "{got} overlaps {mesh}, the mesh's own addresses: only networks behind nodes are added"
    )]
    RouteMesh {
        /// What came.
        got: IpNet,
        /// The mesh's.
        mesh: IpNet,
    },
    /// Some member has it, or a part of it.
    #[error("{got} overlaps {held}, which lies behind {by}: remove that first")]
    RouteHeld {
        /// What came.
        got: IpNet,
        /// What there is.
        held: IpNet,
        /// Behind whom.
        by: String,
    },
    /// The member does not have it.
    #[error("{got} does not lie behind {node}: see `stoqctl mesh members`")]
    RouteUnknown {
        /// The member.
        node: String,
        /// What came.
        got: IpNet,
    },
}
