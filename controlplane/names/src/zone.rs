//! The zones of a mesh, from the list of its members: names to addresses, and addresses to names.
//!
//! Owns what is in a zone and what may not be in one. It reads no clock and does no I/O. hypermeshd
//! builds a [`Zone`] whenever the ledger changes, and again within [`Zone::REBUILD`], as signatures
//! end. What comes from the ledger is checked here all the same: a name is one label, an address is in
//! the mesh's prefixes, and neither has two owners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_server::proto::rr::rdata::{A, AAAA, NS, PTR, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, RecordSet, RrKey};
use hickory_server::zone_handler::Catalog;
use ipnet::IpNet;
use thiserror::Error;

use crate::key::{KeyError, ZoneKey};
use crate::sign;

/// The most members: signing their zones takes a core three seconds, which each change asks for.
pub const MAX_MEMBERS: usize = 4096;

/// The most addresses of a member: one of each family, and as many again while a mesh is renumbered;
/// an answer with all of them and its signature fits into one UDP message.
pub const MAX_ADDRESSES: usize = 8;

/// The most prefixes: one of each family, and as many again while a mesh is renumbered.
const MAX_PREFIXES: usize = 4;

/// Shortest prefixes: a mesh does not own more than 10.0.0.0/8 or an IPv6 /16. A prefix that ends
/// inside an octet is up to 128 reverse zones.
const MIN_PREFIX_LEN: (u8, u8) = (8, 16);

/// How long an answer may be kept, in seconds: a host that left is forgotten as soon.
const TTL: u32 = 30;

/// How long "no such name" may be kept, in seconds: a host that joins is found as soon.
const NEGATIVE_TTL: u32 = 5;

/// Longest label (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;

/// The mesh whose names these are.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// `lab` of `lab.internal`: one label.
    pub name: String,
    /// This node's name, which the zones name as their server: one label.
    pub server: String,
    /// The mesh's prefixes: the IPv6 one, and the IPv4 one if it has any.
    pub prefixes: Vec<IpNet>,
}

/// A node and its addresses in the tunnel.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name: one label.
    pub name: String,
    /// Its addresses, each in one of the mesh's prefixes.
    pub addresses: Vec<IpAddr>,
}

/// Why no zone could be built.
#[derive(Debug, Error)]
pub enum ZoneError {
    /// A name that is no label.
    #[error(
        "expected a name of 1 to {LABEL_MAX} letters, digits and inner hyphens, got {0:?}; choose \
         another name"
    )]
    Label(String),
    /// Too many of something.
    #[error("expected at most {max} {what}, got {got}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are taken.
        max: usize,
        /// How many came.
        got: usize,
    },
    /// A prefix too short to be a mesh's.
    #[error("expected a prefix of at least /8 (IPv4) or /16 (IPv6), got {0}")]
    Prefix(IpNet),
    /// A name twice, in whatever case.
    #[error("expected one member called {0:?}, got two; rename one")]
    SameName(String),
    /// An address twice.
    #[error("expected one member with the address {address}, got {one:?} and {other:?}")]
    SameAddress {
        /// The address.
        address: IpAddr,
        /// Who has it.
        one: String,
        /// Who has it too.
        other: String,
    },
    /// An address that is not the mesh's to give.
    #[error("expected an address in the mesh's prefixes for {member:?}, got {address}")]
    Foreign {
        /// Whose.
        member: String,
        /// The address.
        address: IpAddr,
    },
    /// A name that came out too long, or that could not be signed.
    #[error("expected names that can be written and signed: {0}")]
    Record(String),
    /// The zone key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The trust anchor of one zone, in the form of a zone file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The zone's name, with its final dot.
    pub zone: String,
    /// `FLAGS PROTOCOL ALGORITHM KEY` of its DNSKEY record.
    pub dnskey: String,
    /// `TAG ALGORITHM DIGEST-TYPE DIGEST` of the DS record that matches.
    pub ds: String,
}

/// A mesh's zones, ready to be served.
pub struct Zone {
    pub(crate) catalog: Catalog,
    pub(crate) prefixes: Vec<IpNet>,
    anchors: Vec<Anchor>,
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zone").field("anchors", &self.anchors).finish_non_exhaustive()
    }
}

impl Zone {
    /// How soon a zone must be built again though nothing changed: signatures end after fourteen
    /// days, and a host that was off for a week should still come back with good ones.
    pub const REBUILD: Duration = Duration::from_secs(24 * 60 * 60);

    /// Builds and signs the forward zone `NAME.internal` and the reverse zones of the prefixes. Takes
    /// some 50 µs of computing for each record; call it off the runtime's thread.
    ///
    /// `serial` must rise with every change; the ledger's height, modulo 2³².
    ///
    /// # Errors
    /// When a name or address may not be in the zone, and when it cannot be signed.
    pub fn build(
        mesh: &Mesh,
        members: &[Member],
        serial: u32,
        key: &ZoneKey,
        now: SystemTime,
    ) -> Result<Self, ZoneError> {
        check(mesh, members)?;
        let apex = name(&format!("{}.internal.", mesh.name))?;
        let mut zones = vec![Records::new(apex.clone(), mesh, serial)?];
        for prefix in &mesh.prefixes {
            for origin in reverse_origins(*prefix) {
                zones.push(Records::new(origin, mesh, serial)?);
            }
        }
        let mut index: BTreeMap<LowerName, usize> = BTreeMap::new();
        for (at, zone) in zones.iter().enumerate() {
            index.insert(LowerName::new(&zone.origin), at);
        }
        for member in members {
            let owner = name(&format!("{}.{}.internal.", member.name, mesh.name))?;
            for address in &member.addresses {
                zones[0].add(owner.clone(), address_data(*address), TTL);
                let reverse = Name::from(*address);
                let zone = holder(&index, &reverse).and_then(|at| zones.get_mut(at));
                if let Some(zone) = zone {
                    zone.add(reverse, RData::PTR(PTR(owner.clone())), TTL);
                }
            }
        }
        let mut zone = Self {
            catalog: Catalog::new(),
            prefixes: mesh.prefixes.clone(),
            anchors: Vec::with_capacity(zones.len()),
        };
        for records in zones {
            zone.insert(records, key, now)?;
        }
        Ok(zone)
    }

    /// The trust anchors: of the forward zone first, then of the reverse zones.
    #[must_use]
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The domains that belong to the mesh, without final dots: what the host's resolver is to ask
    /// here.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        self.anchors.iter().map(|anchor| anchor.zone.trim_end_matches('.').to_owned()).collect()
    }

    /// Signs the records and serves them.
    fn insert(
        &mut self,
        records: Records,
        key: &ZoneKey,
        now: SystemTime,
    ) -> Result<(), ZoneError> {
        let origin = records.origin.clone();
        let authority = sign::sign(records, key, now)?;
        self.anchors.push(Anchor {
            zone: origin.to_ascii(),
            dnskey: key.dnskey()?.to_string(),
            ds: key.ds(&origin)?.to_string(),
        });
        self.catalog.upsert(LowerName::new(&origin), vec![Arc::new(authority)]);
        Ok(())
    }
}

/// The records of one zone.
pub(crate) struct Records {
    pub(crate) origin: Name,
    pub(crate) sets: BTreeMap<RrKey, RecordSet>,
}

impl Records {
    fn new(origin: Name, mesh: &Mesh, serial: u32) -> Result<Self, ZoneError> {
        let server = name(&format!("{}.{}.internal.", mesh.server, mesh.name))?;
        let contact = name(&format!("hostmaster.{}.internal.", mesh.name))?;
        let (refresh, retry, expire) = (3600, 600, 86_400);
        let soa = SOA::new(server.clone(), contact, serial, refresh, retry, expire, NEGATIVE_TTL);
        let mut records = Self { origin: origin.clone(), sets: BTreeMap::new() };
        records.add(origin.clone(), RData::SOA(soa), TTL);
        records.add(origin, RData::NS(NS(server)), TTL);
        Ok(records)
    }

    /// Adds a record to its set. How long "no such name" may be kept is the least of the SOA's own
    /// time to live and its last field (RFC 2308 §5).
    pub(crate) fn add(&mut self, owner: Name, data: RData, ttl: u32) {
        let key = RrKey::new(LowerName::new(&owner), data.record_type());
        let new = || RecordSet::with_ttl(owner, data.record_type(), ttl);
        self.sets.entry(key).or_insert_with(new).add_rdata(data);
    }
}

/// Refuses what may not be in a zone.
fn check(mesh: &Mesh, members: &[Member]) -> Result<(), ZoneError> {
    check_label(&mesh.name)?;
    check_label(&mesh.server)?;
    check_count("members", members.len(), MAX_MEMBERS)?;
    check_count("prefixes", mesh.prefixes.len(), MAX_PREFIXES)?;
    for prefix in &mesh.prefixes {
        let least = if prefix.addr().is_ipv4() { MIN_PREFIX_LEN.0 } else { MIN_PREFIX_LEN.1 };
        if prefix.prefix_len() < least {
            return Err(ZoneError::Prefix(*prefix));
        }
    }
    let mut names = BTreeSet::new();
    let mut owners = BTreeMap::new();
    for member in members {
        check_label(&member.name)?;
        check_count("addresses of a member", member.addresses.len(), MAX_ADDRESSES)?;
        if !names.insert(member.name.to_ascii_lowercase()) {
            return Err(ZoneError::SameName(member.name.clone()));
        }
        for address in &member.addresses {
            check_address(mesh, member, *address, &mut owners)?;
        }
    }
    Ok(())
}

fn check_address<'a>(
    mesh: &Mesh,
    member: &'a Member,
    address: IpAddr,
    owners: &mut BTreeMap<IpAddr, &'a str>,
) -> Result<(), ZoneError> {
    if !mesh.prefixes.iter().any(|prefix| prefix.contains(&address)) {
        return Err(ZoneError::Foreign { member: member.name.clone(), address });
    }
    match owners.insert(address, &member.name) {
        Some(one) => {
            let (one, other) = (one.to_owned(), member.name.clone());
            Err(ZoneError::SameAddress { address, one, other })
        }
        None => Ok(()),
    }
}

fn check_label(label: &str) -> Result<(), ZoneError> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let good = (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-');
    if good { Ok(()) } else { Err(ZoneError::Label(label.to_owned())) }
}

fn check_count(what: &'static str, got: usize, max: usize) -> Result<(), ZoneError> {
    if got > max { Err(ZoneError::TooMany { what, max, got }) } else { Ok(()) }
}

fn name(text: &str) -> Result<Name, ZoneError> {
    Name::from_ascii(text).map_err(|error| ZoneError::Record(error.to_string()))
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The zones that hold the reverse names of a prefix: one, or several where the prefix ends inside a
/// label (an octet, RFC 1035 §3.5; four bits, RFC 3596 §2.5).
fn reverse_origins(prefix: IpNet) -> Vec<Name> {
    let bits = if prefix.addr().is_ipv4() { 8 } else { 4 };
    let len = prefix.prefix_len().next_multiple_of(bits);
    // The labels of the prefix, and `in-addr.arpa` or `ip6.arpa`.
    let labels = usize::from(len / bits) + 2;
    let networks = prefix.trunc().subnets(len).into_iter().flatten();
    networks.map(|network| Name::from(network.network()).trim_to(labels)).collect()
}

/// The zone that a reverse name is in: the one with the longest name.
fn holder(index: &BTreeMap<LowerName, usize>, reverse: &Name) -> Option<usize> {
    let mut above = LowerName::new(reverse);
    while !above.is_root() {
        if let Some(at) = index.get(&above) {
            return Some(*at);
        }
        above = above.base_name();
    }
    None
}

#[cfg(test)]
#[path = "zone_tests.rs"]
pub(crate) mod tests;
