//! TCP MSS clamping: a SYN that crosses the tunnel announces no segment larger than its path.
//!
//! Path-MTU discovery alone would do where ICMP gets through; where a filter eats it, this keeps
//! TCP alive. Called by workers for packets in both directions, after segmentation, so that
//! checksums are complete.

use crate::packet::{Fragment, View, protocol};
use crate::segment::{TCP_CHECKSUM, tcp_header_len};
use stoq_checksum::update;

const TCP_HEADER: usize = 20;
const SYN: u8 = 0x02;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_MSS_LEN: usize = 4;

/// Lowers the MSS option of a SYN to what fits packets of `mtu` bytes (RFC 9293 §3.7.1: less the
/// fixed headers only) and returns whether it did. Whatever is no SYN with a larger MSS stays.
pub fn clamp(packet: &mut [u8], view: &View, mtu: u16) -> bool {
    let at = view.transport;
    if view.protocol != protocol::TCP || view.fragment != Fragment::Whole {
        return false;
    }
    let Some(len) = tcp_header_len(packet, at) else { return false };
    let header = &mut packet[at..at + len];
    if header[13] & SYN == 0 {
        return false;
    }
    let fixed = TCP_HEADER as u16 + if view.is_ipv6() { 40 } else { 20 };
    let most = mtu.saturating_sub(fixed);
    find_mss(header).is_some_and(|value| lower(header, value, most))
}

/// Where the value of the MSS option is.
fn find_mss(header: &[u8]) -> Option<usize> {
    let mut at = TCP_HEADER;
    while let Some(&kind) = header.get(at) {
        let len = match kind {
            OPTION_END => return None,
            OPTION_NOP => 1,
            // An option of less than two bytes would never end.
            _ => usize::from(*header.get(at + 1)?).max(2),
        };
        if kind == OPTION_MSS {
            return (len == OPTION_MSS_LEN && at + len <= header.len()).then_some(at + 2);
        }
        at += len;
    }
    None
}

fn lower(header: &mut [u8], value: usize, most: u16) -> bool {
    let field = [header[value], header[value + 1]];
    let (old, new) = (u16::from_be_bytes(field), most);
    if old <= most {
        return false;
    }
    header[value..value + 2].copy_from_slice(&new.to_be_bytes());
    // Behind an odd number of no-ops the value straddles two words of the sum; swapping the bytes
    // of both gives the same difference (RFC 1071 §2, byte order independence).
    let (old, new) = if value % 2 == 1 { (old.swap_bytes(), new.swap_bytes()) } else { (old, new) };
    let checksum = u16::from_be_bytes([header[TCP_CHECKSUM], header[TCP_CHECKSUM + 1]]);
    let checksum = update(checksum, old, new).to_be_bytes();
    header[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&checksum);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse;
    use crate::sample::{ACK, SYN, Sample, sums_are_right};

    /// A SYN whose options are these bytes, clamped; and whether it changed.
    fn clamped(ipv6: bool, options: &[u8], mtu: u16) -> (Vec<u8>, bool) {
        let options = options.to_vec();
        let sample = Sample { flags: SYN, options, ..Sample::tcp(ipv6, b"") };
        let mut packet = sample.build();
        let view = parse(&packet).unwrap();
        let changed = clamp(&mut packet, &view, mtu);
        assert!(sums_are_right(&packet));
        (packet[view.transport + 20..].to_vec(), changed)
    }

    #[test]
    fn the_mss_of_a_syn_fits_the_path() {
        let options = [2, 4, 0x05, 0xb4, 1, 3, 3, 7];
        let lowered = |mss: u16| [&[2, 4], mss.to_be_bytes().as_slice(), &[1, 3, 3, 7]].concat();
        assert_eq!(clamped(false, &options, 1_400), (lowered(1_360), true));
        assert_eq!(clamped(true, &options, 1_400), (lowered(1_340), true));
        assert_eq!(clamped(false, &options, 1_500), (options.to_vec(), false));
        assert_eq!(clamped(true, &options, 0), (lowered(0), true));
    }

    #[test]
    fn an_option_at_an_odd_place_keeps_the_checksum_right() {
        let options = [1, 2, 4, 0x05, 0xb4, 0, 0, 0];
        let (after, changed) = clamped(false, &options, 1_300);
        assert_eq!((after[3..5].to_vec(), changed), (1_260u16.to_be_bytes().to_vec(), true));
    }

    #[test]
    fn broken_options_are_left_alone() {
        for options in [
            [8, 0, 2, 4, 0, 0, 0, 0].as_slice(),
            &[8, 10, 0, 0],
            &[2, 3, 5, 0xb4],
            &[2, 6, 5, 0xb4],
            &[1, 1, 1, 2],
            &[1, 1, 2, 4],
            &[0, 2, 4, 5],
        ] {
            assert_eq!(clamped(false, options, 100), (options.to_vec(), false));
        }
    }

    #[test]
    fn only_a_syn_is_changed() {
        let options = vec![2, 4, 0x05, 0xb4];
        let ack = Sample { flags: ACK, options, ..Sample::tcp(false, b"") };
        let fragment = Sample { flags: SYN, fragment: 0x2000, ..ack.clone() };
        for sample in [ack, fragment, Sample::udp(false, &[2; 30])] {
            let mut packet = sample.build();
            let view = parse(&packet).unwrap();
            assert!(!clamp(&mut packet, &view, 600));
            assert_eq!(packet, sample.build());
        }
    }
}
