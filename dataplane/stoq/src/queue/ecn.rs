//! Marking an IP packet "congestion experienced" (RFC 3168 §5) in place.
//!
//! Called by the items of a queue when CoDel wants to slow a flow down.

/// The two ECN bits that say congestion was experienced.
const CE: u8 = 0b11;

/// Length of an IPv4 header without options in bytes.
const IPV4_HEADER_LEN: usize = 20;

/// Length of an IPv6 header in bytes.
const IPV6_HEADER_LEN: usize = 40;

/// Marks an IPv4 or IPv6 packet, and mends the IPv4 header's checksum. `false`, and nothing is
/// changed, if its sender does not understand ECN or it is no such packet: then drop it.
pub fn mark_ce(packet: &mut [u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => mark_ipv4(packet),
        Some(6) => mark_ipv6(packet),
        _ => false,
    }
}

fn mark_ipv4(packet: &mut [u8]) -> bool {
    let Some(header) = packet.first_chunk_mut::<IPV4_HEADER_LEN>() else { return false };
    let old = u16::from_be_bytes([header[0], header[1]]);
    if header[1] & CE == 0 {
        return false;
    }
    header[1] |= CE;
    let new = u16::from_be_bytes([header[0], header[1]]);
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    header[10..12].copy_from_slice(&mended(checksum, old, new).to_be_bytes());
    true
}

fn mark_ipv6(packet: &mut [u8]) -> bool {
    let Some(header) = packet.first_chunk_mut::<IPV6_HEADER_LEN>() else { return false };
    // The traffic class begins in the low half of byte 0; its two ECN bits are here.
    if header[1] >> 4 & CE == 0 {
        return false;
    }
    header[1] |= CE << 4;
    true
}

/// A checksum after one of the words under it changed from `old` to `new` (RFC 1624 §3).
fn mended(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checksum(header: &[u8]) -> u16 {
        let words = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        !((folded & 0xffff) + (folded >> 16)) as u16
    }

    fn ipv4(tos: u8, rest: [u8; 18]) -> Vec<u8> {
        let mut header = [&[0x45, tos][..], &rest].concat();
        header[10..12].fill(0);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    #[test]
    fn each_ecn_value_is_treated_by_its_meaning() {
        for (ecn, marked) in [(0b00, false), (0b01, true), (0b10, true), (0b11, true)] {
            let mut v4 = ipv4(0xb8 | ecn, [7; 18]);
            assert_eq!(mark_ce(&mut v4), marked);
            assert_eq!(v4[1], 0xb8 | if marked { CE } else { ecn });

            let mut v6 = [0; 48];
            v6[..2].copy_from_slice(&[0x6b, 0x85 | ecn << 4 & 0x30]);
            assert_eq!(mark_ce(&mut v6), marked);
            assert_eq!(v6[..2], [0x6b, 0x85 | if marked { 0x30 } else { ecn << 4 }]);
        }
    }

    #[test]
    fn what_is_no_whole_ip_header_is_left_alone() {
        for bytes in [&[][..], &[0x45, 2], &[0x60, 0x20], &[0x52; 60], &[0x46; 19]] {
            let mut packet = bytes.to_vec();
            assert!(!mark_ce(&mut packet));
            assert_eq!(packet, bytes);
        }
    }

    proptest! {
        #[test]
        fn the_checksum_stays_right(tos: u8, rest: [u8; 18]) {
            let mut header = ipv4(tos, rest);
            prop_assert_eq!(mark_ce(&mut header), tos & CE != 0);
            prop_assert_eq!(checksum(&header), 0);
        }
    }
}
