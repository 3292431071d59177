//! Tests of connection IDs.

use super::*;
use proptest::prelude::*;

fn keys() -> CidKeys {
    CidKeys::new(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

#[test]
fn an_issued_id_has_the_documented_layout() {
    let cid = keys().issue(3, 0x0102, 0xa0b0_c0d0);
    assert_eq!(cid.as_bytes()[..8], [0x10, 3, 1, 2, 0xa0, 0xb0, 0xc0, 0xd0]);
    // Computed by an implementation of SipHash-2-4 that is not ours, under the key 00..0f; the
    // test vector of docs/protocol.md.
    assert_eq!(format!("{cid:?}"), "10030102a0b0c0d09789199f");
}

#[test]
fn an_issued_id_is_not_taken_for_a_made_up_one() {
    for byte in 0..=u8::MAX {
        assert!(is_made_up(&initial_dcid(byte, [byte; CID_LEN])));
        assert!(!is_made_up(keys().issue(byte, byte.into(), byte.into()).as_bytes()));
    }
}

#[test]
fn the_run_that_issued_it_is_told() {
    let keys = keys();
    let cid = keys.issue(7, 9, 1);
    assert_eq!(keys.check(cid.as_ref(), 9), Ok(CidInfo::Current { worker: 7 }));
    assert_eq!(
        keys.check(cid.as_ref(), 10),
        Ok(CidInfo::OldGeneration { worker: 7, generation: 9 })
    );
}

#[test]
fn an_id_survives_one_rotation_and_not_two() {
    let mut keys = keys();
    let cid = keys.issue(0, 1, 5);
    let token = keys.reset_token(&cid);
    keys.rotate([7; 32]);
    assert_eq!(keys.parse(cid.as_ref()), Ok(cid));
    assert_eq!(keys.reset_token(&cid), token);
    keys.rotate([8; 32]);
    assert_eq!(keys.parse(cid.as_ref()), Err(CidError::KeyRetired { number: 0 }));
    assert_eq!(keys.reset_token(&cid), None);
}

#[test]
fn key_numbers_wrap() {
    let mut keys = keys();
    for round in 0..40_u8 {
        let before = keys.issue(0, 1, 1);
        keys.rotate([round; 32]);
        assert_eq!(keys.parse(before.as_ref()), Ok(before));
        assert_ne!(keys.issue(0, 1, 1), before);
    }
}

#[test]
fn stored_keys_are_read_back_and_others_refused() {
    let mut keys = keys();
    assert_eq!(CidKeys::from_bytes(&keys.to_bytes()), Ok(keys.clone()));
    keys.rotate([9; 32]);
    let stored = keys.to_bytes();
    assert_eq!(CidKeys::from_bytes(&stored), Ok(keys));
    assert_eq!(CidKeys::from_bytes(&stored[1..]), Err(CidKeysError::Length { got: 67 }));
    for (at, value) in [(0, 2), (1, 2), (2, 16), (2, 0), (2 + KEY_LEN, 1)] {
        let mut wrong = stored;
        wrong[at] = value;
        assert_eq!(CidKeys::from_bytes(&wrong), Err(CidKeysError::Form), "byte {at}");
    }
}

#[test]
fn secrets_are_not_shown() {
    assert_eq!(format!("{:?}", keys()), "CidKeys { current: 0, previous: None }");
}

#[test]
fn reset_tokens_differ_by_id_and_by_node() {
    let (one, other) = (keys(), CidKeys::new([1; 32]));
    let (a, b) = (one.issue(0, 1, 1), one.issue(0, 1, 2));
    assert_ne!(one.reset_token(&a), one.reset_token(&b));
    assert_ne!(one.reset_token(&a), other.reset_token(&a));
}

#[test]
fn a_diallers_id_steers_and_is_never_taken_for_an_issued_one() {
    let dcid = initial_dcid(5, [0xff; CID_LEN]);
    assert_eq!(dcid[..3], [0x0f, 5, 0xff]);
    assert_eq!(keys().parse(&dcid), Err(CidError::Malformed { len: CID_LEN }));
}

#[test]
fn the_id_is_found_in_both_header_forms() {
    let mut short = vec![0x40];
    short.extend_from_slice(b"twelve bytesrest");
    assert_eq!(route(&short), Some(&b"twelve bytes"[..]));
    assert_eq!(route(&short[..12]), None);

    let long = |len: u8, rest: &[u8]| [&[0xc0, 0, 0, 0, 1, len], rest].concat();
    assert_eq!(route(&long(3, b"abcd")), Some(&b"abc"[..]));
    assert_eq!(route(&long(0, b"")), Some(&b""[..]));
    assert_eq!(route(&long(255, &[7; 255])), Some(&[7; 255][..]));
    assert_eq!(route(&long(4, b"abc")), None);
    assert_eq!(route(&[0xc0, 0, 0, 0, 1]), None);
    assert_eq!(route(&[]), None);
}

proptest! {
    #[test]
    fn one_flipped_bit_is_noticed(worker: u8, generation: u16, nonce: u32, bit in 0..96_usize) {
        let keys = keys();
        let mut bytes = *keys.issue(worker, generation, nonce).as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(keys.parse(&bytes).is_err());
    }

    #[test]
    fn another_nodes_ids_are_forged(secret: [u8; 32], nonce: u32) {
        let other = CidKeys::new(secret);
        prop_assume!(other != keys());
        let cid = other.issue(0, 0, nonce);
        prop_assert_eq!(keys().parse(cid.as_ref()), Err(CidError::Forged));
    }
}
