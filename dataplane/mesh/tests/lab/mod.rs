//! A mesh for tests: a root, two issuers with their logs, and what they sign.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use stoq_identity::{Options, Policy, PrivateKeys, Verifier};
use stoq_mesh::{
    Bundle, IssuerCertificates, Mesh, Record, Revocations, Revoked, RevokedKind, Signed, Signer,
    Signers, TreeHead, tree,
};
use stoq_trustchain::{
    Authority, Dates, ISSUER_VALIDITY, LEAF_VALIDITY, Prefixes, ROOT_VALIDITY, Subject,
};

pub const NOW_S: u64 = 1_795_327_200;

pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_S)
}

pub fn new_keys() -> Arc<PrivateKeys> {
    Arc::new(PrivateKeys::generate().unwrap())
}

/// An issuer and its log.
pub struct Issuer {
    pub authority: Authority,
    pub log: Arc<PrivateKeys>,
    pub certificates: IssuerCertificates,
}

pub struct Lab {
    pub root: Authority,
    pub prefixes: Prefixes,
    pub issuers: Vec<Issuer>,
}

impl Lab {
    pub fn new(issuers: usize) -> Self {
        let dates = Dates::of(now(), ROOT_VALIDITY);
        let root = Authority::found("lab", new_keys(), dates).unwrap();
        let prefixes = Prefixes::of(root.mesh(), Some("10.7.0.0/16".parse().unwrap()));
        let issuers = (0..issuers).map(|n| issuer(&root, &format!("edge-{n}"), prefixes)).collect();
        Self { root, prefixes, issuers }
    }

    pub fn id(&self) -> &str {
        self.root.mesh()
    }

    pub fn keys(&self, issuer: usize) -> &PrivateKeys {
        self.issuers[issuer].authority.keys()
    }

    pub fn verifier(&self) -> Verifier {
        let none: &[&[u8]] = &[];
        let roots = [self.root.certificate()];
        Verifier::with(&roots, self.id(), none, Options::default()).unwrap()
    }

    /// As a bundle's verification gives them.
    pub fn signers(&self) -> Signers {
        let mut signers = Signers::new(self.id(), Policy::Hybrid);
        for issuer in &self.issuers {
            let keys = issuer.authority.keys().public().clone();
            signers.add(Signer::Issuer, keys).unwrap();
            signers.add(Signer::Log, issuer.log.public().clone()).unwrap();
        }
        signers
    }

    pub fn record(&self, node: &str, n: u8) -> Record {
        let ipv6 = u128::from(self.prefixes.ipv6.addr()) + u128::from(n);
        let addresses = vec![
            IpNet::new(std::net::Ipv6Addr::from(ipv6).into(), 128).unwrap(),
            IpNet::new([10, 7, 0, n].into(), 32).unwrap(),
        ];
        Record {
            mesh: self.id().to_owned(),
            node: node.to_owned(),
            number: 4,
            keys: [n; 32],
            addresses,
            routes: vec![IpNet::new([10, 100, n, 0].into(), 24).unwrap()],
            endpoints: vec!["198.51.100.7:9292".parse().unwrap()],
        }
    }

    pub fn revocations(&self, sequence: u64, of: &[u8]) -> Revocations {
        let entry = |n: &u8| Revoked {
            keys: [*n; 32],
            kind: RevokedKind::Node,
            node: format!("gone-{n}"),
            at_s: NOW_S,
        };
        let entries = of.iter().map(entry).collect();
        Revocations { mesh: self.id().to_owned(), sequence, entries }
    }

    pub fn head(&self, issuer: usize, size: u64, root: [u8; 32]) -> TreeHead {
        let log = self.issuers[issuer].log.public().fingerprint();
        TreeHead { log, size, root, at_s: NOW_S }
    }

    /// The state of a mesh of two members, signed by the first issuer.
    pub fn bundle(&self) -> Bundle {
        let keys = self.keys(0);
        let records = [self.record("edge-a", 1), self.record("edge-b", 2)];
        let head = self.head(0, 1, tree::leaf_hash(b"a certificate"));
        Bundle {
            mesh: Mesh {
                id: self.id().to_owned(),
                name: "lab".to_owned(),
                prefix: self.prefixes.ipv6,
                ipv4: self.prefixes.ipv4,
                policy: Policy::Hybrid,
            },
            number: 7,
            root: self.root.certificate().to_vec(),
            issuers: self.issuers.iter().map(|issuer| issuer.certificates.clone()).collect(),
            records: records.iter().map(|record| Signed::sign(record, keys).unwrap()).collect(),
            revocations: Signed::sign(&self.revocations(3, &[9]), keys).unwrap(),
            heads: vec![Signed::sign(&head, &self.issuers[0].log).unwrap()],
        }
    }
}

fn issuer(root: &Authority, node: &str, prefixes: Prefixes) -> Issuer {
    let (keys, log, node) = (new_keys(), new_keys(), node.to_owned());
    let subject = Subject::Issuer { node: node.clone(), prefixes };
    let dates = Dates::of(now(), ISSUER_VALIDITY);
    let certificate = root.issue(&subject, keys.public(), dates).unwrap();
    let authority = Authority::open(&certificate, keys).unwrap();
    let dates = Dates::of(now(), LEAF_VALIDITY);
    let log_certificate = authority.issue(&Subject::Log { node }, log.public(), dates).unwrap();
    let certificates = IssuerCertificates { certificate, log: log_certificate };
    Issuer { authority, log, certificates }
}
