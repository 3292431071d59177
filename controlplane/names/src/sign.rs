//! Signs a zone (RFC 4033 to 4035), and proves what is not in it (NSEC3, RFC 5155).
//!
//! Called by [`crate::Zone::build`] only, with the time as an argument. hickory-server can sign a zone
//! too, but by the system's clock and from this very second on: a host whose clock is set back by one
//! would hold its own names for forged. NSEC3 is chosen, not to hide names, which every member knows, but
//! because hickory-server's catalog asks for such proofs with all that they depend on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::BASE32_DNSSEC;
use hickory_server::proto::ProtoError;
use hickory_server::proto::dnssec::rdata::{DNSSECRData, NSEC3, NSEC3PARAM, RRSIG};
use hickory_server::proto::dnssec::{DnssecSigner, Nsec3HashAlgorithm};
use hickory_server::proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordSet, RecordType};
use time::OffsetDateTime;

use crate::authority::{Authority, ITERATIONS, Names, Ring};
use crate::key::ZoneKey;
use crate::zone::{Records, ZoneError};

/// How long signatures last from their inception.
pub(crate) const LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How far back signatures begin: clocks differ, and are set back.
const BACKDATE: Duration = Duration::from_secs(60 * 60);

/// How long the key and the proofs of absence may be kept, in seconds.
const TTL: u32 = 30;

/// Adds the key, the proofs of absence and all signatures.
pub(crate) fn sign(
    mut records: Records,
    key: &ZoneKey,
    now: SystemTime,
) -> Result<Authority, ZoneError> {
    let origin = records.origin.clone();
    let dnskey = RData::DNSSEC(DNSSECRData::DNSKEY(key.dnskey()?));
    let parameters = NSEC3PARAM::new(Nsec3HashAlgorithm::SHA1, false, ITERATIONS, Vec::new());
    records.add(origin.clone(), dnskey, TTL);
    records.add(origin.clone(), RData::DNSSEC(DNSSECRData::NSEC3PARAM(parameters)), TTL);
    let signer =
        Signer { inner: key.signer(&origin)?, inception: OffsetDateTime::from(now) - BACKDATE };
    let origin = LowerName::new(&origin);
    let mut names = Names::new();
    for (key, set) in records.sets {
        let set = signer.sign(set).map_err(failed)?;
        names.entry(key.name).or_default().insert(key.record_type, set);
    }
    add_empty(&mut names, &origin);
    let ring = ring(&names, &records.origin, &signer).map_err(failed)?;
    Ok(Authority::new(origin, names, ring))
}

fn failed(error: ProtoError) -> ZoneError {
    ZoneError::Record(error.to_string())
}

struct Signer {
    inner: DnssecSigner,
    inception: OffsetDateTime,
}

impl Signer {
    fn sign(&self, mut set: RecordSet) -> Result<Arc<RecordSet>, ProtoError> {
        let signature = RRSIG::from_rrset(&set, DNSClass::IN, self.inception, &self.inner)?;
        let data = RData::DNSSEC(DNSSECRData::RRSIG(signature));
        set.insert_rrsig(Record::from_rdata(set.name().clone(), set.ttl(), data));
        Ok(Arc::new(set))
    }
}

/// Adds the names that only have names below them.
fn add_empty(names: &mut Names, origin: &LowerName) {
    let there: Vec<LowerName> = names.keys().cloned().collect();
    for name in there {
        let mut above = name.base_name();
        while origin.zone_of(&above) && !names.contains_key(&above) {
            let next = above.base_name();
            names.insert(above, BTreeMap::new());
            above = next;
        }
    }
}

/// The NSEC3 records: each says which hash comes next, and so that no name has one between (RFC 5155
/// §7.1).
fn ring(names: &Names, origin: &Name, signer: &Signer) -> Result<Ring, ProtoError> {
    let mut hashes = Vec::with_capacity(names.len());
    for (name, types) in names {
        let hash = Nsec3HashAlgorithm::SHA1.hash(&[], name, ITERATIONS)?;
        hashes.push((hash.as_ref().to_vec(), types));
    }
    hashes.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let following = hashes.iter().skip(1).chain(hashes.first());
    let mut ring = Ring::with_capacity(hashes.len());
    for ((hash, types), (next, _)) in hashes.iter().zip(following) {
        // A name without records has no signature either.
        let signature = (!types.is_empty()).then_some(RecordType::RRSIG);
        let types = types.keys().copied().chain(signature);
        let algorithm = Nsec3HashAlgorithm::SHA1;
        let proof = NSEC3::new(algorithm, false, ITERATIONS, Vec::new(), next.clone(), types);
        let owner = origin.prepend_label(BASE32_DNSSEC.encode(hash))?;
        let mut set = RecordSet::with_ttl(owner, RecordType::NSEC3, TTL);
        set.add_rdata(RData::DNSSEC(DNSSECRData::NSEC3(proof)));
        ring.push((hash.clone(), signer.sign(set)?));
    }
    Ok(ring)
}
