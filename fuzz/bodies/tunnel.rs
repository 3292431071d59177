//! What the fuzz targets of the tunnel do with their input, and what must hold whatever it is.
//! Included by the fuzz targets and by the test that replays their corpora.
#![allow(dead_code, reason = "each fuzz target uses one of these")]

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use stoq_buffer::{Head, PacketBuf, Slice};
use stoq_checksum::Sum;
use stoq_telemetry::Drops;
use stoq_tunnel::assemble::{Assembler, LIFE};
use stoq_tunnel::coalesce::Coalescer;
use stoq_tunnel::device::{Offloads, Sink};
use stoq_tunnel::forward::Prefix;
use stoq_tunnel::icmp::Answerer;
use stoq_tunnel::packet::{FlowHasher, View, parse, protocol};
use stoq_tunnel::segment::Plan;
use stoq_tunnel::{mss, vnet::VnetHeader};

/// Packets of one input, so that an input has an end in time.
const PACKETS_MAX: usize = 200;

const FROM_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const FROM_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));

/// A read from the device: every piece of a super-packet is a packet, and no payload is lost.
pub fn device(data: &[u8]) {
    let Ok((header, packet)) = VnetHeader::parse(data) else { return };
    let again = [header.encode().as_slice(), packet].concat();
    assert_eq!(VnetHeader::parse(&again), Ok((header, packet)));
    let mut packet = packet.to_vec();
    mend_length(&mut packet);
    let Ok(view) = parse(&packet) else { return };
    let Ok(plan) = Plan::new(header, &packet, &view) else { return };
    let (mut count, mut payload) = (0, 0);
    plan.emit(|piece| {
        let own = parse(piece.as_slice()).expect("a piece is a packet");
        assert_eq!(
            (own.source, own.ports, own.transport),
            (view.source, view.ports, view.transport)
        );
        assert!(piece.len() <= plan.longest());
        payload += piece.len() - own.transport;
        count += 1;
    });
    assert_eq!(count, plan.count());
    assert!(payload >= packet.len() - view.transport);
}

/// Packets from a peer, each behind its length (2 bytes) and a byte of flags: bit 0 mends the
/// length field, bit 1 the transport checksum, bit 2 repeats the packet. What comes out, cut again,
/// is what went in.
pub fn link(data: &[u8]) {
    let packets = split(data);
    let (mut coalescer, drops) = (Coalescer::new(Offloads::ALL), Drops::default());
    let (mut sink, mut expected) = (Cut::default(), Vec::new());
    let now = Instant::now();
    let (mut answerer, hasher) = (Answerer::new(now), FlowHasher::new(&[1; 16]));
    for mut packet in packets {
        let Ok(view) = parse(&packet) else { continue };
        assert!(view.transport <= packet.len());
        let _ = hasher.hash(&view);
        for from in [FROM_V4, FROM_V6] {
            if let Some(answer) = answerer.too_big(&packet, &view, 1_280, from, now) {
                check_answer(answer.as_slice(), from);
            }
        }
        let before = packet.clone();
        if !mss::clamp(&mut packet, &view, 1_280) {
            assert_eq!(before, packet);
        }
        assert_eq!(parse(&packet), Ok(view));
        expected.push(packet.clone());
        coalescer.push(PacketBuf::from_slice(&packet), &view, &mut sink, &drops);
    }
    coalescer.flush(&mut sink, &drops);
    let mut got = sink.0;
    for packets in [&mut got, &mut expected] {
        packets.iter_mut().for_each(|packet| forget_what_means_nothing(packet));
        packets.sort();
    }
    assert_eq!(got, expected);
}

/// Slices from a peer, each behind its length (2 bytes), a byte of flags, number (1), offset, payload
/// length, segment size (2 each) and length of the headers (1). Flags: bit 0 has a head, bit 1 is
/// congestion, bit 2 ends a burst, bit 3 lets 3 ms pass. What is written is what the kernel can cut.
pub fn slices(mut data: &[u8]) {
    let (mut assembler, drops) = (Assembler::default(), Drops::default());
    let mut sink = Cut::default();
    let mut now = Instant::now();
    while let Some((&[l0, l1, flags, number, o0, o1, t0, t1, s0, s1, headers], rest)) =
        data.split_first_chunk::<11>()
    {
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let (body, rest) = rest.split_at(rest.len().min(usize::from(word(l0, l1))));
        data = rest;
        let head = Head { total: word(t0, t1), size: word(s0, s1), headers };
        let head = Some(head).filter(|_| flags & 1 != 0);
        let (number, offset, congested) = (number.into(), word(o0, o1), flags & 2 != 0);
        let body = PacketBuf::from_slice(body);
        let slice = Slice { number, offset, congested, head, body };
        let _refused = assembler.push((0, 0), slice, now, |_| true, &mut sink, &drops);
        if flags & 4 != 0 {
            assembler.flush(now, &mut sink, &drops);
            assert!(assembler.timeout().is_none_or(|at| at > now));
        }
        now += Duration::from_millis(if flags & 8 != 0 { 3 } else { 0 });
    }
    assembler.flush(now + LIFE, &mut sink, &drops);
    assembler.flush(now + LIFE * 2, &mut sink, &drops);
    assert_eq!(assembler.timeout(), None);
}

/// A prefix as text: what is taken prints as what it was, and what is refused says why.
pub fn prefix(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Prefix>() {
        Ok(prefix) => {
            assert_eq!(prefix.to_string().parse(), Ok(prefix));
            assert!(prefix.contains(prefix.address()) && prefix.covers(prefix));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Cuts super-packets again, as the kernel would.
#[derive(Default)]
struct Cut(Vec<Vec<u8>>);

impl Sink for Cut {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (header, packet) = VnetHeader::parse(&bytes).expect("its own header");
        let view = parse(packet).expect("a packet");
        let plan = Plan::new(header, packet, &view).expect("a super-packet that can be cut");
        plan.emit(|piece| self.0.push(piece.as_slice().to_vec()));
        Ok(())
    }
}

fn check_answer(answer: &[u8], from: IpAddr) {
    let view = parse(answer).expect("an answer is a packet");
    assert_eq!(view.source, from);
    assert!(answer.len() <= 1_280);
}

fn split(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let Some((&[high, low, flags], rest)) = data.split_first_chunk::<3>() {
        let (packet, rest) =
            rest.split_at(rest.len().min(usize::from(high) << 8 | usize::from(low)));
        data = rest;
        let mut packet = packet.to_vec();
        if flags & 1 != 0 {
            mend_length(&mut packet);
        }
        if flags & 2 != 0 {
            mend_checksum(&mut packet);
        }
        if flags & 4 != 0 {
            packets.push(packet.clone());
        }
        packets.push(packet);
        if packets.len() > PACKETS_MAX {
            break;
        }
    }
    packets
}

/// Most mutations would stop at a length field that is wrong.
fn mend_length(packet: &mut [u8]) {
    let len = packet.len();
    match packet.first().map(|first| first >> 4) {
        Some(4) if len >= 20 => packet[2..4].copy_from_slice(&(len as u16).to_be_bytes()),
        Some(6) if len >= 40 => packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes()),
        _ => {}
    }
}

fn mend_checksum(packet: &mut [u8]) {
    let Ok(View { source, destination, protocol, transport, .. }) = parse(packet) else { return };
    let ip_header = packet.first().map(|first| usize::from(first & 0xf) * 4);
    if source.is_ipv4()
        && let Some(header) = ip_header
    {
        packet[10..12].fill(0);
        let sum = Sum::default().bytes(&packet[..header]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let field = transport + if protocol == protocol::TCP { 16 } else { 6 };
    let has_checksum = matches!(protocol, protocol::TCP | protocol::UDP);
    if !has_checksum || packet.len() < field + 2 {
        return;
    }
    packet[field..field + 2].fill(0);
    let len = (packet.len() - transport) as u32;
    let sum = Sum::default().pseudo_header(source, destination, protocol, len);
    let sum = sum.bytes(&packet[transport..]);
    let sum = if protocol == protocol::TCP { sum.finish() } else { sum.finish_udp() };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What may come out otherwise than it went in, because it means the same: the identification of an
/// IPv4 packet that is never fragmented (RFC 6864 §4.1), and the other zero of a checksum.
fn forget_what_means_nothing(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    let Ok(view) = parse(packet) else { return };
    let ip_checksum = (!view.is_ipv6()).then_some(10);
    let tcp_checksum = (view.protocol == protocol::TCP).then_some(view.transport + 16);
    for field in [ip_checksum, tcp_checksum].into_iter().flatten() {
        if packet.get(field..field + 2) == Some(&[0xff, 0xff]) {
            packet[field..field + 2].fill(0);
        }
    }
}
