//! A mesh for tests: a root, an issuer below it, and what both issue.
#![allow(dead_code, reason = "each test uses a part")]

pub mod forge;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use stoq_identity::{
    Expected, OperatorRole, Options, PeerIdentity, Policy, PrivateKeys, Role, Verifier, VerifyError,
};
use stoq_trustchain::{
    Authority, BACKDATE, Dates, ISSUER_VALIDITY, LEAF_VALIDITY, Prefixes, ROOT_VALIDITY, Subject,
};

pub const NONE: &[&[u8]] = &[];

/// A fixed time, whole seconds as in certificates: 2026-11-22 06:00 UTC.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_327_200)
}

pub fn new_keys() -> Arc<PrivateKeys> {
    Arc::new(PrivateKeys::generate().unwrap())
}

pub struct Mesh {
    pub root: Authority,
    pub issuer: Authority,
    pub prefixes: Prefixes,
}

/// A certificate with its keys.
pub struct Leaf {
    pub der: Vec<u8>,
    pub keys: Arc<PrivateKeys>,
}

impl Mesh {
    pub fn new(name: &str) -> Self {
        let root = Authority::found(name, new_keys(), Dates::of(now(), ROOT_VALIDITY)).unwrap();
        let prefixes = Prefixes::of(root.mesh(), Some("10.7.0.0/16".parse().unwrap()));
        let issuer = promote(&root, "edge-a", prefixes);
        Self { root, issuer, prefixes }
    }

    /// The `n`th addresses of the mesh's prefixes.
    pub fn addresses(&self, n: u128) -> Vec<IpAddr> {
        let ipv6 = u128::from(self.prefixes.ipv6.addr()) + n;
        let ipv4 = u32::from(self.prefixes.ipv4.unwrap().addr()) + u32::try_from(n).unwrap();
        vec![IpAddr::V6(ipv6.into()), IpAddr::V4(ipv4.into())]
    }

    pub fn node_subject(&self, node: &str) -> Subject {
        Subject::Node { node: node.to_owned(), addresses: self.addresses(2) }
    }

    pub fn node(&self, node: &str) -> Leaf {
        self.leaf(&self.node_subject(node))
    }

    pub fn operator(&self, role: OperatorRole) -> Leaf {
        self.leaf(&Subject::Operator { name: "ada".to_owned(), role })
    }

    pub fn leaf(&self, subject: &Subject) -> Leaf {
        let keys = new_keys();
        let dates = Dates::of(now(), LEAF_VALIDITY);
        Leaf { der: self.issuer.issue(subject, keys.public(), dates).unwrap(), keys }
    }

    /// A verifier that knows the root and the issuer.
    pub fn verifier(&self, options: Options) -> Verifier {
        let known = [self.issuer.certificate()];
        Verifier::with(&[self.root.certificate()], self.root.mesh(), &known, options).unwrap()
    }

    pub fn verify(&self, expected: Expected, leaf: &[u8]) -> Result<PeerIdentity, VerifyError> {
        let verifier = self.verifier(Options::default());
        verifier.verify_as(expected, leaf, NONE, Role::Client, now() + BACKDATE)
    }

    /// Under the classical policy.
    pub fn verify_classically(&self, leaf: &[u8]) -> Result<PeerIdentity, VerifyError> {
        let options = Options { policy: Policy::Classical, ..Options::default() };
        self.verifier(options).verify(leaf, NONE, Role::Client, now())
    }
}

/// Another issuer below `root`.
pub fn promote(root: &Authority, node: &str, prefixes: Prefixes) -> Authority {
    let keys = new_keys();
    let subject = Subject::Issuer { node: node.to_owned(), prefixes };
    let dates = Dates::of(now(), ISSUER_VALIDITY);
    let certificate = root.issue(&subject, keys.public(), dates).unwrap();
    Authority::open(&certificate, keys).unwrap()
}

/// The leaf without any alternative part, as its issuer's classical key alone would make it.
pub fn stripped(mesh: &Mesh, leaf: &Leaf) -> Leaf {
    let bare =
        forge::without(&leaf.der, &[forge::ALT_KEY, forge::ALT_ALGORITHM, forge::ALT_SIGNATURE]);
    let der = forge::sign_classically(&bare, mesh.issuer.keys());
    Leaf { der, keys: Arc::clone(&leaf.keys) }
}
