//! What is assembled is what segmentation would have made of the super-packet, less what the lost
//! slices had a part in; and whatever comes, bounds and order hold.

use std::io::{self, IoSlice};

use proptest::prelude::*;
use stoq_buffer::{Head, PacketBuf};

use super::*;
use crate::packet::parse;
use crate::sample::{ACK, CWR, FIN, PSH, SYN, Sample, bytes};
use crate::segment::Plan;
use crate::vnet::VnetHeader;

const SIZE: u16 = 1_000;
const LANE: Lane = (3, 1);

/// Cuts each write as the kernel would, and keeps the packets.
#[derive(Default)]
struct Kernel {
    packets: Vec<Vec<u8>>,
    writes: usize,
}

impl Sink for Kernel {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (header, packet) = VnetHeader::parse(&bytes).unwrap();
        let view = parse(packet).unwrap();
        let plan = Plan::new(header, packet, &view).unwrap();
        plan.emit(|piece| self.packets.push(piece.as_slice().to_vec()));
        self.writes += 1;
        Ok(())
    }
}

/// The packets of a super-packet, and its slices.
fn made(sample: &Sample, number: u16, room: usize) -> (Vec<Vec<u8>>, Vec<Slice>) {
    let (header, packet) = sample.build_partial(Some(SIZE));
    let view = parse(&packet).unwrap();
    let plan = Plan::new(header, &packet, &view).unwrap();
    let (mut packets, mut slices) = (Vec::new(), Vec::new());
    plan.emit(|piece| packets.push(piece.as_slice().to_vec()));
    let uncut = plan.uncut().unwrap();
    let total = uncut.payload.len() as u16;
    for part in uncut.parts(room, 5) {
        let headers = part.headers.len() as u8;
        let head = (headers > 0).then_some(Head { total, size: uncut.size, headers });
        let mut body = PacketBuf::from_slice(part.headers);
        body.extend_from_slice(part.payload);
        slices.push(Slice { number, offset: part.offset, congested: false, head, body });
    }
    (packets, slices)
}

/// An assembler with its surroundings.
struct Site {
    assembler: Assembler,
    kernel: Kernel,
    drops: Drops,
    now: Instant,
}

impl Site {
    fn new() -> Self {
        let (assembler, kernel) = (Assembler::default(), Kernel::default());
        Self { assembler, kernel, drops: Drops::default(), now: Instant::now() }
    }

    fn push(&mut self, slice: Slice) -> Result<Option<View>, AssembleError> {
        self.assembler.push(LANE, slice, self.now, |_| true, &mut self.kernel, &self.drops)
    }

    fn push_all(&mut self, slices: impl IntoIterator<Item = Slice>) {
        for slice in slices {
            self.push(slice).unwrap();
        }
    }

    fn flush(&mut self) {
        self.assembler.flush(self.now, &mut self.kernel, &self.drops);
    }

    fn lost(&self) -> u64 {
        self.drops.get(DropReason::SliceIncomplete)
    }
}

fn samples() -> [Sample; 5] {
    let flags = ACK | PSH | FIN | CWR;
    [
        Sample { flags, ..Sample::tcp(false, &bytes(9_500)) },
        Sample { flags, ..Sample::tcp(true, &bytes(9_500)) },
        Sample { dont_fragment: false, ..Sample::tcp(false, &bytes(2_001)) },
        Sample::udp(false, &bytes(9_500)),
        Sample::udp(true, &bytes(9_500)),
    ]
}

#[test]
fn a_burst_becomes_the_super_packet_that_it_was() {
    for sample in samples() {
        let (packets, slices) = made(&sample, 1, 1_400);
        let mut site = Site::new();
        let began: Vec<_> = slices.into_iter().map(|slice| site.push(slice).unwrap()).collect();
        assert!(began[0].is_some() && began[1..].iter().all(Option::is_none));
        site.flush();
        assert_eq!((site.kernel.packets, site.kernel.writes), (packets, 1));
        assert_eq!(site.drops.get(DropReason::SliceIncomplete), 0);
        assert!(site.assembler.open.is_empty());
    }
}

#[test]
fn each_burst_is_written_as_far_as_its_packets_are_whole() {
    for sample in samples() {
        let (packets, slices) = made(&sample, 1, 1_400);
        let mut site = Site::new();
        for slice in slices {
            let upto = usize::from(slice.offset) + slice.payload_len();
            site.push(slice).unwrap();
            site.flush();
            let whole = if upto == sample.payload.len() { packets.len() } else { upto / 1_000 };
            assert_eq!(site.kernel.packets, packets[..whole]);
        }
        assert_eq!(site.kernel.packets, packets);
        assert_eq!(site.assembler.timeout(), None);
    }
}

#[test]
fn a_gap_is_waited_for_and_then_given_up() {
    let (packets, mut slices) = made(&samples()[1], 1, 1_400);
    let missing = slices.remove(2);
    let (from, to) = (usize::from(missing.offset), usize::from(missing.offset) + 1_400);
    let mut site = Site::new();
    site.push_all(slices);
    site.flush();
    let before = from / 1_000;
    assert_eq!(site.kernel.packets, packets[..before]);
    assert_eq!(site.assembler.timeout(), Some(site.now + PATIENCE));
    site.now += PATIENCE;
    site.flush();
    let expected = [&packets[..before], &packets[to.div_ceil(1_000)..]].concat();
    assert_eq!(site.kernel.packets, expected);
    assert_eq!(site.lost(), 1);
    // It comes too late: of a super-packet that nobody knows any more.
    site.push(missing).unwrap();
    site.flush();
    site.now += PATIENCE;
    site.flush();
    assert_eq!(site.kernel.packets, expected);
}

#[test]
fn slices_in_another_order_make_the_same_packets() {
    let (packets, mut slices) = made(&samples()[0], 1, 1_400);
    slices.reverse();
    let mut site = Site::new();
    for slice in slices {
        site.push(slice).unwrap();
        site.flush();
    }
    assert_eq!(site.kernel.packets, packets);
    assert_eq!(site.lost(), 0);
}

#[test]
fn the_second_copy_of_the_headers_is_as_good_as_the_first() {
    let sample = Sample::tcp(true, &bytes(20_000));
    let (packets, mut slices) = made(&sample, 1, 1_400);
    let first = slices.remove(0);
    let mut site = Site::new();
    site.push_all(slices);
    site.now += PATIENCE;
    site.flush();
    site.now += PATIENCE;
    site.flush();
    let lost = (first.body.len() - 72).div_ceil(1_000);
    assert_eq!(site.kernel.packets, packets[lost..]);
}

#[test]
fn a_flow_that_goes_on_does_not_wait_for_what_is_lost() {
    let sample = samples()[1].clone();
    let (first, mut slices) = made(&sample, 1, 1_400);
    slices.pop();
    let (second, next) = made(&Sample { sequence: 10_500, ..sample }, 2, 1_400);
    let mut site = Site::new();
    site.push_all(slices.into_iter().chain(next));
    site.flush();
    let whole = first.len() - 2;
    assert_eq!(site.kernel.packets, [&first[..whole], &second].concat());
    assert_eq!(site.lost(), 1);
}

#[test]
fn a_packet_that_comes_alone_stays_behind_its_flow() {
    let (packets, slices) = made(&samples()[1], 1, 1_400);
    let mut site = Site::new();
    site.push_all(slices);
    let other = Sample { ports: (1, 2), ..samples()[1].clone() }.build();
    site.assembler.make_way(&parse(&other).unwrap(), &mut site.kernel, &site.drops);
    assert!(site.kernel.packets.is_empty());
    let same = Sample::tcp(true, &[]).build();
    site.assembler.make_way(&parse(&same).unwrap(), &mut site.kernel, &site.drops);
    assert_eq!(site.kernel.packets, packets);
}

#[test]
fn congestion_is_told_to_those_who_understand_it() {
    for (class, marked) in [(0, 0), (2, 3), (1, 3)] {
        for ipv6 in [false, true] {
            let sample = Sample { traffic_class: class, ..Sample::tcp(ipv6, &bytes(3_000)) };
            let (_, mut slices) = made(&sample, 1, 1_400);
            slices[1].congested = true;
            let mut site = Site::new();
            site.push_all(slices);
            site.flush();
            assert_eq!(site.kernel.packets.len(), 3);
            for packet in &site.kernel.packets {
                assert_eq!(parse(packet).unwrap().ecn(), marked);
            }
        }
    }
}

#[test]
fn headers_that_are_none_are_refused_with_all_that_follows() {
    let good = Sample::tcp(true, &bytes(3_000));
    let syn = Sample { flags: ACK | SYN, ..good.clone() };
    let fragment = Sample { fragment: 0x2000, ..Sample::udp(false, &bytes(3_000)) };
    let broken: [fn(&mut Slice); 4] = [
        |slice| slice.body.as_mut_slice()[0] = 0x70,
        |slice| slice.body.as_mut_slice()[6] = 50,
        |slice| slice.head.as_mut().unwrap().headers -= 1,
        |slice| slice.head.as_mut().unwrap().size = 0,
    ];
    let mut refused = Vec::new();
    for sample in [&syn, &fragment] {
        let (_, slices) = made(&Sample { fragment: 0, ..sample.clone() }, 1, 1_400);
        refused.push(slices);
    }
    // A first fragment, which its bit says it is.
    refused[1][0].body.as_mut_slice()[6] |= 0x20;
    for change in broken {
        let (_, mut slices) = made(&good, 1, 1_400);
        change(&mut slices[0]);
        refused.push(slices);
    }
    for slices in refused {
        let mut site = Site::new();
        for slice in slices {
            let reason = site.push(slice).unwrap_err().reason();
            assert!(matches!(reason, DropReason::SliceInvalid | DropReason::MalformedInner));
        }
        site.now += LIFE;
        site.flush();
        assert!(site.kernel.packets.is_empty() && site.assembler.open.is_empty());
    }
}

#[test]
fn a_source_that_the_peer_may_not_use_is_refused() {
    let (_, slices) = made(&samples()[0], 1, 1_400);
    let mut site = Site::new();
    for slice in slices {
        let pushed =
            site.assembler.push(LANE, slice, site.now, |_| false, &mut site.kernel, &site.drops);
        assert_eq!(pushed, Err(AssembleError::Source));
    }
    site.flush();
    assert!(site.kernel.packets.is_empty());
}

#[test]
fn what_is_there_cannot_be_written_again() {
    let (packets, slices) = made(&samples()[0], 1, 1_400);
    let (_, again) = made(&samples()[0], 1, 900);
    let mut site = Site::new();
    let half = slices.len() / 2;
    let mut slices = slices.into_iter();
    site.push_all(slices.by_ref().take(half));
    site.flush();
    for slice in again.into_iter().filter(|slice| usize::from(slice.offset) < half * 1_300) {
        assert!(matches!(site.push(slice), Err(AssembleError::Contradiction { .. })));
    }
    site.push_all(slices);
    site.flush();
    assert_eq!(site.kernel.packets, packets);
}

#[test]
fn memory_is_bounded() {
    let mut site = Site::new();
    let part = |number: u16, offset: u16| {
        let body = PacketBuf::from_slice(b"x");
        Slice { number, offset, congested: false, head: None, body }
    };
    for offset in 0..PARTS_MAX as u16 {
        site.push(part(0, offset * 2)).unwrap();
    }
    assert_eq!(site.push(part(0, 60_000)), Err(AssembleError::Parts));
    for number in 1..200 {
        site.push(part(number, 0)).unwrap();
        assert!(site.assembler.open.len() <= OPEN_MAX);
        assert!(site.assembler.open.len() + site.assembler.spare.len() <= OPEN_MAX + 1);
    }
    site.flush();
    site.now += PATIENCE;
    site.flush();
    assert!(site.assembler.open.is_empty());
    assert_eq!(site.lost(), 200);
}

proptest! {
    /// Two flows in slices of any size, of which some are lost and some change places with a later
    /// one, in bursts of any length.
    #[test]
    fn of_each_flow_comes_what_was_sent_in_order(
        which in 0..5_usize,
        room in 200..3_000_usize,
        fates in prop::collection::vec((0..12_u8, any::<bool>()), 120),
    ) {
        let one = samples()[which].clone();
        let two = Sample { ports: (7, 8), ..one.clone() };
        let (first, mut slices) = made(&one, 10, room.max(one.payload.len() / 50));
        let (second, more) = made(&two, 11, 1_400);
        slices.extend(more);
        let mut fates = fates.into_iter().cycle();
        let mut at = 0;
        while at + 3 < slices.len() {
            match fates.next() {
                Some((0, _)) => drop(slices.remove(at)),
                Some((1, _)) => slices.swap(at, at + 3),
                _ => {}
            }
            at += 1;
        }
        let mut site = Site::new();
        for slice in slices {
            site.now += Duration::from_micros(100);
            site.push(slice).unwrap();
            if fates.next().is_some_and(|(_, flush)| flush) {
                site.flush();
            }
        }
        for _ in 0..2 {
            site.flush();
            site.now += LIFE;
        }
        prop_assert!(site.assembler.open.is_empty());
        for sent in [&first, &second] {
            let mut rest = sent.iter();
            let of_flow = site.kernel.packets.iter().filter(|packet| sent.contains(packet));
            for packet in of_flow {
                prop_assert!(rest.any(|expected| expected == packet));
            }
        }
        prop_assert!(site.kernel.packets.iter().all(|p| first.contains(p) || second.contains(p)));
    }
}
