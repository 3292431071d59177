//! The table: every verdict, every form of packet, every rule on and off.

use std::net::IpAddr;

use stoq::cid::RESET_LEN;
use stoq_xdp::{Rules, Verdict};

use crate::case::{Case, Expected, PORT, V4, V6, load, run, settings};
use crate::frame::Packet;
use crate::payload::{
    HANDSHAKE, Host, INITIAL, RETRY, ZERO_RTT, long, made_up_cid, short, versioned,
};

use Expected::{Delivered, Dropped, Foreign, KernelJudges};

const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v4(payload: Vec<u8>) -> Packet {
    Packet::new(ip("203.0.113.5"), ip(V4), PORT, payload)
}

fn v6(payload: Vec<u8>) -> Packet {
    Packet::new(ip("2001:db8:5::5"), ip(V6), PORT, payload)
}

fn established() -> Vec<u8> {
    short(Host::new().cid(), 100)
}

fn case(name: &str, frame: Vec<u8>, expected: Expected) -> Case {
    Case { name: name.to_owned(), rules: Rules::default(), frame, expected }
}

/// A packet that a rule drops: with that rule, and, by what becomes of it then, without.
fn dropped(
    name: &str,
    frame: Vec<u8>,
    verdict: Verdict,
    rule_off: fn(&mut Rules),
    then: Expected,
) -> [Case; 2] {
    let mut without = Rules::default();
    rule_off(&mut without);
    let off =
        Case { name: format!("{name}, rule off"), rules: without, ..case("", frame.clone(), then) };
    [case(name, frame, Dropped(verdict)), off]
}

/// What is none of STOQ's.
fn foreign() -> Vec<Case> {
    let mut arp = vec![0xff; 12];
    arp.extend_from_slice(&[0x08, 0x06]);
    arp.resize(60, 1);
    let icmp6 = |p: &mut Packet| p.protocol = 58;
    let tcp = |p: &mut Packet| p.protocol = 6;
    let many = |p: &mut Packet| p.extensions = vec![(60, 0); 5];
    let routing = |p: &mut Packet| (p.extensions, p.segments_left) = (vec![(43, 2)], 1);
    let frames = [
        ("ARP", arp.clone()),
        ("a frame of 14 bytes", arp[..14].to_vec()),
        ("neighbour discovery", v6(vec![135; 32]).with(icmp6).frame()),
        ("TCP in IPv4, to the same port", v4(established()).with(tcp).frame()),
        ("TCP in IPv6, to the same port", v6(established()).with(tcp).frame()),
        ("another port in IPv4", v4(established()).with(|p| p.port = 53).frame()),
        ("another port in IPv6", v6(established()).with(|p| p.port = 9293).frame()),
        ("a port that shares a word of the map", v4(established()).with(|p| p.port = 9291).frame()),
        (
            "another IPv4 destination",
            v4(established()).with(|p| p.destination = ip("192.0.2.2")).frame(),
        ),
        (
            "another IPv6 destination",
            v6(established()).with(|p| p.destination = ip("2001:db8::2")).frame(),
        ),
        ("the first fragment in IPv4", v4(established()).with(|p| p.fragment = 0x2000).frame()),
        ("a later fragment in IPv4", v4(established()).with(|p| p.fragment = 0x00b9).frame()),
        ("a fragment in IPv6", v6(established()).with(|p| p.extensions = vec![(44, 0)]).frame()),
        ("an IPv6 packet on its way by a routing header", v6(established()).with(routing).frame()),
        ("more extension headers than are looked through", v6(established()).with(many).frame()),
        ("three VLAN tags", v4(established()).with(|p| p.tags = vec![QINQ, VLAN, VLAN]).frame()),
        ("an IPv4 header of version 5", v4(established()).with(|p| p.version = Some(5)).frame()),
        ("an IPv6 header of version 4", v6(established()).with(|p| p.version = Some(4)).frame()),
        ("an IPv4 header that is cut off", v4(established()).with(|p| p.cut_at = 33).frame()),
        ("an IPv6 header that is cut off", v6(established()).with(|p| p.cut_at = 53).frame()),
        ("a UDP header that is cut off", v4(established()).with(|p| p.cut_at = 41).frame()),
    ];
    frames.into_iter().map(|(name, frame)| case(name, frame, Foreign)).collect()
}

/// What is STOQ's, in every wrapping that is looked through.
fn delivered() -> Vec<Case> {
    let chain = |p: &mut Packet| p.extensions = vec![(0, 0), (60, 1), (43, 3), (60, 255)];
    let host = Host::new();
    let unpadded = |p: &mut Packet| p.padding = 100;
    let frames = [
        ("IPv4", v4(established()).frame()),
        ("IPv6", v6(established()).frame()),
        ("IPv4 in a VLAN", v4(established()).with(|p| p.tags = vec![VLAN]).frame()),
        ("IPv6 in a VLAN", v6(established()).with(|p| p.tags = vec![VLAN]).frame()),
        ("IPv4 in QinQ", v4(established()).with(|p| p.tags = vec![QINQ, VLAN]).frame()),
        ("IPv6 in QinQ", v6(established()).with(|p| p.tags = vec![QINQ, VLAN]).frame()),
        ("IPv4 with one word of options", v4(established()).with(|p| p.options = 1).frame()),
        ("IPv4 with ten words of options", v4(established()).with(|p| p.options = 10).frame()),
        ("IPv6 with four extension headers", v6(established()).with(chain).frame()),
        ("a padded frame", v4(established()).with(unpadded).frame()),
        (
            "a UDP datagram shorter than its packet",
            v6(established()).with(|p| p.udp_len = Some(108 - 9)).frame(),
        ),
        ("another port of STOQ", v4(established()).with(|p| p.port = 40_001).frame()),
        ("the last port there is", v6(established()).with(|p| p.port = 65_535).frame()),
        ("a frame of several buffers in IPv4", v4(short(host.cid(), 8_900)).frame()),
        ("a frame of several buffers in IPv6", v6(short(host.cid(), 8_900)).frame()),
        ("the shortest packet there is", v4(short(host.cid(), 21)).frame()),
        ("an ID of the previous key", v4(short(host.cid_of_previous_key(), 100)).frame()),
        ("a client's first packet", v4(long(INITIAL, &made_up_cid(), 1200)).frame()),
        ("an answer to our first packet", v6(long(INITIAL, &host.cid(), 1200)).frame()),
        ("a short answer with an ID of ours", v6(long(INITIAL, &host.cid(), 100)).frame()),
        ("a handshake packet", v4(long(HANDSHAKE, &host.cid(), 1200)).frame()),
        ("a Retry", v4(long(RETRY, &host.cid(), 120)).frame()),
        ("an unknown version", v4(versioned(0x80, 0x6b33_43cf, &[1; 8], &[2; 8], 1200)).frame()),
        (
            "an unknown version with long IDs",
            v6(versioned(0xff, 0xff00_001d, &[1; 255], &[2; 255], 1200)).frame(),
        ),
        ("Version Negotiation", v4(versioned(0x80, 0, &host.cid(), &[2; 8], 40)).frame()),
        ("an ID of an earlier run", v6(short(host.cid_of_earlier_run(), 100)).frame()),
        (
            "a handshake packet for an earlier run",
            v6(long(HANDSHAKE, &host.cid_of_earlier_run(), 100)).frame(),
        ),
        ("what may be a stateless reset", v4(short([0x77; 12], RESET_LEN)).frame()),
    ];
    frames.into_iter().map(|(name, frame)| case(name, frame, Delivered)).collect()
}

/// The deny list.
fn denied() -> Vec<Case> {
    let deny_off = |rules: &mut Rules| rules.deny = false;
    let from = |packet: Packet, source: &str| packet.with(|p| p.source = ip(source)).frame();
    let (v4, v6) = (v4(established()), v6(established()));
    let foreign = v4.clone().with(|p| (p.port, p.source) = (22, ip("198.51.100.7")));
    let mut cases = Vec::new();
    for (name, frame) in [
        ("a refused IPv4 source", from(v4.clone(), "198.51.100.255")),
        ("a refused IPv6 source", from(v6.clone(), "2001:db8:bad:ffff::1")),
    ] {
        cases.extend(dropped(name, frame, Verdict::Denied, deny_off, Delivered));
    }
    cases.push(case("an IPv4 source beside the list", from(v4, "198.51.101.0"), Delivered));
    cases.push(case("an IPv6 source beside the list", from(v6, "2001:db8:bae::1"), Delivered));
    cases.push(case("a refused source, to another port", foreign.frame(), Foreign));
    cases
}

/// Impossible headers of IP and UDP.
fn bad_headers() -> Vec<Case> {
    let off = |rules: &mut Rules| rules.malformed = false;
    let (v4, v6) = (v4(established()), v6(established()));
    let frames = [
        ("a wrong IPv4 checksum", v4.clone().with(|p| p.checksum_error = 1).frame()),
        (
            "a wrong IPv4 checksum with options",
            v4.clone().with(|p| (p.checksum_error, p.options) = (0x100, 3)).frame(),
        ),
        ("a UDP length beyond IPv4", v4.clone().with(|p| p.udp_len = Some(109)).frame()),
        ("a UDP length beyond IPv6", v6.clone().with(|p| p.udp_len = Some(109)).frame()),
        (
            "a UDP length beyond IPv4, within the padding",
            v4.clone().with(|p| (p.udp_len, p.padding) = (Some(110), 50)).frame(),
        ),
        ("an empty UDP datagram", v4.clone().with(|p| p.udp_len = Some(8)).frame()),
        ("a UDP length below its header", v6.clone().with(|p| p.udp_len = Some(7)).frame()),
        ("an IPv4 packet that is cut off", v4.clone().with(|p| p.cut_at = 100).frame()),
        ("an IPv6 packet that is cut off", v6.clone().with(|p| p.cut_at = 100).frame()),
        ("an IPv4 length below the UDP header", v4.with(|p| p.ip_len = Some(24)).frame()),
        ("an IPv6 payload of no length", v6.with(|p| p.ip_len = Some(0)).frame()),
    ];
    let cases = frames.into_iter();
    cases
        .flat_map(|(name, frame)| dropped(name, frame, Verdict::BadHeader, off, KernelJudges))
        .collect()
}

/// Payloads that cannot be QUIC.
fn not_quic() -> Vec<Case> {
    let off = |rules: &mut Rules| (rules.malformed, rules.forged) = (false, None);
    let host = Host::new();
    let no_fixed_bit = |mut payload: Vec<u8>| {
        payload[0] &= !0x40;
        payload
    };
    let payloads = [
        ("a short header of 20 bytes", short(host.cid(), 20)),
        ("a single byte", vec![0x40]),
        ("a short header without the fixed bit", no_fixed_bit(established())),
        ("a long header without the fixed bit", no_fixed_bit(long(HANDSHAKE, &host.cid(), 100))),
        ("a long header that ends in its version", vec![0xc0, 0, 0]),
        ("a long header that ends in its first ID", long(HANDSHAKE, &host.cid(), 12)),
        ("a long header that ends in its second ID", long(HANDSHAKE, &host.cid(), 26)),
        ("a long header with nothing behind its IDs", long(HANDSHAKE, &host.cid(), 42)),
        ("a first ID of more than 20 bytes", versioned(0xe0, 1, &[1; 21], &[2; 8], 1200)),
        ("a second ID of more than 20 bytes", versioned(0xe0, 1, &host.cid(), &[2; 21], 1200)),
        ("an unknown version that is cut off", versioned(0x80, 7, &[1; 255], &[2; 8], 200)),
    ];
    let mut cases = Vec::new();
    for (name, payload) in payloads {
        // Behind the payload the frame goes on: padding is not to be taken for it.
        let frame = v4(payload.clone()).with(|p| p.padding = 600).frame();
        cases.extend(dropped(name, frame, Verdict::NotQuic, off, Delivered));
        let frame = v6(payload).frame();
        cases.extend(dropped(&format!("{name}, IPv6"), frame, Verdict::NotQuic, off, Delivered));
    }
    let small = v4(long(INITIAL, &made_up_cid(), 1199)).frame();
    let off = |rules: &mut Rules| rules.malformed = false;
    let name = "a client's first packet in 1199 bytes";
    cases.extend(dropped(name, small, Verdict::SmallInitial, off, Delivered));
    cases
}

/// Connection IDs that this host did not issue.
fn forged() -> Vec<Case> {
    let off = |rules: &mut Rules| rules.forged = None;
    let host = Host::new();
    let payloads = [
        ("a wrong tag", short(host.forged_cid(), 100)),
        ("a random ID", short([0x5c; 12], 1200)),
        ("a random ID, a byte shorter than a reset", short([0x5c; 12], RESET_LEN - 1)),
        ("a random ID, a byte longer than a reset", short([0x5c; 12], RESET_LEN + 1)),
        ("an ID of a retired key", short(host.cid_of_retired_key(), 100)),
        ("an ID of another format", short(host.cid_of_other_format(), 100)),
        ("a made-up ID in a short header", short(made_up_cid(), 100)),
        ("a handshake packet with a wrong tag", long(HANDSHAKE, &host.forged_cid(), 1200)),
        ("a handshake packet with a made-up ID", long(HANDSHAKE, &made_up_cid(), 1200)),
        ("a handshake packet with an ID of 8 bytes", long(HANDSHAKE, &host.cid()[..8], 1200)),
        ("a Retry with a wrong tag", long(RETRY, &host.forged_cid(), 120)),
        ("0-RTT", long(ZERO_RTT, &made_up_cid(), 1200)),
        ("an Initial packet with a wrong tag", long(INITIAL, &host.forged_cid(), 1200)),
        ("an Initial packet with an ID of 20 bytes", long(INITIAL, &[3; 20], 1200)),
        ("an Initial packet without an ID", long(INITIAL, &[], 1200)),
    ];
    let mut cases = Vec::new();
    for (name, payload) in payloads {
        cases.extend(dropped(name, v4(payload.clone()).frame(), Verdict::Forged, off, Delivered));
        let name = format!("{name}, IPv6");
        cases.extend(dropped(&name, v6(payload).frame(), Verdict::Forged, off, Delivered));
    }
    cases
}

#[test]
fn every_packet_has_its_verdict() {
    let Some(mut loaded) = load(&settings(Rules::default())) else { return };
    let parts = [foreign(), delivered(), denied(), bad_headers(), not_quic(), forged()];
    let cases: Vec<Case> = parts.into_iter().flatten().collect();
    let results: Vec<_> = cases.iter().map(|case| run(&mut loaded, case)).collect();
    let wrong: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} are wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    println!("{} cases", cases.len());
}
