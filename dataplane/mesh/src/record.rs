//! What a member is: its keys, its addresses, the networks behind it, where it can be reached.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use stoq_identity::{Label, check_name};

use crate::signed::{Body, ContentError};
use crate::signers::Signer;

/// Most networks behind one member, as in the ledger.
pub const ROUTES_MAX: usize = 64;
/// Most endpoints of a member, as in the ledger.
pub const ENDPOINTS_MAX: usize = 8;
/// Most tunnel addresses of a member: one of either family.
const ADDRESSES_MAX: usize = 2;

/// A member's record, signed by an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The mesh's identity.
    pub mesh: String,
    /// The member's name.
    pub node: String,
    /// The height of the ledger at which it last changed: of two records the higher counts.
    pub number: u64,
    /// Fingerprint of its keys. A certificate with this name and other keys is not this member.
    pub keys: [u8; 32],
    /// Its tunnel addresses, each a single one (/32, /128).
    pub addresses: Vec<IpNet>,
    /// The networks behind it.
    pub routes: Vec<IpNet>,
    /// Where it can be reached from outside the mesh; none when it only dials.
    pub endpoints: Vec<SocketAddr>,
}

impl Body for Record {
    const WHAT: &'static str = "member's record";
    const LABEL: Label = Label::RECORD;
    const SIGNER: Signer = Signer::Issuer;
    /// Two names, 66 prefixes of at most 18 bytes, 8 endpoints of at most 20, and room.
    const MAX_BYTES: usize = 4096;

    fn mesh(&self) -> Option<&str> {
        Some(&self.mesh)
    }

    fn check(&self) -> Result<(), ContentError> {
        let rule = |holds: bool, expected: &'static str, got: String| {
            if holds { Ok(()) } else { Err(ContentError { what: Self::WHAT, expected, got }) }
        };
        rule(check_name(&self.node).is_ok(), "a node's name", format!("{:?}", self.node))?;
        let (addresses, routes) = (&self.addresses, &self.routes);
        let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        let count = addresses.len();
        let good = (1..=ADDRESSES_MAX).contains(&count) && addresses.iter().all(single);
        rule(good, "one or two single tunnel addresses", format!("{addresses:?}"))?;
        rule(routes.len() <= ROUTES_MAX, "at most 64 networks", routes.len().to_string())?;
        let wrong = routes.iter().find(|net| net.prefix_len() == 0 || **net != net.trunc());
        let shown = wrong.map(ToString::to_string).unwrap_or_default();
        rule(wrong.is_none(), "networks without host bits, none the default route", shown)?;
        let different: BTreeSet<&IpNet> = routes.iter().chain(addresses).collect();
        let once = different.len() == routes.len() + count;
        rule(once, "each prefix once", self.node.clone())?;
        let endpoints = self.endpoints.len();
        rule(endpoints <= ENDPOINTS_MAX, "at most 8 endpoints", endpoints.to_string())?;
        let dial = |at: &SocketAddr| at.port() != 0 && !at.ip().is_unspecified();
        let wrong = self.endpoints.iter().find(|at| !dial(at) || at.ip().is_multicast());
        let shown = wrong.map(ToString::to_string).unwrap_or_default();
        rule(wrong.is_none(), "endpoints that can be dialled", shown)
    }
}
