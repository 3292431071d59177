//! What merges, what does not, and that what was merged is valid to the kernel.

use proptest::prelude::*;

use super::*;
use crate::packet::parse;
use crate::sample::{ACK, CWR, FIN, PSH, SYN, Sample, bytes, sums_are_right};
use crate::segment::Plan;

/// Keeps what was written; refuses super-packets when told to.
#[derive(Default)]
struct Written {
    writes: Vec<Vec<u8>>,
    refuse: Option<io::ErrorKind>,
}

impl Sink for Written {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        match self.refuse {
            Some(kind) if bytes[1] != 0 => Err(kind.into()),
            _ => {
                self.writes.push(bytes);
                Ok(())
            }
        }
    }
}

fn push_all(packets: &[Vec<u8>], offloads: Offloads, sink: &mut Written) -> Drops {
    let (mut coalescer, drops) = (Coalescer::new(offloads), Drops::default());
    for packet in packets {
        let view = parse(packet).unwrap();
        coalescer.push(PacketBuf::from_slice(packet), &view, sink, &drops);
    }
    coalescer.flush(sink, &drops);
    drops
}

fn coalesce(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut sink = Written::default();
    push_all(packets, Offloads::ALL, &mut sink);
    sink.writes
}

/// Cuts each write as the kernel would.
fn cut(writes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for bytes in writes {
        let (header, packet) = VnetHeader::parse(bytes).unwrap();
        let view = parse(packet).unwrap();
        let plan = Plan::new(header, packet, &view).unwrap();
        plan.emit(|piece| pieces.push(piece.as_slice().to_vec()));
    }
    pieces
}

/// The packets of one flow that a sender cuts from this one.
fn train(whole: &Sample, size: usize) -> Vec<Vec<u8>> {
    let (header, packet) = whole.build_partial(Some(size as u16));
    let view = parse(&packet).unwrap();
    let mut pieces = Vec::new();
    Plan::new(header, &packet, &view).unwrap().emit(|piece| pieces.push(piece.as_slice().to_vec()));
    pieces
}

#[test]
fn a_train_becomes_the_super_packet_that_it_was() {
    let flags = ACK | PSH | FIN | CWR;
    for whole in [
        Sample { flags, ..Sample::tcp(false, &bytes(9_500)) },
        Sample { flags, ..Sample::tcp(true, &bytes(9_500)) },
        Sample::udp(false, &bytes(9_500)),
        Sample { dont_fragment: false, ..Sample::udp(false, &bytes(9_500)) },
        Sample::udp(true, &bytes(9_500)),
    ] {
        let (header, packet) = whole.build_partial(Some(1_000));
        let expected = [header.encode().as_slice(), &packet].concat();
        assert_eq!(coalesce(&train(&whole, 1_000)), [expected]);
    }
}

#[test]
fn what_does_not_continue_its_flow_is_not_merged() {
    let first = Sample::tcp(false, &bytes(100));
    let next = Sample { sequence: 1_100, identification: 8, ..first.clone() };
    assert_eq!(coalesce(&[first.build(), next.build()]).len(), 1);
    let changes: [fn(&mut Sample); 12] = [
        |s| s.sequence += 1,
        |s| s.sequence -= 100,
        |s| s.flags |= CWR,
        |s| s.flags |= SYN,
        |s| s.flags |= 0x20,
        |s| s.flags |= 0x40,
        |s| s.ttl -= 1,
        |s| s.traffic_class = 3,
        |s| s.dont_fragment = false,
        |s| s.options[7] += 1,
        |s| s.payload.push(0),
        |s| s.payload.clear(),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut other = next.clone();
        change(&mut other);
        let packets = [first.build(), other.build()];
        let writes = coalesce(&packets);
        assert_eq!(writes.len(), 2, "change {index}");
        assert_eq!(cut(&writes), packets, "change {index}");
    }
}

/// Changes of single bytes in the second packet of a train, whose checksums are made right again.
#[test]
fn every_byte_of_the_headers_counts() {
    // IPv6: flow label, hop limit. TCP behind it: acknowledgement, window, urgent pointer, options.
    let tcp6 = [2, 3, 7, 48, 51, 54, 55, 58, 59, 64, 71];
    // IPv4: fragment bits, TTL. TCP behind it, as above.
    let tcp4 = [6, 8, 28, 31, 34, 35, 38, 39, 44, 51];
    for (ipv6, places) in [(true, tcp6.as_slice()), (false, &tcp4)] {
        for &place in places {
            let mut packets = train(&Sample::tcp(ipv6, &bytes(200)), 100);
            packets[1][place] ^= 0x80;
            sum_again(&mut packets[1], place);
            assert_eq!(coalesce(&packets).len(), 2, "IPv6 {ipv6}, byte {place}");
        }
    }
}

/// Makes the checksum right that covers the byte at `place`, of which the top bit was changed.
fn sum_again(packet: &mut [u8], place: usize) {
    let transport = if packet[0] == 0x60 { 40 } else { 20 };
    let field = if place >= transport { transport + 16 } else { 10 };
    if place < transport && transport == 40 {
        return;
    }
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let new = word(place & !1);
    let old = new ^ if place.is_multiple_of(2) { 0x8000 } else { 0x80 };
    let sum = stoq_checksum::update(word(field), old, new).to_be_bytes();
    packet[field..field + 2].copy_from_slice(&sum);
    assert!(sums_are_right(packet));
}

#[test]
fn a_fragmentable_packet_is_merged_only_with_the_next_identification() {
    let first = Sample { dont_fragment: false, ..Sample::udp(false, &bytes(100)) };
    let with = |identification| Sample { identification, ..first.clone() }.build();
    assert_eq!(coalesce(&[with(0xffff), with(0)]).len(), 1);
    assert_eq!(coalesce(&[with(5), with(7)]).len(), 2);
    let fixed = Sample::udp(false, &bytes(100)).build();
    assert_eq!(coalesce(&[fixed.clone(), fixed]).len(), 1);
}

#[test]
fn a_wrong_checksum_is_not_hidden() {
    for whole in [Sample::tcp(false, &bytes(500)), Sample::udp(true, &bytes(500))] {
        for broken in 0..5 {
            let mut packets = train(&whole, 100);
            let last = packets[broken].len() - 1;
            packets[broken][last] ^= 4;
            let writes = coalesce(&packets);
            assert_eq!(cut(&writes), packets);
            let alone: Vec<_> = writes.iter().map(|write| &write[10..]).collect();
            assert!(alone.contains(&packets[broken].as_slice()), "piece {broken} was merged");
            assert!(!sums_are_right(&packets[broken]));
        }
    }
}

#[test]
fn a_wrong_header_checksum_is_not_hidden() {
    for broken in 0..3 {
        let mut packets = train(&Sample::tcp(false, &bytes(300)), 100);
        packets[broken][10] ^= 1;
        assert_eq!(cut(&coalesce(&packets)), packets);
    }
}

#[test]
fn udp_without_a_checksum_goes_alone() {
    let mut packet = Sample::udp(false, &bytes(100)).build();
    packet[26..28].fill(0);
    assert_eq!(coalesce(&[packet.clone(), packet]).len(), 2);
}

#[test]
fn sizes_are_bounded() {
    let many: Vec<_> = (0..MERGED_MAX + 1).map(|_| Sample::udp(true, &bytes(9)).build()).collect();
    assert_eq!(coalesce(&many).len(), 2);
    let large: Vec<_> = (0..3).map(|_| Sample::udp(true, &bytes(30_000)).build()).collect();
    assert_eq!(coalesce(&large).len(), 2);
}

#[test]
fn more_flows_than_there_is_room_for_all_get_through() {
    let packet = |port| Sample { ports: (port, 9), ..Sample::udp(true, &bytes(50)) }.build();
    let packets: Vec<_> = (0..2).flat_map(|_| (0..40).map(packet)).collect();
    let mut out = cut(&coalesce(&packets));
    let mut expected = packets;
    out.sort();
    expected.sort();
    assert_eq!(out, expected);
}

#[test]
fn without_offloads_nothing_is_merged() {
    let packets = train(&Sample::tcp(false, &bytes(500)), 100);
    let mut sink = Written::default();
    push_all(&packets, Offloads { tso: false, ..Offloads::ALL }, &mut sink);
    assert_eq!(sink.writes.len(), 5);
    assert_eq!(cut(&sink.writes), packets);
}

#[test]
fn a_refused_super_packet_goes_in_pieces_and_a_lost_one_is_counted() {
    let packets = train(&Sample::udp(false, &bytes(500)), 100);
    let mut sink = Written { refuse: Some(io::ErrorKind::InvalidInput), ..Written::default() };
    let drops = push_all(&packets, Offloads::ALL, &mut sink);
    assert_eq!(cut(&sink.writes), packets);
    assert_eq!(drops.get(DropReason::DeviceWrite), 0);
    let mut sink = Written { refuse: Some(io::ErrorKind::OutOfMemory), ..Written::default() };
    let drops = push_all(&packets, Offloads::ALL, &mut sink);
    assert_eq!((sink.writes.len(), drops.get(DropReason::DeviceWrite)), (0, 5));
}

/// Some packets of one flow, with what may disturb merging among them.
fn flow(port: u16) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let base = (any::<bool>(), any::<bool>(), any::<bool>(), any::<u32>(), any::<u16>());
    let step = (0usize..120, 0u8..12);
    (base, proptest::collection::vec(step, 1..30)).prop_map(move |(base, steps)| {
        let (ipv6, is_tcp, dont_fragment, sequence, identification) = base;
        let sample = if is_tcp { Sample::tcp(ipv6, &[]) } else { Sample::udp(ipv6, &[]) };
        let mut next =
            Sample { ports: (port, 1), dont_fragment, sequence, identification, ..sample };
        let size = steps[0].0;
        steps.iter().map(|step| disturbed(&mut next, *step, size)).collect()
    })
}

/// The packet that comes next in a flow of packets with `size` bytes of payload, mostly.
fn disturbed(next: &mut Sample, (len, kind): (usize, u8), size: usize) -> Vec<u8> {
    let mut this = next.clone();
    this.payload = bytes(if kind == 0 { len } else { size });
    match kind {
        1 => this.flags |= PSH,
        2 => this.flags |= CWR,
        3 => this.flags |= FIN,
        4 if !this.ipv6 => this.fragment = 0x2000,
        5 => this.sequence = this.sequence.wrapping_sub(3),
        _ => {}
    }
    next.sequence = this.sequence.wrapping_add(this.payload.len() as u32);
    next.identification = this.identification.wrapping_add(1);
    let mut packet = this.build();
    if kind == 6 {
        let last = packet.len() - 1;
        packet[last] ^= 0x10;
    }
    packet
}

fn of_port(packets: &[Vec<u8>], port: u16) -> Vec<Vec<u8>> {
    let is_of = |packet: &&Vec<u8>| parse(packet).unwrap().ports == Some((port, 1));
    packets.iter().filter(is_of).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Cutting what was merged gives the same bytes, in the same order within each flow.
    #[test]
    fn every_flow_comes_out_as_it_went_in(
        flows in (flow(1), flow(2), flow(3)),
        turns in proptest::collection::vec(0usize..3, 90),
    ) {
        let flows = [flows.0, flows.1, flows.2];
        let mut left = flows.clone().map(|flow| flow.into_iter());
        let mut packets: Vec<_> = turns.iter().filter_map(|turn| left[*turn].next()).collect();
        left.into_iter().for_each(|rest| packets.extend(rest));
        let out = cut(&coalesce(&packets));
        prop_assert_eq!(out.len(), packets.len());
        for (index, flow) in flows.iter().enumerate() {
            prop_assert_eq!(&of_port(&out, index as u16 + 1), flow);
        }
    }

    /// A super-packet, cut, merged and cut again, gives the same pieces.
    #[test]
    fn cut_merged_and_cut_again_is_cut(
        is_tcp in any::<bool>(), ipv6 in any::<bool>(), size in 1usize..1_500, len in 1usize..9_000
    ) {
        prop_assume!(len.div_ceil(size) <= 1_000);
        let payload = bytes(len);
        let whole = if is_tcp { Sample::tcp(ipv6, &payload) } else { Sample::udp(ipv6, &payload) };
        let pieces = train(&whole, size);
        prop_assert_eq!(cut(&coalesce(&pieces)), pieces);
    }
}
