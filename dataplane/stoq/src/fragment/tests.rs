//! Tests of cutting packets and putting them together.

use std::time::{Duration, Instant};

use super::*;
use crate::context::{Payload, parse};
use proptest::prelude::*;

/// What a DATAGRAM carries on a path of 1200 bytes: short header, packet number, tag and frame
/// header taken off.
const SMALLEST_PATH: usize = 1200 - 13 - 4 - 16 - 3;

fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn cut(len: usize, datagram_max: usize) -> Vec<PacketBuf> {
    let packet = PacketBuf::from_slice(&contents(len));
    Fragmenter::default().split(packet, datagram_max).unwrap().collect()
}

fn read(datagram: PacketBuf) -> (FragmentHeader, PacketBuf) {
    let Ok(Payload::Fragment(header, body)) = parse(datagram) else { panic!("no fragment") };
    (header, body)
}

fn header(packet: u32, offset: u16, total: u16) -> FragmentHeader {
    FragmentHeader { packet, offset, total }
}

fn body(len: usize) -> PacketBuf {
    PacketBuf::from_slice(&contents(len))
}

#[test]
fn a_packet_of_1280_bytes_crosses_the_smallest_path_in_two() {
    let datagrams = cut(1280, SMALLEST_PATH);
    assert_eq!(datagrams.len(), 2);
    assert!(datagrams.iter().all(|d| d.len() <= SMALLEST_PATH));
    let mut reassembler = Reassembler::default();
    let now = Instant::now();
    let mut whole = None;
    for (header, body) in datagrams.into_iter().map(read) {
        assert!(whole.is_none());
        whole = reassembler.push(header, body, now).unwrap();
    }
    assert_eq!(whole.unwrap().as_slice(), contents(1280));
    assert_eq!(reassembler.poll_timeout(), None);
}

#[test]
fn a_fragment_has_the_documented_layout() {
    let mut fragmenter = Fragmenter { next: 0x0102_0304 };
    let packet = PacketBuf::from_slice(&contents(0x0500));
    let second = fragmenter.split(packet, 0x0400 + OVERHEAD).unwrap().nth(1).unwrap();
    assert_eq!(second.as_slice()[..OVERHEAD], [1, 1, 2, 3, 4, 0x04, 0x00, 0x05, 0x00]);
    assert_eq!(second.len(), OVERHEAD + 0x0100);
    assert_eq!(fragmenter.next, 0x0102_0305);
}

#[test]
fn what_cannot_be_cut_is_refused_and_takes_no_number() {
    let mut fragmenter = Fragmenter { next: u32::MAX };
    let mut refusal = |len, max| fragmenter.split(body(len), max).map(|_| ()).unwrap_err();
    assert_eq!(refusal(0, 1200), FragmentError::Total { got: 0 });
    assert_eq!(refusal(1501, 1200), FragmentError::Total { got: 1501 });
    for datagram_max in [0, OVERHEAD, OVERHEAD + 159] {
        assert_eq!(refusal(1280, datagram_max), FragmentError::PathTooSmall { datagram_max });
    }
    assert_eq!(fragmenter.split(body(1280), OVERHEAD + 160).unwrap().count(), MAX_FRAGMENTS);
    assert_eq!(fragmenter.next, 0);
}

#[test]
fn a_fragment_outside_its_packet_is_refused() {
    let mut reassembler = Reassembler::default();
    let mut refusal = |header, len| {
        let pushed = reassembler.push(header, body(len), Instant::now());
        pushed.map(|_| ()).unwrap_err()
    };
    assert_eq!(refusal(header(1, 0, 0), 1), FragmentError::Total { got: 0 });
    assert_eq!(refusal(header(1, 0, 1501), 1), FragmentError::Total { got: 1501 });
    for (offset, len) in [(0, 0), (1400, 101), (u16::MAX, 1)] {
        let expected = FragmentError::OutOfBounds { offset: usize::from(offset), len, total: 1500 };
        assert_eq!(refusal(header(1, offset, 1500), len), expected);
    }
    assert_eq!(reassembler.poll_timeout(), None);
}

#[test]
fn a_contradiction_takes_its_packet_with_it() {
    let now = Instant::now();
    for second in [header(1, 600, 1300), header(1, 0, 1400), header(1, 699, 1400)] {
        let mut reassembler = Reassembler::default();
        assert!(reassembler.push(header(1, 0, 1400), body(700), now).unwrap().is_none());
        let error = reassembler.push(second, body(600), now).unwrap_err();
        assert_eq!(error, FragmentError::Contradiction { packet: 1 });
        assert_eq!(reassembler.poll_timeout(), None);
    }
}

#[test]
fn a_packet_in_too_many_parts_is_dropped() {
    let mut reassembler = Reassembler::default();
    let now = Instant::now();
    for offset in 0..8 {
        assert!(reassembler.push(header(1, offset, 9), body(1), now).unwrap().is_none());
    }
    let error = reassembler.push(header(1, 8, 9), body(1), now).unwrap_err();
    assert_eq!(error, FragmentError::Contradiction { packet: 1 });
}

#[test]
fn an_incomplete_packet_is_given_up_in_time() {
    let mut reassembler = Reassembler::default();
    let now = Instant::now();
    reassembler.push(header(1, 0, 1280), body(640), now).unwrap();
    let due = reassembler.poll_timeout().unwrap();
    assert_eq!(due, now + REASSEMBLY_TIMEOUT);
    reassembler.handle_timeout(due - Duration::from_nanos(1));
    assert_eq!(reassembler.take_given_up(), 0);
    // The other half comes too late, and waits for a first half that never comes.
    assert!(reassembler.push(header(1, 640, 1280), body(640), due).unwrap().is_none());
    assert_eq!(reassembler.take_given_up(), 1);
    assert_eq!(reassembler.take_given_up(), 0);
}

#[test]
fn a_flood_of_halves_stays_within_its_bounds() {
    let mut reassembler = Reassembler::default();
    let now = Instant::now();
    for packet in 0..10_000 {
        reassembler.push(header(packet, 0, 1500), body(750), now).unwrap();
    }
    assert_eq!(reassembler.take_given_up(), 10_000 - MAX_INCOMPLETE as u64);
    let newest = reassembler.push(header(9_999, 750, 1500), body(750), now).unwrap();
    assert_eq!(newest.unwrap().len(), 1500);
}

proptest! {
    #[test]
    fn packets_come_back_in_whatever_order_their_fragments_arrive(
        lens in prop::collection::vec(1..=MAX_TOTAL_LEN, 1..MAX_INCOMPLETE),
        datagram_max in 197..1600_usize,
        seed: u64,
    ) {
        let mut fragmenter = Fragmenter::default();
        let mut datagrams = Vec::new();
        for &len in &lens {
            datagrams.extend(fragmenter.split(body(len), datagram_max).unwrap());
        }
        fastrand::Rng::with_seed(seed).shuffle(&mut datagrams);
        let mut reassembler = Reassembler::default();
        let now = Instant::now();
        let mut got = Vec::new();
        for (header, body) in datagrams.into_iter().map(read) {
            got.extend(reassembler.push(header, body, now).unwrap().map(|p| p.as_slice().to_vec()));
        }
        let mut expected: Vec<_> = lens.iter().map(|&len| contents(len)).collect();
        got.sort();
        expected.sort();
        prop_assert_eq!(got, expected);
    }
}
