//! The mesh's names on this host: where they are asked, and by what their signatures are verified.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What this host's server of names answers for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Names {
    /// Where this host asks.
    #[schema(value_type = String)]
    pub server: IpAddr,
    /// The mesh's domains, forward and reverse, without final dots; none until the first zone is built.
    pub domains: Vec<String>,
    /// The keys of the zones. They are this host's own.
    pub anchors: Vec<TrustAnchor>,
}

/// What a validator on this host is told to trust (RFC 4033 §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrustAnchor {
    /// The zone, with its final dot.
    pub zone: String,
    /// Data of its DNSKEY record.
    pub dnskey: String,
    /// Data of its DS record.
    pub ds: String,
}
