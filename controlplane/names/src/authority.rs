//! One signed zone as it is asked: records by name, and the proofs that a name is not there.
//!
//! Owns the signed records. hickory-server's catalog calls it for each query; [`crate::sign`] makes it.
//! hickory-server has a zone in memory too, but that walks all records for a name that is not there: a
//! peer who asks for such names all the time would take a core. Here every answer costs the same,
//! however many members there are: a look into a hash table, and for a proof three hashes, each with a
//! search in the sorted ring. There are no wildcards, aliases or delegations in these zones.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use hickory_server::dnssec::NxProofKind;
use hickory_server::proto::dnssec::Nsec3HashAlgorithm;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{LowerName, RecordSet, RecordType, TSigResponseContext};
use hickory_server::server::{Request, RequestInfo};
use hickory_server::zone_handler::{
    AuthLookup, AxfrPolicy, LookupControlFlow, LookupError, LookupOptions, LookupRecords,
    Nsec3QueryInfo, ZoneHandler, ZoneType,
};

/// Hashing more than once costs the server more than whoever walks the zone (RFC 9276 §3.1).
pub(crate) const ITERATIONS: u16 = 0;

/// The records of each name; of a name that only has names below it, none.
pub(crate) type Names = HashMap<LowerName, BTreeMap<RecordType, Arc<RecordSet>>>;

/// The NSEC3 record of each name by the name's hash, in the order of hashes (RFC 5155 §7.1).
pub(crate) type Ring = Vec<(Vec<u8>, Arc<RecordSet>)>;

/// A signed zone.
pub(crate) struct Authority {
    origin: LowerName,
    names: Names,
    ring: Ring,
    proofs: NxProofKind,
}

impl Authority {
    /// A zone of these records. The ring has an entry for every name.
    pub(crate) fn new(origin: LowerName, names: Names, ring: Ring) -> Self {
        debug_assert!(ring.len() == names.len() && ring.is_sorted_by(|one, next| one.0 < next.0));
        let proofs = NxProofKind::Nsec3 {
            algorithm: Nsec3HashAlgorithm::SHA1,
            salt: Arc::from([]),
            iterations: ITERATIONS,
            opt_out: false,
        };
        Self { origin, names, ring, proofs }
    }

    fn find(
        &self,
        name: &LowerName,
        kind: RecordType,
        options: LookupOptions,
    ) -> Result<AuthLookup, LookupError> {
        if !self.origin.zone_of(name) {
            return Err(ResponseCode::Refused.into());
        }
        let types = self.names.get(name).ok_or(ResponseCode::NXDomain)?;
        let set = match kind {
            // One set of those that there are (RFC 8482 §4.1): the one that is mostly meant.
            RecordType::ANY => types.get(&RecordType::AAAA).or_else(|| types.values().next()),
            kind => types.get(&kind),
        };
        let set = set.ok_or(LookupError::NameExists)?;
        Ok(AuthLookup::answers(LookupRecords::new(options, set.clone()), None))
    }

    /// The proof that there is no such record (RFC 5155 §7.2): of a name that is there, its own entry,
    /// which lists its types; of any other, that the closest name above it is there, that the next one
    /// towards it is not, and that no wildcard stands in.
    fn proof(&self, name: &LowerName, kind: RecordType) -> Vec<Arc<RecordSet>> {
        if let Some(types) = self.names.get(name) {
            let absent = kind != RecordType::ANY && !types.contains_key(&kind);
            return self.entry(name).filter(|_| absent).into_iter().collect();
        }
        let (mut next, mut closest) = (name.clone(), name.base_name());
        while !self.names.contains_key(&closest) && !closest.is_root() {
            next = closest;
            closest = next.base_name();
        }
        let wildcard = next.clone().into_wildcard();
        let mut proof: Vec<Arc<RecordSet>> =
            [&closest, &next, &wildcard].into_iter().filter_map(|name| self.entry(name)).collect();
        proof.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        proof.dedup_by(|one, other| one.name() == other.name());
        proof
    }

    /// The entry of the ring with this name's hash, or the last before where it would be.
    fn entry(&self, name: &LowerName) -> Option<Arc<RecordSet>> {
        let hash = Nsec3HashAlgorithm::SHA1.hash(&[], name, ITERATIONS).ok()?;
        let after = self.ring.partition_point(|(other, _)| other.as_slice() <= hash.as_ref());
        // Before the first is the last: it is a ring.
        let at = after.checked_sub(1).or(self.ring.len().checked_sub(1))?;
        self.ring.get(at).map(|(_, set)| set.clone())
    }
}

#[async_trait]
impl ZoneHandler for Authority {
    fn zone_type(&self) -> ZoneType {
        ZoneType::Primary
    }

    fn axfr_policy(&self) -> AxfrPolicy {
        AxfrPolicy::Deny
    }

    fn origin(&self) -> &LowerName {
        &self.origin
    }

    async fn lookup(
        &self,
        name: &LowerName,
        kind: RecordType,
        _info: Option<&RequestInfo<'_>>,
        options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Continue(self.find(name, kind, options))
    }

    async fn search(
        &self,
        request: &Request,
        options: LookupOptions,
    ) -> (LookupControlFlow<AuthLookup>, Option<TSigResponseContext>) {
        let found = request
            .request_info()
            .and_then(|info| self.find(info.query.name(), info.query.query_type(), options));
        (LookupControlFlow::Continue(found), None)
    }

    async fn nsec_records(
        &self,
        _name: &LowerName,
        _options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Continue(Ok(AuthLookup::default()))
    }

    async fn nsec3_records(
        &self,
        info: Nsec3QueryInfo<'_>,
        options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        // The catalog asks for everybody, also for answers that need no proof.
        let proof = if options.dnssec_ok { self.proof(info.qname, info.qtype) } else { Vec::new() };
        LookupControlFlow::Continue(Ok(LookupRecords::many(options, proof).into()))
    }

    fn nx_proof_kind(&self) -> Option<&NxProofKind> {
        Some(&self.proofs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Records, tests as zones};
    use crate::{ZoneKey, sign};
    use hickory_server::proto::dnssec::rdata::DNSSECRData;
    use hickory_server::proto::rr::{Name, RData};
    use proptest::prelude::*;
    use std::sync::LazyLock;
    use std::time::SystemTime;

    static ZONE: LazyLock<Authority> = LazyLock::new(|| {
        let mut records: Records = zones::records("lab.internal.");
        for name in ["a.lab.internal.", "b.lab.internal.", "x.y.z.lab.internal."] {
            let data = RData::AAAA("fd42:1:2::1".parse().unwrap());
            records.add(Name::from_ascii(name).unwrap(), data, 1);
        }
        sign::sign(records, &ZoneKey::generate().unwrap(), SystemTime::now()).unwrap()
    });

    fn hash(name: &LowerName) -> Vec<u8> {
        Nsec3HashAlgorithm::SHA1.hash(&[], name, ITERATIONS).unwrap().as_ref().to_vec()
    }

    /// Whether an entry stands for this hash itself, and whether for a gap that it is in.
    fn stands_for(set: &RecordSet, wanted: &[u8]) -> (bool, bool) {
        let label = set.name().iter().next().unwrap().to_vec();
        let own = data_encoding::BASE32_DNSSEC.decode(&label).unwrap();
        let record = set.records_without_rrsigs().next().unwrap();
        let RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) = &record.data else { panic!("{record}") };
        let next = nsec3.next_hashed_owner_name();
        let behind = own.as_slice() < wanted;
        let before = wanted < next;
        let last = next <= own.as_slice();
        (own == wanted, if last { behind || before } else { behind && before })
    }

    fn is_there(proof: &[Arc<RecordSet>], name: &LowerName) -> bool {
        proof.iter().any(|set| stands_for(set, &hash(name)).0)
    }

    fn is_absent(proof: &[Arc<RecordSet>], name: &LowerName) -> bool {
        proof.iter().any(|set| stands_for(set, &hash(name)).1)
    }

    #[test]
    fn a_name_that_is_there_is_proven_by_its_own_entry_for_absent_types_only() {
        for (name, kind, entries) in [
            ("a.lab.internal.", RecordType::A, 1),
            ("a.lab.internal.", RecordType::AAAA, 0),
            ("a.lab.internal.", RecordType::ANY, 0),
            ("y.z.lab.internal.", RecordType::AAAA, 1),
        ] {
            let name = LowerName::new(&Name::from_ascii(name).unwrap());
            let proof = ZONE.proof(&name, kind);
            assert_eq!(proof.len(), entries, "{name} {kind}");
            assert!(entries == 0 || is_there(&proof, &name));
        }
    }

    proptest! {
        #[test]
        fn every_name_that_is_not_there_is_proven_absent(
            labels in prop::collection::vec("[a-z0-9]{1,12}", 1..5),
            below in prop::sample::select(vec!["", "a.", "z.", "y.z.", "x.y.z."]),
        ) {
            let text = format!("{}.{below}lab.internal.", labels.join("."));
            let name = LowerName::new(&Name::from_ascii(&text).unwrap());
            prop_assume!(!ZONE.names.contains_key(&name));
            let proof = ZONE.proof(&name, RecordType::AAAA);
            let (mut next, mut closest) = (name.clone(), name.base_name());
            while !ZONE.names.contains_key(&closest) {
                next = closest;
                closest = next.base_name();
            }
            prop_assert!(is_there(&proof, &closest), "{} is the closest", closest);
            prop_assert!(is_absent(&proof, &next), "{} is not there", next);
            // `into_wildcard` puts the asterisk in place of the first label (RFC 5155 §1.3).
            let wildcard = next.into_wildcard();
            prop_assert_eq!(wildcard.base_name(), closest);
            prop_assert!(is_absent(&proof, &wildcard), "{} is not there", wildcard);
            prop_assert!(proof.len() <= 3);
        }
    }
}
