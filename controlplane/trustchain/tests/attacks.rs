//! What an attacker may come up with, who has broken one of the two algorithms, or has keys of his
//! own: each is refused, and for the right reason.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod mesh;

use std::sync::{Arc, LazyLock};

use mesh::forge::{
    self, ALT_ALGORITHM, ALT_KEY, ALT_SIGNATURE, sign_alternatively, sign_classically,
};
use mesh::{Mesh, NONE, new_keys, now};
use proptest::prelude::*;
use stoq_identity::der::{OBJECT_IDENTIFIER, SEQUENCE, element};
use stoq_identity::{
    Algorithm, AlternativeError, Expected, Kind, Options, PrivateKeys, Role, RootsError, Verifier,
    VerifyError,
};
use stoq_trustchain::{Authority, Dates, LEAF_VALIDITY, ROOT_VALIDITY, Subject};

const POLICIES: &[u8] = &[0x55, 0x1d, 0x20];

/// Certificate policies that say that it is for all of `kinds`.
fn policies(kinds: &[Kind]) -> Vec<u8> {
    let policy = |kind: &Kind| element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[kind.policy()])]);
    element(SEQUENCE, &[&kinds.iter().map(policy).collect::<Vec<_>>().concat()])
}

fn refusal(mesh: &Mesh, leaf: &[u8]) -> VerifyError {
    mesh.verify(Expected::Node, leaf).unwrap_err()
}

fn alternative(whose: &'static str, error: AlternativeError) -> VerifyError {
    VerifyError::Alternative { whose, error }
}

/// A leaf of `edge-b` that calls itself `edge-c`, with both old signatures.
fn renamed(mesh: &Mesh) -> Vec<u8> {
    forge::replace(&mesh.node("edge-b").der, b"edge-b", b"edge-c")
}

#[test]
fn who_has_broken_the_classical_algorithm_alone_gets_nowhere() {
    let mesh = Mesh::new("lab");
    // The attacker signs classically as the issuer, and alternatively with a key of his own.
    let forged = sign_classically(&renamed(&mesh), mesh.issuer.keys());
    assert_eq!(refusal(&mesh, &forged), alternative("the node's", AlternativeError::Wrong));
    let own = sign_alternatively(&renamed(&mesh), &new_keys());
    let forged = sign_classically(&own, mesh.issuer.keys());
    assert_eq!(refusal(&mesh, &forged), alternative("the node's", AlternativeError::Wrong));
    // It is the alternative signature alone that stops it.
    mesh.verify_classically(&forged).unwrap();
}

#[test]
fn who_has_broken_the_alternative_algorithm_alone_gets_nowhere() {
    let mesh = Mesh::new("lab");
    let signed = sign_alternatively(&renamed(&mesh), mesh.issuer.keys());
    for forged in [signed.clone(), sign_classically(&signed, &new_keys())] {
        let refused = refusal(&mesh, &forged);
        assert!(matches!(refused, VerifyError::Untrusted { .. }), "{refused}");
    }
    // It is the classical signature alone that stops it.
    let both = sign_classically(&signed, mesh.issuer.keys());
    assert_eq!(mesh.verify(Expected::Node, &both).unwrap().id.node(), "edge-c");
}

#[test]
fn a_stripped_alternative_part_is_refused() {
    let mesh = Mesh::new("lab");
    let node = mesh.node("edge-b");
    let (signature, key) = (AlternativeError::NoSignature, AlternativeError::NoKey);
    for (names, error) in [
        (&[ALT_SIGNATURE][..], &signature),
        (&[ALT_ALGORITHM], &signature),
        (&[ALT_SIGNATURE, ALT_ALGORITHM], &signature),
        (&[ALT_SIGNATURE, ALT_ALGORITHM, ALT_KEY], &signature),
    ] {
        let bare = forge::without(&node.der, names);
        let refused = refusal(&mesh, &bare);
        assert!(matches!(refused, VerifyError::Untrusted { .. }), "{refused}");
        let forged = sign_classically(&bare, mesh.issuer.keys());
        assert_eq!(refusal(&mesh, &forged), alternative("the node's", error.clone()));
    }
    let bare = sign_alternatively(&forge::without(&node.der, &[ALT_KEY]), mesh.issuer.keys());
    let forged = sign_classically(&bare, mesh.issuer.keys());
    assert_eq!(refusal(&mesh, &forged), alternative("the node's", key));
}

#[test]
fn an_issuer_that_the_root_signed_classically_only_is_refused() {
    let mesh = Mesh::new("lab");
    let node = mesh.node("edge-b");
    let all = [ALT_SIGNATURE, ALT_ALGORITHM, ALT_KEY];
    let bare = forge::without(mesh.issuer.certificate(), &all);
    let weak = sign_classically(&bare, mesh.root.keys());
    let verifier = Verifier::new(&[mesh.root.certificate()], mesh.root.mesh()).unwrap();
    let refused = verifier.verify(&node.der, &[&weak], Role::Client, now()).unwrap_err();
    let expected = alternative("its issuer's", AlternativeError::NoSignature);
    assert_eq!(refused, expected);
    assert_eq!(verifier.verify_issuer(&weak, now()).unwrap_err(), expected);
    // The mesh's state has the whole one, which comes first: what the peer sends spoils nothing.
    let known = mesh.verifier(Options::default());
    known.verify(&node.der, &[&weak], Role::Client, now()).unwrap();
}

#[test]
fn a_root_without_its_own_alternative_signature_is_no_root() {
    let mesh = Mesh::new("lab");
    let bare = forge::without(mesh.root.certificate(), &[ALT_SIGNATURE, ALT_ALGORITHM]);
    let swapped = sign_alternatively(mesh.root.certificate(), &new_keys());
    for (root, error) in [(bare, AlternativeError::NoSignature), (swapped, AlternativeError::Wrong)]
    {
        let root = sign_classically(&root, mesh.root.keys());
        let refused = Verifier::new(&[&root], mesh.root.mesh()).unwrap_err();
        assert_eq!(refused, RootsError::Alternative { index: 1, error });
    }
}

#[test]
fn an_algorithm_that_is_not_allowed_does_not_count() {
    let mesh = Mesh::new("lab");
    // The issuer itself has a weak alternative key, and signs with it.
    let keys = Arc::new(PrivateKeys::generate_with(Algorithm::EcdsaP384).unwrap());
    let root = Authority::found("lab", keys, Dates::of(now(), ROOT_VALIDITY)).unwrap();
    let refused = Verifier::new(&[root.certificate()], root.mesh()).unwrap_err();
    let error = AlternativeError::Algorithm { got: "ecdsa-p384" };
    assert_eq!(refused, RootsError::Alternative { index: 1, error: error.clone() });
    let algorithms = Algorithm::ALL.to_vec();
    let options = Options { algorithms, ..Options::default() };
    Verifier::with(&[root.certificate()], root.mesh(), NONE, options).unwrap();

    // A leaf with a weak key, signed by the right issuer.
    let weak = PrivateKeys::generate_with(Algorithm::EcdsaP384).unwrap();
    let dates = Dates::of(now(), LEAF_VALIDITY);
    let leaf = mesh.issuer.issue(&mesh.node_subject("edge-b"), weak.public(), dates).unwrap();
    assert_eq!(refusal(&mesh, &leaf), alternative("the node's", error));
}

#[test]
fn an_exchanged_algorithm_is_refused() {
    let mesh = Mesh::new("lab");
    let weak = PrivateKeys::generate_with(Algorithm::EcdsaP384).unwrap();
    let node = mesh.node("edge-b");
    let named = forge::with(&node.der, ALT_ALGORITHM, &Algorithm::EcdsaP384.signature_identifier());
    let signed = sign_classically(&sign_alternatively(&named, &weak), mesh.issuer.keys());
    let error = AlternativeError::Exchanged { expected: "fn-dsa-1024", got: "ecdsa-p384" };
    assert_eq!(refusal(&mesh, &signed), alternative("the node's", error));
    let unknown = forge::with(&node.der, ALT_ALGORITHM, &[0x30, 3, 6, 1, 42]);
    let signed = sign_classically(&unknown, mesh.issuer.keys());
    let error = AlternativeError::Algorithm { got: "one that is unknown here" };
    assert_eq!(refusal(&mesh, &signed), alternative("the node's", error));
}

#[test]
fn an_intermediate_of_another_mesh_is_refused() {
    let mesh = Mesh::new("lab");
    let foreign = Mesh::new("lab");
    let node = foreign.node("edge-b");
    let verifier = mesh.verifier(Options::default());
    let sent = [foreign.issuer.certificate()];
    let refused = verifier.verify(&node.der, &sent, Role::Client, now()).unwrap_err();
    assert!(matches!(refused, VerifyError::Untrusted { .. }), "{refused}");

    // Even where its root is trusted too, it speaks for its own mesh only.
    let roots = [mesh.root.certificate(), foreign.root.certificate()];
    let both = Verifier::new(&roots, mesh.root.mesh()).unwrap();
    let refused = both.verify(&node.der, &sent, Role::Client, now()).unwrap_err();
    assert!(matches!(refused, VerifyError::Issuer { .. }), "{refused}");
}

#[test]
fn an_issuer_can_not_name_what_is_outside_its_constraint() {
    let mesh = Mesh::new("lab");
    // An issuer of this mesh whose keys were stolen signs what its owner would not.
    let stolen = |from: &[u8], to: &[u8]| {
        let node = mesh.node("edge-b");
        let changed = forge::replace(&node.der, from, to);
        let keys = mesh.issuer.keys();
        refusal(&mesh, &sign_classically(&sign_alternatively(&changed, keys), keys))
    };
    let refused = stolen(b"edge-b.lab.internal", b"edge-b.net.internal");
    assert!(matches!(refused, VerifyError::Untrusted { .. }), "{refused}");
    let octets = |address: &std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    for own in mesh.addresses(2) {
        let mut other = octets(&own);
        other[1] ^= 1;
        let refused = stolen(&octets(&own), &other);
        assert!(matches!(refused, VerifyError::Untrusted { .. }), "{refused}");
    }
    // Within the constraint, but the name of another node.
    let refused = stolen(b"edge-b.lab.internal", b"edge-c.lab.internal");
    let (expected, got) = ("edge-b.lab.internal".to_owned(), "edge-c.lab.internal".to_owned());
    assert_eq!(refused, VerifyError::DnsName { expected, got });
}

#[test]
fn an_issuer_can_not_make_another_issuer() {
    const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    let mesh = Mesh::new("lab");
    // With the keys of an issuer, whatever its own program refuses can be signed.
    let leaf = mesh.leaf(&Subject::Log { node: "edge-b".to_owned() });
    let authority = forge::with(&leaf.der, BASIC_CONSTRAINTS, &[0x30, 3, 1, 1, 0xff]);
    let signing = forge::with(&authority, KEY_USAGE, &[3, 2, 1, 6]);
    let issuer = forge::with(&signing, POLICIES, &policies(&[Kind::Issuer]));
    let keys = mesh.issuer.keys();
    let below = sign_classically(&sign_alternatively(&issuer, keys), keys);
    let below = Authority::open(&below, leaf.keys).unwrap();
    let subject = Subject::Log { node: "edge-c".to_owned() };
    let dates = Dates::of(now(), LEAF_VALIDITY);
    let forged = below.issue(&subject, new_keys().public(), dates).unwrap();
    let sent = [below.certificate()];
    let verifier = mesh.verifier(Options::default());
    let refused = verifier.verify_as(Expected::Log, &forged, &sent, Role::Client, now());
    let Err(VerifyError::Untrusted { reason, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(reason, "PathLenConstraintViolated");
}

#[test]
fn two_uses_in_one_certificate_or_none_are_refused() {
    let mesh = Mesh::new("lab");
    let keys = mesh.issuer.keys();
    let again = |changed: &[u8]| sign_classically(&sign_alternatively(changed, keys), keys);
    let bare = again(&forge::without(&mesh.node("edge-b").der, &[POLICIES]));
    assert_eq!(refusal(&mesh, &bare), VerifyError::NoKind { expected: Expected::Node });
    let both = policies(&[Kind::Node, Kind::Log]);
    let two = again(&forge::with(&mesh.node("edge-b").der, POLICIES, &both));
    let refused = refusal(&mesh, &two);
    assert!(matches!(refused, VerifyError::Certificate(_)), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A flipped bit is refused wherever it is, in either signature too.
    #[test]
    fn a_damaged_certificate_is_refused(place: prop::sample::Index, bit in 0..8u8) {
        static MESH: LazyLock<(Mesh, Vec<u8>, Verifier)> = LazyLock::new(|| {
            let mesh = Mesh::new("lab");
            let leaf = mesh.node("edge-b").der;
            let verifier = mesh.verifier(Options::default());
            (mesh, leaf, verifier)
        });
        let (_, leaf, verifier) = &*MESH;
        let mut damaged = leaf.clone();
        damaged[place.index(leaf.len())] ^= 1 << bit;
        prop_assert!(verifier.verify(&damaged, NONE, Role::Client, now()).is_err());
    }
}
