//! Tests of headers: what is written is read again, and by other eyes too.

use super::*;
use proptest::prelude::*;

fn link(vlan: Option<u16>) -> Link {
    Link { source: [2, 0, 0, 0, 0, 1], destination: [2, 0, 0, 0, 0, 2], vlan }
}

fn written(vlan: Option<u16>, from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let template = Template::new(&link(vlan), from.parse().unwrap(), to.parse().unwrap(), 1500);
    let mut packet = vec![0xaa; template.len()];
    packet.extend_from_slice(payload);
    template.write(&mut packet);
    packet
}

#[test]
fn what_is_written_is_read() {
    for (from, to) in [("10.0.0.1:9292", "10.0.0.2:5000"), ("[fd00::1]:1", "[fd00::2]:65535")] {
        for vlan in [None, Some(7)] {
            let frame = written(vlan, from, to, b"datagram");
            let read = parse(&frame).unwrap();
            assert_eq!((read.from.to_string().as_str(), read.to.to_string().as_str()), (from, to));
            assert_eq!(&frame[read.payload], b"datagram");
        }
    }
}

#[test]
fn checksums_come_out_right_when_summed_anew() {
    let frame = written(None, "10.1.2.3:9292", "10.9.8.7:1", b"odd");
    assert_eq!(Sum::default().bytes(&frame[14..34]).finish(), 0);
    let sum = Sum::default().pseudo_header(
        "10.1.2.3".parse().unwrap(),
        "10.9.8.7".parse().unwrap(),
        17,
        11,
    );
    assert_eq!(sum.bytes(&frame[34..]).finish(), 0);
    let frame = written(Some(3), "[fd00::1]:9292", "[fd00::2]:1", &[7; 1000]);
    let sum = Sum::default().pseudo_header(
        "fd00::1".parse().unwrap(),
        "fd00::2".parse().unwrap(),
        17,
        1008,
    );
    assert_eq!(sum.bytes(&frame[18 + 40..]).finish(), 0);
}

#[test]
fn the_largest_datagram_follows_from_the_mtu() {
    let at = |from: &str, to: &str| {
        Template::new(&link(Some(1)), from.parse().unwrap(), to.parse().unwrap(), 1500).payload_max
    };
    assert_eq!(at("10.0.0.1:1", "10.0.0.2:1"), 1472);
    assert_eq!(at("[fd00::1]:1", "[fd00::2]:1"), 1452);
}

#[test]
fn options_and_extension_headers_are_passed_over() {
    let mut frame = written(None, "10.0.0.1:1", "10.0.0.2:2", b"x");
    frame[14] = 0x46;
    frame[17] += 4;
    frame.splice(34..34, [1, 1, 1, 0]);
    assert_eq!(frame[parse(&frame).unwrap().payload], *b"x");
    let mut frame = written(None, "[fd00::1]:1", "[fd00::2]:2", b"x");
    frame[20] = 60;
    frame[19] += 8;
    frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(frame[parse(&frame).unwrap().payload], *b"x");
}

#[test]
fn padding_behind_the_packet_is_left_out() {
    let mut frame = written(None, "10.0.0.1:1", "10.0.0.2:2", b"x");
    frame.resize(60, 0xee);
    assert_eq!(frame[parse(&frame).unwrap().payload], *b"x");
}

#[test]
fn fragments_other_protocols_and_lies_are_refused() {
    let good = written(None, "10.0.0.1:1", "10.0.0.2:2", b"datagram");
    for (at, value) in
        [(20, 0x20), (21, 1), (23, 6), (14, 0x41), (14, 0x65), (39, 7), (39, 99), (12, 9)]
    {
        let mut frame = good.clone();
        frame[at] = value;
        assert_eq!(parse(&frame), None, "byte {at} = {value}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_fall_over(mut bytes in proptest::collection::vec(any::<u8>(), 0..128), kind in 0..4usize) {
        if bytes.len() > 14 {
            let kind = [TYPE_IPV4, TYPE_IPV6, TYPE_VLAN, TYPE_QINQ][kind];
            bytes[12..14].copy_from_slice(&kind.to_be_bytes());
        }
        if let Some(read) = parse(&bytes) {
            prop_assert!(read.payload.end <= bytes.len());
        }
    }
}
