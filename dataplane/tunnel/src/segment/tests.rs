//! Pieces against what the kernel would have made of the same super-packet.

use super::*;
use crate::packet::{parse, protocol};
use crate::sample::{ACK, CWR, FIN, PSH, Sample, bytes, sums_are_right};

fn cut(header: VnetHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, SegmentError> {
    let view = parse(packet).unwrap();
    let plan = Plan::new(header, packet, &view)?;
    let mut pieces = Vec::new();
    plan.emit(|piece| pieces.push(piece.as_slice().to_vec()));
    assert_eq!(pieces.len(), plan.count());
    assert_eq!(pieces.iter().map(Vec::len).max(), Some(plan.longest()));
    Ok(pieces)
}

#[test]
fn tcp_pieces_are_the_packets_that_the_sender_would_have_sent() {
    for ipv6 in [false, true] {
        let flags = ACK | CWR | PSH | FIN;
        let whole = Sample { flags, identification: 0xffff, ..Sample::tcp(ipv6, &bytes(2_500)) };
        let (header, packet) = whole.build_partial(Some(1_000));
        let expected = [(0, ACK | CWR), (1_000, ACK), (2_000, ACK | PSH | FIN)];
        let expected = expected.iter().enumerate().map(|(index, &(start, flags))| {
            let payload = whole.payload[start..2_500.min(start + 1_000)].to_vec();
            let identification = 0xffff_u16.wrapping_add(index as u16);
            let sequence = whole.sequence + start as u32;
            Sample { payload, flags, sequence, identification, ..whole.clone() }.build()
        });
        assert_eq!(cut(header, &packet).unwrap(), expected.collect::<Vec<_>>());
    }
}

#[test]
fn udp_pieces_are_the_packets_that_the_sender_would_have_sent() {
    for (ipv6, extension) in
        [(false, vec![]), (true, vec![]), (true, vec![17, 0, 1, 4, 0, 0, 0, 0])]
    {
        let whole = Sample { extension, ..Sample::udp(ipv6, &bytes(999)) };
        let (header, packet) = whole.build_partial(Some(500));
        let expected = [0, 500].iter().enumerate().map(|(index, &start)| {
            let payload = whole.payload[start..999.min(start + 500)].to_vec();
            let identification = 7 + index as u16;
            Sample { payload, identification, ..whole.clone() }.build()
        });
        assert_eq!(cut(header, &packet).unwrap(), expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_sequence_number_wraps() {
    let whole = Sample { sequence: u32::MAX - 10, ..Sample::tcp(false, &bytes(200)) };
    let (header, packet) = whole.build_partial(Some(100));
    let pieces = cut(header, &packet).unwrap();
    assert_eq!(pieces[1][24..28], 89u32.to_be_bytes());
    assert!(pieces.iter().all(|piece| sums_are_right(piece)));
}

#[test]
fn a_partial_checksum_is_completed() {
    for sample in [Sample::tcp(true, &bytes(77)), Sample::udp(false, &bytes(78))] {
        let (header, packet) = sample.build_partial(None);
        assert_eq!(cut(header, &packet).unwrap(), [sample.build()]);
    }
}

#[test]
fn a_complete_packet_is_left_alone() {
    let mut packet = Sample::tcp(false, &bytes(77)).build();
    packet[70] ^= 1;
    let pieces = cut(VnetHeader::default(), &packet).unwrap();
    assert_eq!(pieces, [packet]);
}

#[test]
fn a_partial_checksum_of_a_packet_inside_is_completed() {
    let inside = Sample::tcp(false, &bytes(50));
    let (header, unfinished) = inside.build_partial(None);
    let outside = Sample::udp(true, &[[0; 8].as_slice(), &unfinished].concat());
    let start = 40 + 8 + 8 + header.partial.unwrap().start;
    let partial = |start, offset| Some(Partial { start, offset });
    let header = VnetHeader { partial: partial(start, 16), gso: None };
    let pieces = cut(header, &outside.build()).unwrap();
    assert_eq!(pieces[0][56..], inside.build());
    let wrong = SegmentError::Checksum { expected: 46, got: 47 };
    let header = VnetHeader { partial: partial(47, 0), gso: None };
    assert_eq!(cut(header, &outside.build()), Err(wrong));
}

/// The payload that makes the checksum of a UDP packet zero.
fn payload_of_zero() -> Vec<u8> {
    let packet = Sample::udp(false, &[0, 0]).build();
    packet[26..28].to_vec()
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    let whole = Sample::udp(false, &payload_of_zero());
    let (header, packet) = whole.build_partial(None);
    assert_eq!(cut(header, &packet).unwrap()[0][26..28], [0xff, 0xff]);
    let twice = Sample::udp(false, &[payload_of_zero(), payload_of_zero()].concat());
    let (header, packet) = twice.build_partial(Some(2));
    for piece in cut(header, &packet).unwrap() {
        assert_eq!(piece[26..28], [0xff, 0xff]);
    }
}

#[test]
fn a_header_that_does_not_fit_the_packet_is_refused() {
    let (header, packet) = Sample::tcp(false, &bytes(100)).build_partial(Some(50));
    let gso = header.gso.unwrap();
    let with = |kind| VnetHeader { gso: Some(Super { kind, ..gso }), ..header };
    for kind in [Gso::Tcp6, Gso::Udp] {
        assert_eq!(cut(with(kind), &packet), Err(SegmentError::Kind { expected: kind }));
    }
    let partial = Some(Partial { start: 20, offset: 6 });
    let wrong = SegmentError::Checksum { expected: 36, got: 26 };
    assert_eq!(cut(VnetHeader { partial, ..header }, &packet), Err(wrong));
    for (start, offset) in [(0, 36), (20, 0), (21, 15), (40, 16)] {
        let header = VnetHeader { partial: Some(Partial { start, offset }), gso: None };
        let got = usize::from(start + offset);
        let wrong = SegmentError::Checksum { expected: 36, got };
        assert_eq!(cut(header, &packet), Err(wrong));
    }
    let fragment = Sample { fragment: 0x2000, ..Sample::tcp(false, &bytes(100)) };
    let (header, packet) = fragment.build_partial(Some(50));
    assert_eq!(cut(header, &packet), Err(SegmentError::Kind { expected: Gso::Tcp4 }));
}

#[test]
fn a_packet_without_payload_or_with_a_broken_transport_header_is_refused() {
    let (header, packet) = Sample::tcp(false, b"").build_partial(Some(50));
    let truncated = SegmentError::Truncated { len: packet.len() };
    assert_eq!(cut(header, &packet), Err(truncated));
    let (header, mut packet) = Sample::tcp(false, &bytes(20)).build_partial(Some(50));
    packet[32] = 0xf0;
    assert_eq!(cut(header, &packet), Err(SegmentError::Truncated { len: packet.len() }));
    packet[32] = 0x40;
    assert_eq!(cut(header, &packet), Err(SegmentError::Truncated { len: packet.len() }));
}

#[test]
fn the_number_of_pieces_and_the_headers_are_bounded() {
    let (header, packet) = Sample::udp(false, &bytes(SEGMENTS_MAX + 1)).build_partial(Some(1));
    assert_eq!(cut(header, &packet), Err(SegmentError::Segments(SEGMENTS_MAX + 1)));
    let mut extension = vec![protocol::TCP, 31];
    extension.resize(256, 0);
    let long = Sample { extension, ..Sample::tcp(true, &bytes(100)) };
    let (header, packet) = long.build_partial(Some(50));
    assert_eq!(cut(header, &packet), Err(SegmentError::Headers(328)));
}
