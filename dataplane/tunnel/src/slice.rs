//! Slicing: a super-packet from the device leaves in parts that fill datagrams to the brim, with its
//! headers once.
//!
//! Nothing is summed: the checksums of the packets that it stands for are computed by the kernel that
//! gets it at the other end, as the kernel here would have left that to a network card. Called by
//! workers, where the peer understands it, instead of [`Plan::emit`]; the peer's `assemble` makes a
//! super-packet again.

use crate::segment::Plan;

/// Parts from which on the headers are sent twice, in the first and in the second: when the only ones are
/// lost, so is all the rest. In so many parts the second copy costs less than 1 %.
const HEADERS_TWICE_FROM: usize = 8;

/// A super-packet that need not be cut into packets.
#[derive(Clone, Copy, Debug)]
pub struct Uncut<'a> {
    /// All headers: their lengths and checksums are those of the whole.
    pub headers: &'a [u8],
    /// What follows: not empty.
    pub payload: &'a [u8],
    /// Payload bytes of each packet but the last.
    pub size: u16,
}

/// A part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Where it begins in the payload, in bytes.
    pub offset: u16,
    /// The headers, where they are to be sent; empty otherwise.
    pub headers: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Plan<'a> {
    /// The super-packet, if it is one and its checksum is still to be computed.
    #[must_use]
    pub fn uncut(&self) -> Option<Uncut<'a>> {
        let (headers, gso) = self.cut?;
        self.header.partial?;
        let (headers, payload) = self.packet.split_at(headers);
        Some(Uncut { headers, payload, size: gso.size })
    }
}

impl<'a> Uncut<'a> {
    /// The parts, in order, each of at most `room` bytes; where headers go, `head` bytes are taken
    /// besides them. None if there is not even room for the headers.
    pub fn parts(self, room: usize, head: usize) -> impl Iterator<Item = Part<'a>> {
        let with_head = room.saturating_sub(head + self.headers.len());
        let twice = self.payload.len() > room.saturating_mul(HEADERS_TWICE_FROM - 1);
        let copies = if twice { 2 } else { 1 };
        let (mut index, mut at) = (0, 0);
        std::iter::from_fn(move || {
            let headers = if index < copies { self.headers } else { &[] };
            let len = if index < copies { with_head } else { room };
            let rest = self.payload.get(at..)?;
            let payload = &rest[..len.min(rest.len())];
            if payload.is_empty() {
                return None;
            }
            // The payload of an IP packet is below 2^16.
            let offset = at as u16;
            at += payload.len();
            index += 1;
            Some(Part { offset, headers, payload })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse;
    use crate::sample::{Sample, bytes};

    fn with_uncut<T>(payload: usize, size: u16, check: impl FnOnce(Uncut<'_>) -> T) -> T {
        let (header, packet) = Sample::tcp(true, &bytes(payload)).build_partial(Some(size));
        let view = parse(&packet).unwrap();
        check(Plan::new(header, &packet, &view).unwrap().uncut().unwrap())
    }

    /// Bytes of a part, with what a head takes besides the headers.
    fn len(part: &Part<'_>) -> usize {
        let head = if part.headers.is_empty() { 0 } else { 5 };
        part.headers.len() + head + part.payload.len()
    }

    #[test]
    fn parts_fill_their_room_and_join_to_the_payload() {
        for (payload, copies) in [(1, 1), (3_000, 1), (60_000, 2)] {
            with_uncut(payload, 1_000, |uncut| {
                let parts: Vec<_> = uncut.parts(1_400, 5).collect();
                let joined: Vec<u8> = parts.iter().flat_map(|part| part.payload.to_vec()).collect();
                assert_eq!(joined, uncut.payload);
                assert_eq!(parts.iter().filter(|part| !part.headers.is_empty()).count(), copies);
                let lens: Vec<_> = parts.iter().map(len).collect();
                let (last, full) = lens.split_last().unwrap();
                assert!(*last <= 1_400 && full.iter().all(|&len| len == 1_400));
                assert!(parts.windows(2).all(|two| {
                    usize::from(two[1].offset) == usize::from(two[0].offset) + two[0].payload.len()
                }));
            });
        }
    }

    #[test]
    fn fewer_datagrams_than_packets_carry_it() {
        // As a path with an MTU of 1500 has it: packets of 1400 bytes, datagrams of 1401.
        with_uncut(44 * 1_328, 1_328, |uncut| {
            assert_eq!(uncut.headers.len(), 72);
            assert_eq!(uncut.parts(1_395, 5).count(), 42);
        });
    }

    #[test]
    fn without_room_for_the_headers_there_are_no_parts() {
        with_uncut(3_000, 1_000, |uncut| assert_eq!(uncut.parts(77, 5).count(), 0));
    }

    #[test]
    fn what_is_one_packet_or_complete_is_no_super_packet() {
        let sample = Sample::tcp(false, &bytes(3_000));
        let (header, packet) = sample.build_partial(None);
        let view = parse(&packet).unwrap();
        assert!(Plan::new(header, &packet, &view).unwrap().uncut().is_none());
        let (header, packet) = sample.build_partial(Some(1_000));
        let complete = crate::vnet::VnetHeader { partial: None, ..header };
        assert!(Plan::new(complete, &packet, &view).unwrap().uncut().is_none());
    }
}
