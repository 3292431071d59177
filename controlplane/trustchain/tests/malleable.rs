//! What can be changed of a certificate so that it is another one in bytes, but is still taken: nothing
//! may be. Certificates are known by their bytes in the log, and keys by theirs in the revocations.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod mesh;

use std::sync::Arc;

use mesh::forge::{self, ALT_KEY, ALT_SIGNATURE, sign_alternatively, sign_classically};
use mesh::{Mesh, NONE, new_keys, now};
use stoq_identity::der::{self, BIT_STRING, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, element};
use stoq_identity::{
    Expected, Options, Policy, PrivateKeys, PublicKeys, Role, Verifier, root_keys,
};
use stoq_trustchain::{Authority, Dates, LEAF_VALIDITY, Prefixes, ROOT_VALIDITY, Subject};

/// The field `subjectPublicKeyInfo` of a TBSCertificate of version 3.
const KEY_FIELD: usize = 6;

/// An extension in DER.
fn extension(name: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let (name, value) = (element(OBJECT_IDENTIFIER, &[name]), element(OCTET_STRING, &[value]));
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    element(SEQUENCE, &[&name, flag, &value])
}

/// One more extension, behind the alternative key.
fn more(certificate: &[u8], extra: &[u8]) -> Vec<u8> {
    forge::alter(certificate, |name, whole| {
        Some(if name == ALT_KEY { [whole, extra].concat() } else { whole.to_vec() })
    })
}

/// Both signatures by the rightful signer: what a stolen or careless authority could make.
fn signed(certificate: &[u8], by: &PrivateKeys) -> Vec<u8> {
    sign_classically(&sign_alternatively(certificate, by), by)
}

/// The value of an extension.
fn value(certificate: &[u8], wanted: &[u8]) -> Vec<u8> {
    let found = std::cell::RefCell::new(Vec::new());
    forge::alter(certificate, |name, whole| {
        if name == wanted {
            let parts = der::all(der::only(whole).unwrap().contents, 3).unwrap();
            *found.borrow_mut() = parts.last().unwrap().contents.to_vec();
        }
        Some(whole.to_vec())
    });
    found.into_inner()
}

/// The same key in its short form (RFC 5480 §2.2): a point with one coordinate.
fn compressed(certificate: &[u8]) -> Vec<u8> {
    let outer = der::all(der::only(certificate).unwrap().contents, 3).unwrap();
    let mut fields: Vec<Vec<u8>> =
        der::all(outer[0].contents, 10).unwrap().iter().map(|field| field.whole.to_vec()).collect();
    let info = fields[KEY_FIELD].clone();
    let parts = der::all(der::only(&info).unwrap().contents, 2).unwrap();
    let point = parts[1].contents;
    assert_eq!((point.len(), point[1]), (66, 4));
    let tag = 2 + (point[65] & 1);
    let short = element(BIT_STRING, &[&[0, tag], &point[2..34]]);
    fields[KEY_FIELD] = element(SEQUENCE, &[parts[0].whole, &short]);
    let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
    element(SEQUENCE, &[&element(SEQUENCE, &parts), outer[1].whole, outer[2].whole])
}

#[test]
fn an_extension_that_is_critical_and_unknown_is_refused() {
    let mesh = Mesh::new("lab");
    let unknown = extension(&[0x2a, 3, 4], true, &[5, 0]);
    let leaf = signed(&more(&mesh.node("edge-b").der, &unknown), mesh.issuer.keys());
    mesh.verify(Expected::Node, &leaf).unwrap_err();
    let issuer = signed(&more(mesh.issuer.certificate(), &unknown), mesh.root.keys());
    let verifier = mesh.verifier(Options::default());
    let taken = verifier.verify_issuer(&issuer, now());
    assert!(taken.is_err(), "RFC 5280 §4.2: {taken:?}");
    // Not critical, it says nothing to us, and does no harm.
    let harmless = extension(&[0x2a, 3, 4], false, &[5, 0]);
    let issuer = signed(&more(mesh.issuer.certificate(), &harmless), mesh.root.keys());
    verifier.verify_issuer(&issuer, now()).unwrap();
}

#[test]
fn an_extension_twice_is_refused() {
    const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
    const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    const POLICIES: &[u8] = &[0x55, 0x1d, 0x20];
    const NAMES: &[u8] = &[0x55, 0x1d, 0x11];
    let mesh = Mesh::new("lab");
    let verifier = mesh.verifier(Options::default());
    let leaf = mesh.node("edge-b").der;
    for name in [ALT_KEY, POLICIES, NAMES, BASIC_CONSTRAINTS] {
        let twice = more(&leaf, &extension(name, false, &value(&leaf, name)));
        let twice = signed(&twice, mesh.issuer.keys());
        assert!(mesh.verify(Expected::Node, &twice).is_err(), "{name:02x?} in a leaf");
    }
    let issuer = mesh.issuer.certificate();
    for name in [ALT_KEY, POLICIES, NAMES, BASIC_CONSTRAINTS, NAME_CONSTRAINTS] {
        let twice = more(issuer, &extension(name, name == NAME_CONSTRAINTS, &value(issuer, name)));
        let twice = signed(&twice, mesh.root.keys());
        assert!(verifier.verify_issuer(&twice, now()).is_err(), "{name:02x?} in an issuer");
    }
    // Of two alternative signatures only one is left out of what is signed: the other would be free.
    let own = extension(ALT_SIGNATURE, false, &value(&leaf, ALT_SIGNATURE));
    let two = sign_classically(&more(&leaf, &own), mesh.issuer.keys());
    mesh.verify(Expected::Node, &two).unwrap_err();
}

#[test]
fn a_key_has_one_form_only() {
    let mesh = Mesh::new("lab");
    let node = mesh.node("edge-b");
    let short = signed(&compressed(&node.der), mesh.issuer.keys());
    if let Ok(peer) = mesh.verify(Expected::Node, &short) {
        let same = peer.keys.fingerprint() == node.keys.public().fingerprint();
        let read = PublicKeys::from_bytes(&peer.keys.to_bytes());
        panic!("taken; the fingerprint is the same: {same}; it can be read back: {read:?}");
    }
    let short = signed(&compressed(mesh.issuer.certificate()), mesh.root.keys());
    let verifier = mesh.verifier(Options::default());
    assert!(verifier.verify_issuer(&short, now()).is_err());
}

#[test]
fn what_stands_beside_or_behind_is_refused() {
    let mesh = Mesh::new("lab");
    let verifier = mesh.verifier(Options::default());
    let forms = |certificate: &[u8]| {
        let outer = der::only(certificate).unwrap();
        let behind = [certificate, &[0]].concat();
        let inside = element(SEQUENCE, &[outer.contents, &[5, 0]]);
        // The same length in a longer form than needed (X.690 §10.1).
        let length = u16::try_from(outer.contents.len()).unwrap().to_be_bytes();
        let long = [&[SEQUENCE, 0x83, 0], &length[..], outer.contents].concat();
        // The outer algorithm with parameters (RFC 5280 §4.1.1.2: the same as inside).
        let parts = der::all(outer.contents, 3).unwrap();
        let named = element(SEQUENCE, &[der::only(parts[1].whole).unwrap().contents, &[5, 0]]);
        let other = element(SEQUENCE, &[parts[0].whole, &named, parts[2].whole]);
        [behind, inside, long, other]
    };
    for (number, form) in forms(&mesh.node("edge-b").der).iter().enumerate() {
        assert!(mesh.verify(Expected::Node, form).is_err(), "form {number} of a leaf");
    }
    for (number, form) in forms(mesh.issuer.certificate()).iter().enumerate() {
        assert!(verifier.verify_issuer(form, now()).is_err(), "form {number} of an issuer");
        let node = mesh.node("edge-b").der;
        let bare = Verifier::new(&[mesh.root.certificate()], mesh.root.mesh()).unwrap();
        let chain = bare.verify(&node, &[form], Role::Client, now());
        assert!(chain.is_err(), "form {number} of an issuer in a chain");
    }
}

#[test]
fn no_bit_of_an_issuer_can_be_changed() {
    let mesh = Mesh::new("lab");
    let verifier = mesh.verifier(Options::default());
    let whole = mesh.issuer.certificate();
    verifier.verify_issuer(whole, now()).unwrap();
    let taken: Vec<(usize, u8)> = (0..whole.len())
        .flat_map(|at| (0..8).map(move |bit| (at, bit)))
        .filter(|&(at, bit)| {
            let mut changed = whole.to_vec();
            changed[at] ^= 1 << bit;
            verifier.verify_issuer(&changed, now()).is_ok()
        })
        .collect();
    assert_eq!(taken, []);
}

/// Who joins knows the root's keys by the token, and takes the certificate from the first node it meets.
#[test]
fn a_root_that_its_own_keys_did_not_sign_as_it_is_is_refused() {
    const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
    let mesh = Mesh::new("lab");
    let whole = mesh.root.certificate();
    for policy in [Policy::Hybrid, Policy::Classical] {
        root_keys(whole, policy).unwrap();
        // Unconstrained, by one who has broken the alternative algorithm, and by one who needs not.
        let free = forge::without(whole, &[NAME_CONSTRAINTS]);
        let resigned = sign_alternatively(&free, mesh.root.keys());
        for forged in [&free, &resigned, &sign_classically(&resigned, &new_keys())] {
            assert!(root_keys(forged, policy).is_err(), "{policy}");
        }
    }
}

/// A root that got a new alternative key stands beside its predecessor while the mesh moves over.
#[test]
fn roots_that_differ_in_the_alternative_key_alone_are_told_apart() {
    let (one, other) = (new_keys(), new_keys());
    let (one_pem, other_pem) = (one.to_pem(), other.to_pem());
    let cut = |pem: &str| pem.find("-----BEGIN STOQ").unwrap();
    let mixed = [&one_pem[..cut(&one_pem)], &other_pem[cut(&other_pem)..]].concat();
    let mixed = Arc::new(PrivateKeys::from_pem(&mixed).unwrap());
    assert_eq!(mixed.public().classical(), one.public().classical());
    let dates = Dates::of(now(), ROOT_VALIDITY);
    let roots = [one, mixed].map(|keys| Authority::found_as("lab", keys, dates).unwrap());
    for (first, second) in [(0, 1), (1, 0)] {
        let trusted = [roots[first].certificate(), roots[second].certificate()];
        let verifier = Verifier::new(&trusted, "lab").unwrap();
        for root in &roots {
            let issuer = mesh::promote(root, "edge-a", Prefixes::of("lab", None));
            let subject = Subject::Node { node: "edge-b".into(), addresses: vec![] };
            let dates = Dates::of(now(), LEAF_VALIDITY);
            let leaf = issuer.issue(&subject, new_keys().public(), dates).unwrap();
            verifier.verify_issuer(issuer.certificate(), now()).unwrap();
            let sent = [issuer.certificate()];
            verifier.verify(&leaf, &sent, Role::Client, now()).unwrap();
            let direct = root.issue(&subject, new_keys().public(), dates).unwrap();
            verifier.verify(&direct, NONE, Role::Client, now()).unwrap();
        }
    }
}
