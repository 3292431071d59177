//! Packets as a pcap file (draft-ietf-opsawg-pcap). Called by a capture.
//!
//! Inner packets are written as they are. Of packets on the wire the port gives the payload and the
//! addresses only, so their IP and UDP headers are made anew: addresses, ports and lengths are
//! right, everything else is plain.

use std::net::{IpAddr, SocketAddr};
use std::time::UNIX_EPOCH;

use crate::worker::Copied;

/// Each record begins with an IPv4 or IPv6 header (LINKTYPE_RAW).
pub(super) const LINK_TYPE: u32 = 101;

/// Longest packet written (bytes): the longest IP packet.
const SNAP_LENGTH: u32 = 65_535;

/// Protocol number of UDP.
const UDP: u8 = 17;

/// The head of the file: microsecond times, little endian.
pub(super) fn file_header() -> Vec<u8> {
    let mut header = Vec::with_capacity(24);
    header.extend(0xA1B2_C3D4_u32.to_le_bytes());
    header.extend(2_u16.to_le_bytes());
    header.extend(4_u16.to_le_bytes());
    header.extend([0; 8]);
    header.extend(SNAP_LENGTH.to_le_bytes());
    header.extend(LINK_TYPE.to_le_bytes());
    header
}

/// One packet.
pub(super) fn record(packet: &Copied) -> Vec<u8> {
    let headers = packet
        .addresses
        .map_or_else(Vec::new, |(from, to)| udp_packet(from, to, packet.contents.len()));
    let length = (headers.len() + packet.contents.len()).min(SNAP_LENGTH as usize);
    let since = packet.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // pcap counts seconds in 32 bits, up to 2106.
    let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
    let length_field = u32::try_from(length).unwrap_or(SNAP_LENGTH).to_le_bytes();
    let mut record = Vec::with_capacity(16 + length);
    record.extend(seconds.to_le_bytes());
    record.extend(since.subsec_micros().to_le_bytes());
    record.extend(length_field);
    record.extend(length_field);
    record.extend(headers);
    record.extend(&packet.contents);
    record.truncate(16 + length);
    record
}

/// IP and UDP headers in front of a payload of `length` bytes.
fn udp_packet(from: SocketAddr, to: SocketAddr, length: usize) -> Vec<u8> {
    let udp_length = u16::try_from(length + 8).unwrap_or(u16::MAX);
    let mut headers = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend(udp_length.saturating_add(20).to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            header
        }
        (from, to) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(udp_length.to_be_bytes());
            header.extend([UDP, 64]);
            header.extend(v6(from));
            header.extend(v6(to));
            header
        }
    };
    headers.extend(from.port().to_be_bytes());
    headers.extend(to.port().to_be_bytes());
    headers.extend(udp_length.to_be_bytes());
    headers.extend([0, 0]);
    headers
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The Internet checksum (RFC 1071) of a header of even length.
fn checksum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xFFFF) + (sum >> 16);
    !u16::try_from((folded & 0xFFFF) + (folded >> 16)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn wire(from: &str, to: &str, contents: &[u8]) -> Copied {
        let addresses = Some((from.parse().unwrap(), to.parse().unwrap()));
        let at = UNIX_EPOCH + Duration::from_micros(1_500_000);
        Copied { at, addresses, contents: contents.to_vec() }
    }

    #[test]
    fn a_udp_packet_over_ipv4_is_whole() {
        let record = record(&wire("10.0.0.1:1000", "10.0.0.2:9292", b"abcd"));
        assert_eq!(record[..4], 1_u32.to_le_bytes());
        assert_eq!(record[4..8], 500_000_u32.to_le_bytes());
        assert_eq!(record[8..12], 32_u32.to_le_bytes());
        let packet = &record[16..];
        assert_eq!(packet.len(), 32);
        assert_eq!(checksum(&packet[..20]), 0, "the sum over a right header is 0");
        assert_eq!(packet[2..4], 32_u16.to_be_bytes());
        assert_eq!(packet[22..24], 9292_u16.to_be_bytes());
        assert_eq!(packet[24..26], 12_u16.to_be_bytes());
        assert_eq!(&packet[28..], b"abcd");
    }

    #[test]
    fn families_may_differ_and_lengths_are_bounded() {
        let mixed = record(&wire("[::]:0", "10.0.0.2:9292", b"abcd"));
        assert_eq!(mixed[16], 0x60);
        assert_eq!(mixed.len(), 16 + 40 + 8 + 4);
        let long = record(&wire("[::1]:1", "[::2]:2", &vec![0; 70_000]));
        assert_eq!(long.len(), 16 + 65_535);
    }
}
