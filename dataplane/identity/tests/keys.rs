//! Keys and signatures: what they carry over, and that no part of one can be left out or exchanged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::LazyLock;

use proptest::prelude::*;
use stoq_identity::{
    Algorithm, KeyError, Label, PUBLIC_KEYS_MAX, Policy, PrivateKeys, PublicKeys, Role,
    SIGNATURE_MAX, Signature, SignatureError, possession_body,
};

static KEYS: LazyLock<PrivateKeys> = LazyLock::new(|| PrivateKeys::generate().unwrap());
static OTHER: LazyLock<PrivateKeys> = LazyLock::new(|| PrivateKeys::generate().unwrap());

fn verify(signature: &Signature, body: &[u8]) -> Result<(), SignatureError> {
    KEYS.public().verify(&Label::RECORD, body, signature, Policy::Hybrid)
}

/// The parts of an encoded signature: the classical and the alternative one, with their headers.
fn parts(signature: &Signature) -> (Vec<u8>, Vec<u8>) {
    let bytes = signature.to_bytes();
    let end = 3 + usize::from(u16::from_be_bytes([bytes[1], bytes[2]]));
    (bytes[..end].to_vec(), bytes[end..].to_vec())
}

#[test]
fn a_signature_holds_for_its_keys_label_and_body_only() {
    let signature = KEYS.sign(&Label::RECORD, b"body").unwrap();
    assert_eq!(verify(&signature, b"body"), Ok(()));
    assert_eq!(verify(&signature, b"body2"), Err(SignatureError::Classical));
    for policy in [Policy::Hybrid, Policy::Classical] {
        let keys = KEYS.public();
        let refused = keys.verify(&Label::TREE_HEAD, b"body", &signature, policy);
        assert_eq!(refused, Err(SignatureError::Classical));
        let refused = OTHER.public().verify(&Label::RECORD, b"body", &signature, policy);
        assert_eq!(refused, Err(SignatureError::Classical));
        assert_eq!(keys.verify(&Label::RECORD, b"body", &signature, policy), Ok(()));
    }
}

#[test]
fn one_part_of_another_signer_is_not_enough_under_hybrid() {
    let (ours, theirs) =
        (KEYS.sign(&Label::RECORD, b"body").unwrap(), OTHER.sign(&Label::RECORD, b"body").unwrap());
    let ((our_first, our_second), (their_first, their_second)) = (parts(&ours), parts(&theirs));
    let forged_classical = Signature::from_bytes(&[their_first, our_second].concat()).unwrap();
    assert_eq!(verify(&forged_classical, b"body"), Err(SignatureError::Classical));
    let forged_alternative = Signature::from_bytes(&[our_first, their_second].concat()).unwrap();
    assert_eq!(verify(&forged_alternative, b"body"), Err(SignatureError::Alternative));
    let classical = Policy::Classical;
    let accepted = KEYS.public().verify(&Label::RECORD, b"body", &forged_alternative, classical);
    assert_eq!(accepted, Ok(()));
}

#[test]
fn a_stripped_or_exchanged_algorithm_is_refused_under_hybrid() {
    let signature = KEYS.sign(&Label::RECORD, b"body").unwrap();
    let (classical, _) = parts(&signature);
    let stripped = Signature::from_bytes(&[classical.clone(), vec![0]].concat()).unwrap();
    assert_eq!(verify(&stripped, b"body"), Err(SignatureError::NoAlternative));

    let p384 = PrivateKeys::generate_with(Algorithm::EcdsaP384).unwrap();
    let (_, weak) = parts(&p384.sign(&Label::RECORD, b"body").unwrap());
    let exchanged = Signature::from_bytes(&[classical, weak].concat()).unwrap();
    let expected = SignatureError::Algorithm { expected: "fn-dsa-1024", got: "ecdsa-p384" };
    assert_eq!(verify(&exchanged, b"body"), Err(expected));

    let mut bytes = KEYS.public().to_bytes();
    bytes.truncate(2 + 2 + 65);
    bytes.push(0);
    let bare = PublicKeys::from_bytes(&bytes).unwrap();
    let refused = bare.verify(&Label::RECORD, b"body", &signature, Policy::Hybrid);
    assert_eq!(refused, Err(SignatureError::NoAlternativeKey));
}

#[test]
fn keys_of_every_algorithm_survive_pem_and_bytes() {
    for algorithm in Algorithm::ALL {
        let keys = PrivateKeys::generate_with(algorithm).unwrap();
        let pem = keys.to_pem();
        let again = PrivateKeys::from_pem(&format!("a comment\n{}rest", *pem)).unwrap();
        assert_eq!(again.public(), keys.public());
        let signature = again.sign(&Label::RECORD, b"body").unwrap();
        keys.public().verify(&Label::RECORD, b"body", &signature, Policy::Hybrid).unwrap();
        assert!(signature.to_bytes().len() <= SIGNATURE_MAX);
        let bytes = keys.public().to_bytes();
        assert!(bytes.len() <= PUBLIC_KEYS_MAX);
        let public = PublicKeys::from_bytes(&bytes).unwrap();
        assert_eq!(&public, keys.public());
        assert_eq!(public.fingerprint(), keys.public().fingerprint());
        assert_eq!(public.algorithm(), Some(algorithm));
        assert_ne!(public.fingerprint(), OTHER.public().fingerprint());
    }
}

#[test]
fn a_key_file_without_one_of_the_keys_is_refused_with_what_is_missing() {
    let pem = KEYS.to_pem();
    let middle = pem.find("-----BEGIN STOQ").unwrap();
    let refused = |text: &str| PrivateKeys::from_pem(text).unwrap_err();
    assert_eq!(refused(&pem[..middle]), KeyError::Alternative { got: "none" });
    assert_eq!(refused(&pem[middle..]), KeyError::Classical { got: "none" });
    let cut = KeyError::Alternative { got: "a section without an end" };
    assert_eq!(refused(&pem[..pem.len() - 10]), cut);
    let spoilt = pem.replacen("END STOQ", "\0END STOQ", 1);
    assert!(matches!(refused(&spoilt), KeyError::Alternative { .. }));
    let private = "-----BEGIN STOQ ALTERNATIVE PRIVATE KEY-----\nMAA=\n-----END STOQ ALTERNATIVE PRIVATE KEY-----\n";
    let refused = refused(&format!("{}{private}", &pem[..middle]));
    assert_eq!(refused, KeyError::Alternative { got: "something else than PKCS #8" });
}

#[test]
fn nothing_secret_is_in_what_is_printed() {
    let shown = format!("{:?}", *KEYS);
    assert!(shown.len() < 80, "{shown}");
}

#[test]
fn a_proof_of_possession_holds_for_its_end_and_its_connection_only() {
    let (exporter, client, server) = ([1; 32], [2; 32], [3; 32]);
    let body = possession_body(Role::Client, &exporter, &client, &server);
    let proof = KEYS.sign(&Label::POSSESSION, &body).unwrap();
    let check =
        |body: &[u8]| KEYS.public().verify(&Label::POSSESSION, body, &proof, Policy::Hybrid);
    assert_eq!(check(&body), Ok(()));
    for (what, other) in [
        ("sent back to its maker", possession_body(Role::Server, &exporter, &server, &client)),
        ("of the other role", possession_body(Role::Server, &exporter, &client, &server)),
        ("of another connection", possession_body(Role::Client, &[9; 32], &client, &server)),
        ("with another own leaf", possession_body(Role::Client, &exporter, &[9; 32], &server)),
        ("for another peer", possession_body(Role::Client, &exporter, &client, &[9; 32])),
    ] {
        assert_eq!(check(&other), Err(SignatureError::Classical), "{what}");
    }
}

#[test]
fn what_serde_carries_is_checked() {
    let signature = KEYS.sign(&Label::RECORD, b"body").unwrap();
    let carried = serde_json::to_string(&(KEYS.public(), &signature)).unwrap();
    let (keys, again): (PublicKeys, Signature) = serde_json::from_str(&carried).unwrap();
    assert_eq!((&keys, &again), (KEYS.public(), &signature));
    assert!(serde_json::from_str::<Signature>("[1,0]").is_err());
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_back_unchanged(bytes in prop::collection::vec(0u8..4, 0..200)) {
        if let Ok(signature) = Signature::from_bytes(&bytes) {
            prop_assert_eq!(signature.to_bytes(), bytes.clone());
        }
        if let Ok(keys) = PublicKeys::from_bytes(&bytes) {
            prop_assert_eq!(keys.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_damaged_signature_is_refused(place: prop::sample::Index, bit in 0..8u8) {
        static SIGNED: LazyLock<Vec<u8>> =
            LazyLock::new(|| KEYS.sign(&Label::RECORD, b"body").unwrap().to_bytes());
        let mut bytes = SIGNED.clone();
        bytes[place.index(SIGNED.len())] ^= 1 << bit;
        let refused = Signature::from_bytes(&bytes).and_then(|read| verify(&read, b"body"));
        prop_assert!(refused.is_err());
        bytes.truncate(place.index(SIGNED.len()));
        prop_assert!(Signature::from_bytes(&bytes).is_err());
    }
}
