//! The beginning of a mesh, and the checks of names, keys, endpoints and certificates that the
//! other rules share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::state::{Member, Mesh};
use super::{CERTIFICATE_MAX_BYTES, ENDPOINTS_MAX, Ledger};
use crate::command::{Founder, Role};
use crate::effect::{Effect, Enrolment};
use crate::hash::{Domain, hash};
use crate::rejected::Rejected;
use crate::table::encode;

/// Longest name of a node or operator: a DNS label (RFC 1035 §2.3.4).
pub(super) const NAME_MAX: usize = 63;
/// Hexadecimal digits of a mesh's identity.
const MESH_ID_DIGITS: usize = 16;
/// Longest name of a mesh: with `-` and the digits it is still a DNS label.
const MESH_NAME_MAX: usize = NAME_MAX - 1 - MESH_ID_DIGITS;
/// The most of a wrong text that an error repeats, in characters.
const SHOWN_MAX: usize = 80;

impl Ledger {
    pub(super) fn found(
        &mut self,
        mesh: Mesh,
        founder: &Founder,
        at_s: u64,
    ) -> Result<Effect, Rejected> {
        if let Some(mesh) = &self.mesh {
            return Err(Rejected::Founded { mesh: mesh.id.clone() });
        }
        check_mesh(&mesh)?;
        check_name(&founder.node, NAME_MAX)?;
        check_endpoints(&founder.endpoints)?;
        self.mesh_hash = hash(Domain::Row, &[&encode(&mesh)]);
        self.mesh = Some(mesh);
        self.counters.sequence = 1;
        let index = self.hold_index(&founder.node)?;
        let (keys, endpoints) = (founder.keys, founder.endpoints.clone());
        let (routes, changed) = (Default::default(), self.counters.height + 1);
        let member =
            Member { index, keys, token: None, endpoints, routes, joined_s: at_s, changed };
        self.keys.insert(keys, founder.node.clone());
        self.members.insert(founder.node.clone(), member);
        Ok(Effect::Founded(Enrolment {
            node: founder.node.clone(),
            role: Role::Node,
            addresses: self.addresses(index),
        }))
    }

    pub(super) fn founded(&self) -> Result<&Mesh, Rejected> {
        self.mesh.as_ref().ok_or(Rejected::NotFounded)
    }

    /// That the name is well-formed, nobody has it, and it was not revoked.
    pub(super) fn check_free_name(&self, name: &str) -> Result<(), Rejected> {
        check_name(name, NAME_MAX)?;
        if self.is_retired(name) {
            return Err(Rejected::NameRevoked { name: name.to_owned() });
        }
        if self.members.get(name).is_some() || self.operators.get(name).is_some() {
            return Err(Rejected::NameHeld { name: name.to_owned() });
        }
        Ok(())
    }

    /// That nobody has the keys, and they were not revoked.
    pub(super) fn check_free_keys(&self, keys: &[u8; 32]) -> Result<(), Rejected> {
        if let Some(revocation) = self.revocations.get(keys) {
            return Err(Rejected::KeysRevoked { node: revocation.node.clone() });
        }
        match self.keys.get(keys) {
            Some(by) => Err(Rejected::KeysHeld { by: by.clone() }),
            None => Ok(()),
        }
    }
}

/// The names of version 1. The rule is the verifier's today; it is written down here because a
/// replayed journal must be judged by the rule of its day.
pub(super) fn check_name(name: &str, most: usize) -> Result<(), Rejected> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let edges = [name.bytes().next(), name.bytes().last()];
    let good = (1..=most).contains(&name.len())
        && name.bytes().all(allowed)
        && !edges.contains(&Some(b'-'));
    if good { Ok(()) } else { Err(Rejected::Name { got: shown(name), most }) }
}

pub(super) fn check_certificate(der: &[u8]) -> Result<(), Rejected> {
    match der.len() {
        1..=CERTIFICATE_MAX_BYTES => Ok(()),
        got => Err(Rejected::Certificate { got }),
    }
}

pub(super) fn check_endpoints(endpoints: &[SocketAddr]) -> Result<(), Rejected> {
    let (got, most) = (endpoints.len(), ENDPOINTS_MAX);
    let repeated = (1..got.min(most)).any(|n| endpoints[..n].contains(&endpoints[n]));
    if got > most || repeated {
        return Err(Rejected::EndpointCount { got, most });
    }
    let wrong = endpoints.iter().find(|endpoint| !can_be_dialled(endpoint));
    wrong.map_or(Ok(()), |got| Err(Rejected::Endpoint { got: *got }))
}

/// Scope and flow of an IPv6 endpoint mean something on one host only, and are not encoded.
fn can_be_dialled(endpoint: &SocketAddr) -> bool {
    let everywhere = match endpoint {
        SocketAddr::V4(v4) => !v4.ip().is_broadcast(),
        SocketAddr::V6(v6) => v6.scope_id() == 0 && v6.flowinfo() == 0,
    };
    let ip = endpoint.ip();
    everywhere && endpoint.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

pub(super) fn check_mesh(mesh: &Mesh) -> Result<(), Rejected> {
    check_name(&mesh.name, MESH_NAME_MAX)?;
    let digits = mesh.id.strip_prefix(&mesh.name).and_then(|rest| rest.strip_prefix('-'));
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if !digits.is_some_and(|digits| digits.len() == MESH_ID_DIGITS && digits.bytes().all(hex)) {
        return Err(Rejected::MeshId { got: shown(&mesh.id) });
    }
    check_prefix(mesh.prefix)?;
    mesh.ipv4.map_or(Ok(()), check_ipv4)?;
    check_certificate(&mesh.root)
}

fn check_prefix(prefix: Ipv6Net) -> Result<(), Rejected> {
    let local = prefix.network().octets()[0] == 0xfd;
    if prefix.prefix_len() == 48 && local && prefix == prefix.trunc() {
        return Ok(());
    }
    Err(Rejected::MeshPrefix { got: prefix.into() })
}

/// The ranges that no host of the Internet has: RFC 1918 §3 and RFC 6598 §7.
fn check_ipv4(prefix: Ipv4Net) -> Result<(), Rejected> {
    let range = |a, b, length| Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length);
    let private = [range(10, 0, 8), range(172, 16, 12), range(192, 168, 16), range(100, 64, 10)];
    let within = private.iter().any(|range| range.contains(&prefix));
    if within && prefix.prefix_len() <= 30 && prefix == prefix.trunc() {
        return Ok(());
    }
    Err(Rejected::MeshIpv4 { got: prefix.into() })
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// Whether no host behind a node can have an address of this network's range.
pub(super) fn is_reserved(network: IpNet) -> bool {
    let reserved = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some()
        }
    };
    reserved(network.network()) || reserved(network.broadcast())
}
