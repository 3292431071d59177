//! Requests and tokens: what they prove, what they carry, and that nothing in them can be changed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod mesh;

use std::sync::LazyLock;

use mesh::new_keys;
use proptest::prelude::*;
use stoq_identity::{Kind, NodeId, OperatorRole, PrivateKeys, SignatureError};
use stoq_trustchain::{
    CONTEXT_MAX, Enrolment, PROOF_BYTES, ProofError, REQUEST_MAX, Request, RequestError, TOKEN_MAX,
    Token, TokenError,
};

static KEYS: LazyLock<PrivateKeys> = LazyLock::new(|| PrivateKeys::generate().unwrap());

fn id() -> NodeId {
    NodeId::new("lab-0123456789abcdef", "edge-b").unwrap()
}

fn request() -> Request {
    Request::new(&KEYS, Kind::Node, &id(), &[7; 32]).unwrap()
}

fn token() -> Token {
    let addresses = vec!["[2001:db8::1]:9292".to_owned(), "edge-a.example:9292".to_owned()];
    Token::new(&id(), Kind::Node, addresses, [1; 32], 1_795_327_200).unwrap()
}

#[test]
fn a_request_proves_its_keys_for_its_context() {
    let bytes = request().to_bytes().unwrap();
    assert!(bytes.len() <= REQUEST_MAX);
    let read = Request::from_bytes(&bytes).unwrap();
    assert_eq!(read.verify(&[7; 32]).unwrap(), KEYS.public());
    assert_eq!((read.kind, read.name.as_str()), (Kind::Node, "edge-b"));
    assert_eq!(read.verify(&[8; 32]), Err(RequestError::Context));
}

#[test]
fn nothing_in_a_request_can_be_changed() {
    let refused = |change: fn(&mut Request)| {
        let mut changed = request();
        change(&mut changed);
        changed.verify(&[7; 32]).unwrap_err()
    };
    let expected = RequestError::Possession(SignatureError::Classical);
    assert_eq!(refused(|request| request.kind = Kind::Operator(OperatorRole::Admin)), expected);
    assert_eq!(refused(|request| request.mesh.push('x')), expected);
    assert_eq!(refused(|request| request.name.push('x')), expected);
}

/// The keys of another put into one's own request: the signature is not by them.
#[test]
fn a_request_for_the_keys_of_another_is_refused() {
    let (own, other) = (request().to_bytes().unwrap(), new_keys().public().to_bytes());
    let ours = KEYS.public().to_bytes();
    let at = own.windows(ours.len()).position(|part| part == ours).unwrap();
    for (from, to) in [(0, ours.len()), (0, 70), (70, ours.len())] {
        let mut stolen = own.clone();
        stolen[at + from..at + to].copy_from_slice(&other[from..to]);
        let read = Request::from_bytes(&stolen).unwrap();
        let refused = read.verify(&[7; 32]).unwrap_err();
        assert!(matches!(refused, RequestError::Possession(_)), "{refused}");
    }
}

#[test]
fn a_request_is_bounded() {
    let huge = vec![0; REQUEST_MAX + 1];
    assert!(matches!(Request::from_bytes(&huge), Err(RequestError::Encoding { .. })));
    let trailing = [request().to_bytes().unwrap(), vec![0]].concat();
    assert!(matches!(Request::from_bytes(&trailing), Err(RequestError::Encoding { .. })));
    let long = Request::new(&KEYS, Kind::Node, &id(), &[0; CONTEXT_MAX + 1]).unwrap();
    let refused = Request::from_bytes(&long.to_bytes().unwrap()).unwrap_err();
    assert!(matches!(refused, RequestError::Encoding { .. }), "{refused}");
}

#[test]
fn a_token_is_one_line_that_can_be_read_back() {
    let token = token();
    let text = token.to_text().unwrap();
    assert!(text.len() < TOKEN_MAX && text.starts_with("stoq1-"), "{}", *text);
    assert!(!text.contains(char::is_whitespace));
    let read = Token::from_text(&format!("  {}\n", *text)).unwrap();
    assert_eq!(read, token);
    assert_eq!(read.hash().unwrap(), token.hash().unwrap());
    assert_ne!(read.hash().unwrap(), self::token().hash().unwrap());
    assert_eq!(format!("{token:?}"), "Token(for node edge-b of lab-0123456789abcdef)");
}

#[test]
fn a_proof_is_of_one_enrolment_by_one_token() {
    let (token, endpoints) = (token(), ["192.0.2.1:9292".parse().unwrap()]);
    let enrolment = Enrolment { request: &[1; 99], endpoints: &endpoints, at_s: 1_795_327_100 };
    let proof = token.prove(&enrolment).unwrap();
    assert_eq!(enrolment.verify(&proof), token.hash().map_err(|_| ProofError::Signature));
    for other in [
        Enrolment { request: &[2; 99], ..enrolment },
        Enrolment { endpoints: &[], ..enrolment },
        Enrolment { at_s: enrolment.at_s + 1, ..enrolment },
    ] {
        assert_eq!(other.verify(&proof), Err(ProofError::Signature));
    }
    for at in 0..PROOF_BYTES {
        let mut changed = proof.clone();
        changed[at] ^= 1;
        assert_eq!(enrolment.verify(&changed), Err(ProofError::Signature), "byte {at}");
    }
    for got in [0, 31, 32, PROOF_BYTES - 1, PROOF_BYTES + 1] {
        let other = proof.iter().copied().cycle().take(got).collect::<Vec<_>>();
        assert_eq!(enrolment.verify(&other), Err(ProofError::Length { got }));
    }
    // Another token proves the same enrolment, but has another hash.
    let foreign = enrolment.verify(&self::token().prove(&enrolment).unwrap()).unwrap();
    assert_ne!(foreign, token.hash().unwrap());
}

#[test]
fn a_damaged_token_says_what_is_wrong() {
    let text = token().to_text().unwrap();
    assert_eq!(Token::from_text("hello"), Err(TokenError::Prefix));
    let damaged = |text: &str| match Token::from_text(text) {
        Err(TokenError::Damaged { got }) => got,
        other => panic!("{other:?}"),
    };
    assert_eq!(damaged(&format!("{}AAAA", *text)), "another checksum");
    assert_eq!(damaged(&format!("{}!", *text)), "missing or other characters");
    for cut in 1..8 {
        damaged(&text[..text.len() - cut]);
    }
    assert_eq!(damaged("stoq1-AAAA"), "too few characters");
    assert_eq!(damaged(&format!("stoq1-{}", "A".repeat(TOKEN_MAX))), "more than 4096 characters");
}

#[test]
fn the_fields_of_a_token_are_checked_when_it_is_made() {
    let make = |kind, addresses: &[&str]| {
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        Token::new(&id(), kind, addresses, [1; 32], 1)
    };
    make(Kind::Operator(OperatorRole::Viewer), &["192.0.2.1:1"]).unwrap();
    assert!(make(Kind::Issuer, &["192.0.2.1:1"]).is_err());
    assert!(make(Kind::Node, &[]).is_err());
    assert!(make(Kind::Node, &["a:1"; 9]).is_err());
    for bad in ["host", "host:", "host:0", ":1", "host:65536", "2001:db8::1:9292", "a b:1", "a/b:1"]
    {
        assert!(make(Kind::Node, &[bad]).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn garbage_is_refused_without_a_panic(bytes: Vec<u8>, text in "(stoq1-)?[A-Za-z0-9_-]{0,80}") {
        let request = Request::from_bytes(&bytes).is_ok_and(|read| read.verify(&[7; 32]).is_ok());
        prop_assert!(!request);
        prop_assert!(Token::from_text(&text).is_err());
    }

    #[test]
    fn a_changed_character_is_found(place: prop::sample::Index, to in "[A-Za-z0-9_-]") {
        static TEXT: LazyLock<String> = LazyLock::new(|| token().to_text().unwrap().to_string());
        let at = place.index(TEXT.len());
        let mut changed = TEXT.clone();
        changed.replace_range(at..=at, &to);
        prop_assert!(changed == *TEXT || Token::from_text(&changed).is_err());
    }
}
