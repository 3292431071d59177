//! Everything that a node needs to know of its mesh, in one object that the control plane hands to
//! the data plane.
//!
//! The bundle as a whole is not signed: each part that matters is, and is verified here under the
//! root that the node was configured with. So a control plane that was taken over can withhold and
//! repeat what issuers signed, and can say nothing of its own.

use std::time::SystemTime;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use stoq_identity::{
    Expected, MESH_PREFIX_BITS, Policy, RootsError, Verifier, VerifyError, mesh_id, mesh_name,
    mesh_prefix, root_keys,
};
use thiserror::Error;

use crate::head::TreeHead;
use crate::record::Record;
use crate::revocation::{Revocations, Revoked};
use crate::revoked::{RevocationError, RevocationStore};
use crate::signed::{DecodeError, OpenError, Signed, decode, encode};
use crate::signers::{SIGNERS_MAX, Signer, Signers, SignersError};

/// Most bytes of a bundle: the most records at about 2 KiB each, and the other parts.
pub const BUNDLE_MAX_BYTES: usize = 40 * 1024 * 1024;
/// Most records: as many as the ledger has members.
pub const RECORDS_MAX: usize = 16 * 1024;

const WHAT: &str = "mesh bundle";

/// What a mesh is. Not signed: all of it but `ipv4` and `policy` follows from the root, and those
/// two only inform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// `NAME-` and 16 hexadecimal digits, bound to the root's keys.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The /48 of all tunnel addresses.
    pub prefix: Ipv6Net,
    /// IPv4 tunnel addresses, when the mesh has them.
    pub ipv4: Option<Ipv4Net>,
    /// Which signatures certificates need, by the ledger. What a node asks for is in its own
    /// configuration.
    pub policy: Policy,
}

/// The certificates of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerCertificates {
    /// Its own, DER: directly below the root.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// That of its log, DER: issued by it or by the root.
    #[serde(with = "serde_bytes")]
    pub log: Vec<u8>,
}

/// A mesh's state, as handed to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The mesh.
    pub mesh: Mesh,
    /// The height of the ledger that it was made of: of two bundles the higher counts.
    pub number: u64,
    /// The root certificate, DER.
    #[serde(with = "serde_bytes")]
    pub root: Vec<u8>,
    /// Who issues certificates and signs the rest.
    pub issuers: Vec<IssuerCertificates>,
    /// Who belongs to the mesh.
    pub records: Vec<Signed<Record>>,
    /// Whose keys were revoked.
    pub revocations: Signed<Revocations>,
    /// The newest head of each log.
    pub heads: Vec<Signed<TreeHead>>,
}

/// What a bundle was proven to say.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The mesh.
    pub mesh: Mesh,
    /// The height of the ledger.
    pub number: u64,
    /// The members. None overlaps another.
    pub records: Vec<Record>,
    /// What is revoked now.
    pub revocations: RevocationStore,
    /// What of it is new: to be cut off.
    pub revoked: Vec<Revoked>,
    /// Whose signatures count.
    pub signers: Signers,
    /// The issuers' certificates, DER, for the verification of peers that send only their own.
    pub intermediates: Vec<Vec<u8>>,
    /// Issuers that are passed over because they or their logs have expired, and when.
    pub expired: Vec<String>,
}

/// Why a bundle is not taken over. What the node had before stays.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The bytes are no bundle.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is of another mesh.
    #[error(
        "expected the state of mesh {expected}, got that of {got:?}: a host belongs to one mesh"
    )]
    Mesh {
        /// Our mesh.
        expected: String,
        /// The mesh that it names.
        got: String,
    },
    /// The root certificate can not be used.
    #[error("the bundle's root certificate: {0}")]
    Root(#[from] RootsError),
    /// It is another root, or the mesh's name and prefix do not follow from it.
    #[error(
        "expected {what} that follows from our root, got another: the root certificate of this host (identity.authority) is not that of the mesh"
    )]
    Unbound {
        /// What does not.
        what: &'static str,
    },
    /// There are too many of something.
    #[error(
        "expected at most {most} {what} in a mesh bundle, got {got}: it was not made by this release"
    )]
    Count {
        /// Of what.
        what: &'static str,
        /// The most.
        most: usize,
        /// How many came.
        got: usize,
    },
    /// An issuer's or log's certificate does not count.
    #[error("the certificate of issuer {index}, or of its log: {error}")]
    Issuer {
        /// Its place, from 1.
        index: usize,
        /// Why not.
        error: VerifyError,
    },
    /// More signers than there can be.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// The set of revocations does not count.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// A record does not count.
    #[error("member {index}: {error}")]
    Record {
        /// Its place, from 1.
        index: usize,
        /// Why not.
        error: OpenError,
    },
    /// A head does not count.
    #[error("head {index}: {error}")]
    Head {
        /// Its place, from 1.
        index: usize,
        /// Why not.
        error: OpenError,
    },
    /// A member whose keys or name were revoked.
    #[error("expected no revoked member, got {node}: its issuer works on an old ledger")]
    Revoked {
        /// The member.
        node: String,
    },
    /// Two records of one member.
    #[error("expected one record of each member, got two of {node}: make the bundle again")]
    Twice {
        /// The member.
        node: String,
    },
    /// A tunnel address outside the mesh, or a network that covers the mesh.
    #[error(
        "expected addresses within the mesh's prefix and networks outside it, got {got} for {node}: its issuer must not sign such a record"
    )]
    Outside {
        /// The member.
        node: String,
        /// The prefix.
        got: IpNet,
    },
    /// Two members have the same.
    #[error(
        "{one} of {node} overlaps {other} of {by}: each network lies behind one member; remove one of them"
    )]
    Overlap {
        /// A member.
        node: String,
        /// Its prefix.
        one: IpNet,
        /// The other member.
        by: String,
        /// Its prefix.
        other: IpNet,
    },
}

impl Bundle {
    /// The bytes that travel.
    ///
    /// # Errors
    /// When they would be more than [`BUNDLE_MAX_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        encode(WHAT, BUNDLE_MAX_BYTES, self)
    }

    /// Reads what [`Bundle::to_bytes`] gave; nothing is verified.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(WHAT, BUNDLE_MAX_BYTES, bytes)
    }

    /// Verifies everything in it at the time `now`, under the roots and the policy of `verifier`,
    /// knowing what is revoked already: issuers that are revoked sign nothing, and a set that is
    /// older or lacks an entry is refused with the bundle.
    ///
    /// # Errors
    /// The first part that does not count.
    pub fn verify(
        &self,
        verifier: &Verifier,
        known: &RevocationStore,
        now: SystemTime,
    ) -> Result<Verified, BundleError> {
        self.check_counts()?;
        self.check_mesh(verifier)?;
        let mut authorities = self.authorities(verifier, known, now)?;
        let mut revocations = known.clone();
        let revoked = revocations.accept(&self.revocations, &authorities.signers)?;
        let signer = self.revocations.signer();
        if let Some(entry) = revocations.entry(signer) {
            return Err(BundleError::Revoked { node: entry.node.clone() });
        }
        authorities.withdraw(&revocations);
        let signers = authorities.signers;
        let records = self.records(&signers, &revocations)?;
        for (index, head) in (1..).zip(&self.heads) {
            head.open(&signers).map_err(|error| BundleError::Head { index, error })?;
        }
        Ok(Verified {
            mesh: self.mesh.clone(),
            number: self.number,
            records,
            revocations,
            revoked,
            signers,
            intermediates: authorities.issuers.into_iter().map(|(_, der)| der).collect(),
            expired: authorities.expired,
        })
    }

    fn check_counts(&self) -> Result<(), BundleError> {
        for (what, most, got) in [
            ("issuers", SIGNERS_MAX, self.issuers.len()),
            ("members", RECORDS_MAX, self.records.len()),
            ("heads", SIGNERS_MAX, self.heads.len()),
        ] {
            if got > most {
                return Err(BundleError::Count { what, most, got });
            }
        }
        Ok(())
    }

    fn check_mesh(&self, verifier: &Verifier) -> Result<(), BundleError> {
        let Mesh { id, name, prefix, .. } = &self.mesh;
        if id != verifier.mesh() {
            let (expected, got) = (verifier.mesh().to_owned(), id.clone());
            return Err(BundleError::Mesh { expected, got });
        }
        let root = root_keys(&self.root, verifier.policy())?;
        let expected = Ipv6Net::new(mesh_prefix(id), MESH_PREFIX_BITS).ok();
        for (what, follows) in [
            ("a root certificate", verifier.root_keys().any(|keys| *keys == root)),
            ("an identity", mesh_id(mesh_name(id), &root).as_ref() == Ok(id)),
            ("a name", mesh_name(id) == name),
            ("a prefix", expected.as_ref() == Some(prefix)),
        ] {
            if !follows {
                return Err(BundleError::Unbound { what });
            }
        }
        Ok(())
    }

    fn authorities(
        &self,
        verifier: &Verifier,
        known: &RevocationStore,
        now: SystemTime,
    ) -> Result<Authorities, BundleError> {
        let mut all = Authorities {
            signers: Signers::new(&self.mesh.id, verifier.policy()),
            issuers: Vec::new(),
            expired: Vec::new(),
        };
        for (index, of) in (1..).zip(&self.issuers) {
            match all.add(of, verifier, now)? {
                Ok(()) => {}
                // The mesh goes on with the others; what this one signed does not count.
                Err(VerifyError::Expired { ago }) => {
                    all.expired.push(format!("issuer {index}, {} s ago", ago.as_secs()));
                }
                Err(error) => return Err(BundleError::Issuer { index, error }),
            }
        }
        all.withdraw(known);
        Ok(all)
    }

    fn records(
        &self,
        signers: &Signers,
        revocations: &RevocationStore,
    ) -> Result<Vec<Record>, BundleError> {
        let mut records = Vec::with_capacity(self.records.len());
        for (index, signed) in (1..).zip(&self.records) {
            let record =
                signed.open(signers).map_err(|error| BundleError::Record { index, error })?;
            if revocations.is_revoked(&record.keys, &record.node) {
                return Err(BundleError::Revoked { node: record.node });
            }
            self.check_prefixes(&record)?;
            records.push(record);
        }
        check_apart(&records)?;
        Ok(records)
    }

    fn check_prefixes(&self, record: &Record) -> Result<(), BundleError> {
        let own = [Some(IpNet::from(self.mesh.prefix)), self.mesh.ipv4.map(IpNet::from)];
        let own: Vec<IpNet> = own.into_iter().flatten().collect();
        let inside = |net: &IpNet| own.iter().any(|own| own.contains(net));
        let apart = |net: &IpNet| !own.iter().any(|own| own.contains(net) || net.contains(own));
        let address = record.addresses.iter().find(|net| !inside(net));
        match address.or_else(|| record.routes.iter().find(|net| !apart(net))) {
            Some(got) => Err(BundleError::Outside { node: record.node.clone(), got: *got }),
            None => Ok(()),
        }
    }
}

/// Whose certificates lead to the root.
struct Authorities {
    signers: Signers,
    /// Fingerprint of the keys, and the certificate.
    issuers: Vec<([u8; 32], Vec<u8>)>,
    expired: Vec<String>,
}

impl Authorities {
    /// Adds an issuer and its log, once both certificates are verified.
    fn add(
        &mut self,
        of: &IssuerCertificates,
        verifier: &Verifier,
        now: SystemTime,
    ) -> Result<Result<(), VerifyError>, SignersError> {
        use stoq_identity::Role;
        let issuer = match verifier.verify_issuer(&of.certificate, now) {
            Ok(issuer) => issuer,
            Err(error) => return Ok(Err(error)),
        };
        let above = [&of.certificate];
        let log = match verifier.verify_as(Expected::Log, &of.log, &above, Role::Client, now) {
            Ok(log) => log,
            Err(error) => return Ok(Err(error)),
        };
        self.issuers.push((issuer.keys.fingerprint(), of.certificate.clone()));
        self.signers.add(Signer::Issuer, issuer.keys)?;
        self.signers.add(Signer::Log, log.keys)?;
        Ok(Ok(()))
    }

    /// Takes away whoever was revoked.
    fn withdraw(&mut self, revocations: &RevocationStore) {
        for entry in revocations.entries() {
            self.signers.remove(&entry.keys);
        }
        self.issuers.retain(|(keys, _)| revocations.entry(keys).is_none());
    }
}

/// That each name is there once, and no two members share any part of a network or an address.
fn check_apart(records: &[Record]) -> Result<(), BundleError> {
    let mut names: Vec<&str> = records.iter().map(|record| record.node.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(BundleError::Twice { node: pair[0].to_owned() });
    }
    let prefixes = |record: &Record| -> Vec<(IpNet, String)> {
        let all = record.addresses.iter().chain(&record.routes);
        all.map(|net| (*net, record.node.clone())).collect()
    };
    let mut all: Vec<(IpNet, String)> = records.iter().flat_map(prefixes).collect();
    // By address, then length: whatever lies in a network stands right behind it.
    all.sort_unstable();
    let overlap = all.windows(2).find(|pair| pair[0].0.contains(&pair[1].0));
    let Some([(one, node), (other, by)]) = overlap else { return Ok(()) };
    let (node, by) = (node.clone(), by.clone());
    Err(BundleError::Overlap { node, one: *one, by, other: *other })
}
