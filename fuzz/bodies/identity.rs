//! What the fuzz targets of the identity do with their input, and what must hold whatever it is.
//! Included by the fuzz targets and by the test that replays their corpora.
#![allow(dead_code, reason = "each fuzz target uses one of these")]

use std::time::{Duration, SystemTime};

use stoq_identity::{NodeId, Options, Policy, Role, RootsError, Verifier};

/// The root of a mesh `lab` whose key is lost, and the one certificate that was issued under it:
/// nobody can make another that is accepted.
const CORPUS: [&[u8]; 2] = [
    include_bytes!("../corpus/identity_chain/root"),
    include_bytes!("../corpus/identity_chain/node"),
];

/// While that certificate is valid: 2026-12-01 00:00 UTC.
const NOW_S: u64 = 1_796_083_200;

/// A chain, each certificate behind its length (2 bytes), the node's own first. It is accepted
/// only if that is the one that was issued.
pub fn chain(data: &[u8]) {
    let [root, node] = CORPUS.map(|file| split(file)[0]);
    let verifier = classical(&[root]).expect("the root is one");
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_S);
    let certificates = split(data);
    let Some((leaf, others)) = certificates.split_first() else { return };
    for role in [Role::Client, Role::Server] {
        match verifier.verify(leaf, others, role, now) {
            Ok(peer) => {
                assert_eq!(*leaf, node, "a certificate that nobody issued");
                assert_eq!(peer.id.to_string(), "stoq://lab/edge-a");
            }
            Err(error) => {
                assert!(*leaf != node || !others.is_empty(), "refused what was issued: {error}");
            }
        }
    }
    // As roots, they only have to be refused or taken without harm.
    let _ = classical(&certificates);
    let _ = Verifier::new(&certificates, "lab");
}

/// The certificates of the corpus are classical ones.
fn classical(roots: &[&[u8]]) -> Result<Verifier, RootsError> {
    let none: &[&[u8]] = &[];
    let options = Options { policy: Policy::Classical, ..Options::default() };
    Verifier::with(roots, "lab", none, options)
}

/// A name as text: what is taken prints as what it was, and what is refused says why.
pub fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match NodeId::parse(text) {
        Ok(id) => assert_eq!(id.to_string(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn split(mut data: &[u8]) -> Vec<&[u8]> {
    let mut certificates = Vec::new();
    while let Some((&length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(length));
        let (certificate, rest) = rest.split_at(rest.len().min(length));
        certificates.push(certificate);
        data = rest;
    }
    certificates
}
