//! What the verifier accepts and refuses, on certificates made for each case.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod pki;

use std::time::{Duration, SystemTime};

use pki::{Authority, HOUR, Node, authority_params, node_params, root, self_signed};
use proptest::prelude::*;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, SanType,
    SerialNumber,
};
use stoq_identity::{
    CertificateError, MAX_CERTIFICATE_BYTES, MAX_INTERMEDIATES, MAX_ROOTS, NameError, Options,
    PeerIdentity, Policy, Role, RootsError, Verifier, VerifyError,
};

const EDGE: &str = "stoq://hq/edge-a";
const NO_INTERMEDIATES: &[&[u8]] = &[];

/// A fixed time, whole seconds as in certificates: 2026-11-22 06:00 UTC.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_327_200)
}

/// The rules of X.509 and names, on classical certificates: the alternative ones have tests of their
/// own where they are issued.
fn classical<C: AsRef<[u8]>>(roots: &[C], mesh: &str) -> Result<Verifier, RootsError> {
    let options = Options { policy: Policy::Classical, ..Options::default() };
    Verifier::with(roots, mesh, NO_INTERMEDIATES, options)
}

fn verifier(authority: &Authority) -> Verifier {
    classical(&[authority.certificate.der()], "hq").unwrap()
}

fn verify(verifier: &Verifier, node: &Node) -> Result<PeerIdentity, VerifyError> {
    verifier.verify(node.certificate.der(), NO_INTERMEDIATES, Role::Client, now())
}

/// The answer to a certificate that differs from a faultless one by `spoil`.
fn refusal_of(spoil: impl FnOnce(&mut CertificateParams)) -> VerifyError {
    let authority = root("root", now());
    let mut params = node_params(&[EDGE], now());
    spoil(&mut params);
    verify(&verifier(&authority), &authority.issue(&params)).unwrap_err()
}

#[test]
fn a_node_of_the_mesh_is_accepted_in_both_roles() {
    let authority = root("root", now());
    let mut params = node_params(&[EDGE], now());
    params.serial_number = Some(SerialNumber::from_slice(&[0x40, 0x0a, 0xff]));
    let node = authority.issue(&params);
    for role in [Role::Client, Role::Server] {
        let leaf = node.certificate.der();
        let peer = verifier(&authority).verify(leaf, NO_INTERMEDIATES, role, now()).unwrap();
        assert_eq!(peer.id.to_string(), EDGE);
        assert_eq!(peer.not_after, now() + HOUR);
        assert_eq!(peer.serial, "400aff");
        assert_ne!(peer.fingerprint, [0; 32]);
    }
}

#[test]
fn every_allowed_kind_of_key_works_in_root_and_node() {
    let kinds = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
    for kind in kinds {
        let authority = self_signed(authority_params("root", now()), kind);
        for kind in kinds {
            let node = authority.issue_for(&node_params(&[EDGE], now()), kind);
            verify(&verifier(&authority), &node).unwrap();
        }
    }
}

#[test]
fn other_kinds_of_keys_are_refused_in_root_node_and_intermediate() {
    let authority = root("root", now());
    for (kind, oid) in
        [(&PKCS_RSA_SHA256, "1.2.840.113549.1.1.1"), (&PKCS_ECDSA_P521_SHA512, "1.3.132.0.35")]
    {
        let algorithm = CertificateError::KeyAlgorithm { got: oid.to_owned() };
        let node = authority.issue_for(&node_params(&[EDGE], now()), kind);
        let refused = verify(&verifier(&authority), &node).unwrap_err();
        assert_eq!(refused, VerifyError::Certificate(algorithm.clone()));

        let odd = self_signed(authority_params("odd", now()), kind);
        let roots = classical(&[odd.certificate.der()], "hq").unwrap_err();
        assert_eq!(roots, RootsError::Certificate { index: 1, error: algorithm.clone() });

        let node = authority.issue(&node_params(&[EDGE], now()));
        let chain = [odd.certificate.der()];
        let refused =
            verifier(&authority).verify(node.certificate.der(), &chain, Role::Client, now());
        assert_eq!(refused.unwrap_err(), VerifyError::Certificate(algorithm));
    }
}

#[test]
fn a_foreign_root_is_refused_even_when_it_bears_the_same_name() {
    for name in ["root", "other"] {
        let foreign = root(name, now()).issue(&node_params(&[EDGE], now()));
        let refused = verify(&verifier(&root("root", now())), &foreign).unwrap_err();
        assert!(matches!(refused, VerifyError::Untrusted { roots: 1, .. }), "{refused}");
    }
}

#[test]
fn a_self_signed_node_is_refused() {
    let alone = self_signed(node_params(&[EDGE], now()), &PKCS_ECDSA_P256_SHA256);
    let leaf = alone.certificate.der();
    let refused =
        verifier(&root("root", now())).verify(leaf, NO_INTERMEDIATES, Role::Client, now());
    assert!(matches!(refused, Err(VerifyError::Untrusted { .. })), "{refused:?}");
}

#[test]
fn an_expired_certificate_says_for_how_long() {
    let refused = refusal_of(|p| p.not_after = (now() - HOUR / 2).into());
    assert_eq!(refused, VerifyError::Expired { ago: HOUR / 2 });
    assert!(refused.to_string().contains("expired 30 min 0 s ago"), "{refused}");
}

#[test]
fn a_certificate_of_the_future_says_how_far_the_clock_is_off() {
    let refused = refusal_of(|p| p.not_before = (now() + HOUR / 4).into());
    assert_eq!(refused, VerifyError::NotYetValid { ahead: HOUR / 4 });
}

#[test]
fn a_clock_before_1970_is_no_panic_and_no_acceptance() {
    let authority = root("root", now());
    let node = authority.issue(&node_params(&[EDGE], now()));
    let early = SystemTime::UNIX_EPOCH - HOUR;
    let leaf = node.certificate.der();
    let refused = verifier(&authority).verify(leaf, NO_INTERMEDIATES, Role::Client, early);
    assert!(matches!(refused, Err(VerifyError::NotYetValid { .. })), "{refused:?}");
}

#[test]
fn the_dates_of_the_root_count_too() {
    let mut params = authority_params("root", now());
    params.not_after = (now() - HOUR).into();
    let authority = self_signed(params, &PKCS_ECDSA_P256_SHA256);
    let node = authority.issue(&node_params(&[EDGE], now()));
    let refused = verify(&verifier(&authority), &node).unwrap_err();
    assert_eq!(refused, VerifyError::Expired { ago: HOUR });

    let mut params = authority_params("root", now());
    params.not_before = (now() + HOUR).into();
    let authority = self_signed(params, &PKCS_ECDSA_P256_SHA256);
    let node = authority.issue(&node_params(&[EDGE], now()));
    let refused = verify(&verifier(&authority), &node).unwrap_err();
    assert_eq!(refused, VerifyError::NotYetValid { ahead: HOUR });
}

#[test]
fn an_authority_is_no_node() {
    let refused = refusal_of(|p| p.is_ca = authority_params("x", now()).is_ca);
    assert_eq!(refused, VerifyError::Authority);
}

#[test]
fn each_role_needs_its_own_usage() {
    let authority = root("root", now());
    let mut params = node_params(&[EDGE], now());
    for (usage, allowed, refused) in [
        (ExtendedKeyUsagePurpose::ServerAuth, Role::Server, Role::Client),
        (ExtendedKeyUsagePurpose::ClientAuth, Role::Client, Role::Server),
    ] {
        params.extended_key_usages = vec![usage];
        let node = authority.issue(&params);
        let leaf = node.certificate.der();
        let verifier = verifier(&authority);
        verifier.verify(leaf, NO_INTERMEDIATES, allowed, now()).unwrap();
        let answer = verifier.verify(leaf, NO_INTERMEDIATES, refused, now());
        assert_eq!(answer.unwrap_err(), VerifyError::Usage(refused));
    }
}

#[test]
fn usages_that_are_absent_or_for_anything_are_refused() {
    let usage = VerifyError::Usage(Role::Client);
    assert_eq!(refusal_of(|p| p.extended_key_usages.clear()), usage);
    assert_eq!(refusal_of(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]), usage);
    assert_eq!(refusal_of(|p| p.key_usages.clear()), usage);
    assert_eq!(refusal_of(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]), usage);
}

#[test]
fn exactly_one_uri_is_required() {
    let names = |uris: &[&str]| node_params(uris, now()).subject_alt_names;
    for (uris, got) in [
        (names(&[]), 0),
        (names(&[EDGE, "stoq://hq/edge-b"]), 2),
        (names(&[EDGE, EDGE]), 2),
        (names(&[EDGE, "https://example.net/"]), 2),
        (vec![SanType::DnsName("edge-a".try_into().unwrap())], 0),
    ] {
        let refused = refusal_of(|p| p.subject_alt_names = uris);
        assert_eq!(refused, VerifyError::Certificate(CertificateError::NameCount { got }));
    }
}

#[test]
fn a_uri_that_names_no_node_is_refused() {
    let refused = refusal_of(|p| *p = node_params(&["stoq://hq/Edge"], now()));
    let name = NameError::Character { got: 'E' };
    assert_eq!(refused, VerifyError::Certificate(CertificateError::Name(name)));
}

#[test]
fn a_node_of_another_mesh_is_refused_although_the_root_is_shared() {
    let refused = refusal_of(|p| *p = node_params(&["stoq://branch/edge-a"], now()));
    let VerifyError::ForeignMesh { expected, got } = &refused else { panic!("{refused}") };
    assert_eq!((expected.as_str(), got.mesh()), ("hq", "branch"));
}

#[test]
fn an_intermediate_is_followed_in_any_order() {
    let authority = root("root", now());
    let below = authority.intermediate("below", now());
    let unrelated = root("unrelated", now());
    let node = below.issue(&node_params(&[EDGE], now()));
    let leaf = node.certificate.der();
    let verifier = verifier(&authority);
    let chain = [unrelated.certificate.der(), below.certificate.der()];
    verifier.verify(leaf, &chain, Role::Server, now()).unwrap();
    let missing = verifier.verify(leaf, NO_INTERMEDIATES, Role::Server, now());
    assert!(matches!(missing, Err(VerifyError::Untrusted { .. })), "{missing:?}");
}

#[test]
fn a_node_can_not_issue_for_others() {
    let authority = root("root", now());
    let node = authority.issue(&node_params(&[EDGE], now()));
    let params = node_params(&[EDGE], now());
    let issuer = rcgen::Issuer::new(params, node.key);
    let middle = Authority { certificate: node.certificate, issuer };
    let forged = middle.issue(&node_params(&["stoq://hq/edge-b"], now()));
    let chain = [middle.certificate.der()];
    let leaf = forged.certificate.der();
    let refused = verifier(&authority).verify(leaf, &chain, Role::Client, now());
    assert!(matches!(refused, Err(VerifyError::Untrusted { .. })), "{refused:?}");
}

#[test]
fn input_is_bounded_before_it_is_parsed() {
    let authority = root("root", now());
    let node = authority.issue(&node_params(&[EDGE], now()));
    let leaf: &[u8] = node.certificate.der();
    let verifier = verifier(&authority);
    let many = vec![leaf; MAX_INTERMEDIATES + 1];
    let refused = verifier.verify(leaf, &many, Role::Client, now()).unwrap_err();
    assert_eq!(refused, VerifyError::TooManyCertificates { got: MAX_INTERMEDIATES + 1 });

    let huge = vec![0x30; MAX_CERTIFICATE_BYTES + 1];
    let oversized =
        VerifyError::Certificate(CertificateError::Oversized { got: MAX_CERTIFICATE_BYTES + 1 });
    for (leaf, chain) in [(&huge[..], &[][..]), (leaf, &[&huge[..]][..])] {
        assert_eq!(verifier.verify(leaf, chain, Role::Client, now()).unwrap_err(), oversized);
    }

    let trailing = [leaf, &[0]].concat();
    let refused = verifier.verify(&trailing, NO_INTERMEDIATES, Role::Client, now());
    let Err(VerifyError::Certificate(CertificateError::Malformed { .. })) = refused else {
        panic!("{refused:?}")
    };
}

#[test]
fn roots_are_counted_and_must_be_authorities() {
    let none: &[&[u8]] = &[];
    assert_eq!(classical(none, "hq").unwrap_err(), RootsError::Count { got: 0 });
    let authority = root("root", now());
    let der = authority.certificate.der();
    let many = vec![der; MAX_ROOTS + 1];
    assert_eq!(classical(&many, "hq").unwrap_err(), RootsError::Count { got: MAX_ROOTS + 1 });
    let mut params = authority_params("leaf", now());
    params.is_ca = IsCa::ExplicitNoCa;
    let leaf = self_signed(params, &PKCS_ECDSA_P256_SHA256);
    let refused = classical(&[der, leaf.certificate.der()], "hq").unwrap_err();
    assert_eq!(refused, RootsError::NotAuthority { index: 2 });
    assert!(matches!(classical(&[der], "HQ"), Err(RootsError::Mesh(_))));
}

#[test]
fn either_of_two_roots_is_enough_while_one_replaces_the_other() {
    let (old, new) = (root("root", now()), root("root", now()));
    let roots = [old.certificate.der(), new.certificate.der()];
    let verifier = classical(&roots, "hq").unwrap();
    for authority in [&old, &new] {
        verify(&verifier, &authority.issue(&node_params(&[EDGE], now()))).unwrap();
    }
}

proptest! {
    #[test]
    fn garbage_is_refused_without_a_panic(leaf: Vec<u8>, chain in prop::collection::vec(any::<Vec<u8>>(), 0..3)) {
        let authority = root("root", now());
        let refused = verifier(&authority).verify(&leaf, &chain, Role::Client, now());
        prop_assert!(refused.is_err());
    }

    /// A flipped bit is refused wherever it is: the signature covers all but itself.
    #[test]
    fn a_damaged_certificate_is_refused(place: prop::sample::Index, bit in 0..8u8, cut: prop::sample::Index) {
        let authority = root("root", now());
        let node = authority.issue(&node_params(&[EDGE], now()));
        let verifier = verifier(&authority);
        let mut damaged = node.certificate.der().to_vec();
        let index = place.index(damaged.len());
        damaged[index] ^= 1 << bit;
        prop_assert!(verifier.verify(&damaged, NO_INTERMEDIATES, Role::Server, now()).is_err());
        damaged.truncate(cut.index(damaged.len()));
        prop_assert!(verifier.verify(&damaged, NO_INTERMEDIATES, Role::Server, now()).is_err());
        let chain = [&damaged];
        verifier.verify(node.certificate.der(), &chain, Role::Server, now()).err();
    }
}
