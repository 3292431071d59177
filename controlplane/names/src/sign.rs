//! Signs a zone (RFC 4033 to 4035), and proves what is not in it (NSEC3, RFC 5155).
//!
//! Called by [`crate::Zone::build`] only, with the time as an argument. hickory-server can sign a zone
//! too, but by the system's clock and from this very second on: a host whose clock is set back by one
//! would hold its own names for forged. NSEC3 is not chosen to hide names, which every member knows,
//! but because hickory-server's proofs by NSEC lack the wildcard's for names more than one label
//! below the closest that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use data_encoding::BASE32_DNSSEC;
use hickory_server::proto::ProtoError;
use hickory_server::proto::dnssec::rdata::{DNSSECRData, NSEC3, NSEC3PARAM, RRSIG};
use hickory_server::proto::dnssec::{DnssecSigner, Nsec3HashAlgorithm};
use hickory_server::proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordSet, RecordType};
use time::OffsetDateTime;

use crate::key::ZoneKey;
use crate::zone::{Records, ZoneError};

/// How long signatures last from their inception.
pub(crate) const LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How far back signatures begin: clocks differ, and are set back.
const BACKDATE: Duration = Duration::from_secs(60 * 60);

/// Hashing more than once costs the server more than whoever walks the zone (RFC 9276 §3.1).
pub(crate) const ITERATIONS: u16 = 0;

/// How long the key and the proofs of absence may be kept, in seconds.
const TTL: u32 = 30;

/// Adds the key, the proofs of absence and all signatures.
pub(crate) fn sign(records: &mut Records, key: &ZoneKey, now: SystemTime) -> Result<(), ZoneError> {
    let signer = key.signer(&records.origin)?;
    let origin = records.origin.clone();
    records.add(origin, RData::DNSSEC(DNSSECRData::DNSKEY(key.dnskey()?)), TTL);
    deny(records).map_err(failed)?;
    let inception = OffsetDateTime::from(now) - BACKDATE;
    for set in records.sets.values_mut() {
        sign_set(set, inception, &signer).map_err(failed)?;
    }
    Ok(())
}

fn failed(error: ProtoError) -> ZoneError {
    ZoneError::Record(error.to_string())
}

fn sign_set(
    set: &mut RecordSet,
    inception: OffsetDateTime,
    signer: &DnssecSigner,
) -> Result<(), ProtoError> {
    let signature = RRSIG::from_rrset(set, DNSClass::IN, inception, signer)?;
    let data = RData::DNSSEC(DNSSECRData::RRSIG(signature));
    set.insert_rrsig(Record::from_rdata(set.name().clone(), set.ttl(), data));
    Ok(())
}

/// Adds the ring of NSEC3 records: each says which hash comes next, and so that no name has one
/// between (RFC 5155 §7.1).
fn deny(records: &mut Records) -> Result<(), ProtoError> {
    let origin = records.origin.clone();
    let parameters = NSEC3PARAM::new(Nsec3HashAlgorithm::SHA1, false, ITERATIONS, Vec::new());
    let data = RData::DNSSEC(DNSSECRData::NSEC3PARAM(parameters));
    records.add(origin.clone(), data, TTL);
    let mut ring = Vec::new();
    for (owner, types) in owners(records) {
        let hash = Nsec3HashAlgorithm::SHA1.hash(&[], &owner, ITERATIONS)?;
        ring.push((hash.as_ref().to_vec(), types));
    }
    ring.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let hashes: Vec<Vec<u8>> = ring.iter().map(|(hash, _)| hash.clone()).collect();
    let following = hashes.iter().skip(1).chain(hashes.first());
    for ((hash, types), next) in ring.into_iter().zip(following) {
        let algorithm = Nsec3HashAlgorithm::SHA1;
        let proof = NSEC3::new(algorithm, false, ITERATIONS, Vec::new(), next.clone(), types);
        let owner = origin.prepend_label(BASE32_DNSSEC.encode(&hash))?;
        records.add(owner, RData::DNSSEC(DNSSECRData::NSEC3(proof)), TTL);
    }
    Ok(())
}

/// Every name of the zone with the types of its records; also the names that only have names below
/// them, which have no records and no signatures.
fn owners(records: &Records) -> BTreeMap<Name, BTreeSet<RecordType>> {
    let apex = LowerName::new(&records.origin);
    let mut owners: BTreeMap<LowerName, BTreeSet<RecordType>> = BTreeMap::new();
    for key in records.sets.keys() {
        let types = owners.entry(key.name.clone()).or_default();
        types.extend([key.record_type, RecordType::RRSIG]);
    }
    let names: Vec<LowerName> = owners.keys().cloned().collect();
    for name in names {
        let mut above = name.base_name();
        while apex.zone_of(&above) && above != apex && !owners.contains_key(&above) {
            owners.insert(above.clone(), BTreeSet::new());
            above = above.base_name();
        }
    }
    owners.into_iter().map(|(name, types)| (Name::from(name), types)).collect()
}
