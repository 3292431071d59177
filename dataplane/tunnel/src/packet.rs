//! What a worker needs to know of an IP packet, read once and safely.
//!
//! Packets come from the site and from peers, and both are hostile input: every length is checked
//! before it is used, a chain of extension headers has a bound, and nothing here panics. The
//! transport header is only looked at; a packet with a broken one is still a packet, and the host
//! that it is for judges it.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher13;

/// Protocol numbers (IANA "Assigned Internet Protocol Numbers") that are treated apart.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP, of which only the ports are read.
    pub const SCTP: u8 = 132;
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
}

/// Most IPv6 extension headers that are walked. RFC 8200 §4.1 names six, one of them twice; what
/// follows a longer chain is opaque.
const EXTENSIONS_MAX: usize = 8;

pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;

/// Whether a packet is a piece of a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It is whole.
    Whole,
    /// The first piece, with the start of the transport header.
    First,
    /// A later piece, without one.
    Later,
}

/// Why bytes are no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The version is neither 4 nor 6, or there is no byte at all.
    #[error("expected an IPv4 or IPv6 packet, got a first byte of {0:#04x}: drop it")]
    Version(u8),
    /// Shorter than its headers.
    #[error("expected at least {expected} bytes of IP header, got {got}: drop it")]
    Truncated {
        /// What the header needs.
        expected: usize,
        /// What there was.
        got: usize,
    },
    /// The length in the header is not that of the packet.
    #[error("expected a packet of {expected} bytes, as its header says, got {got}: drop it")]
    Length {
        /// What the header says.
        expected: usize,
        /// What there was.
        got: usize,
    },
}

/// The headers of one IP packet, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol of what starts at `transport`: behind the IPv6 extension headers.
    pub protocol: u8,
    /// Where the transport header starts, in bytes; at most the packet's length.
    pub transport: usize,
    /// Source and destination port of TCP, UDP and SCTP, where there are any.
    pub ports: Option<(u16, u16)>,
    /// Whether it is a piece of a larger packet.
    pub fragment: Fragment,
    /// Type of service or traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Whether routers may not fragment it: the DF bit, and always in IPv6.
    pub dont_fragment: bool,
}

impl View {
    /// The two ECN bits (RFC 3168 §5).
    #[must_use]
    pub fn ecn(&self) -> u8 {
        self.traffic_class & 3
    }

    /// Whether it is IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.source.is_ipv6()
    }
}

/// Reads the headers of the packet that fills `bytes` exactly.
///
/// # Errors
/// When it is no IPv4 or IPv6 packet, or when its own length is not that of `bytes` (jumbograms,
/// RFC 2675, among them).
pub fn parse(bytes: &[u8]) -> Result<View, ParseError> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => parse_v4(bytes),
        Some(6) => parse_v6(bytes),
        _ => Err(ParseError::Version(bytes.first().copied().unwrap_or(0))),
    }
}

fn parse_v4(bytes: &[u8]) -> Result<View, ParseError> {
    let Some(header) = bytes.first_chunk::<IPV4_HEADER>() else {
        return Err(ParseError::Truncated { expected: IPV4_HEADER, got: bytes.len() });
    };
    let transport = usize::from(header[0] & 0xf) * 4;
    if transport < IPV4_HEADER || transport > bytes.len() {
        return Err(ParseError::Truncated {
            expected: transport.max(IPV4_HEADER),
            got: bytes.len(),
        });
    }
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if length != bytes.len() {
        return Err(ParseError::Length { expected: length, got: bytes.len() });
    }
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let fragment = match (flags & 0x1fff, flags & 0x2000) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    let protocol = header[9];
    Ok(View {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        protocol,
        transport,
        ports: ports(protocol, fragment, &bytes[transport..]),
        fragment,
        traffic_class: header[1],
        dont_fragment: flags & 0x4000 != 0,
    })
}

fn parse_v6(bytes: &[u8]) -> Result<View, ParseError> {
    let Some(header) = bytes.first_chunk::<IPV6_HEADER>() else {
        return Err(ParseError::Truncated { expected: IPV6_HEADER, got: bytes.len() });
    };
    let length = IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if length != bytes.len() {
        return Err(ParseError::Length { expected: length, got: bytes.len() });
    }
    let chain = walk_extensions(header[6], bytes);
    Ok(View {
        source: address_v6(header, 8),
        destination: address_v6(header, 24),
        protocol: chain.protocol,
        transport: chain.transport,
        ports: ports(chain.protocol, chain.fragment, &bytes[chain.transport..]),
        fragment: chain.fragment,
        traffic_class: (header[0] << 4) | (header[1] >> 4),
        dont_fragment: true,
    })
}

fn address_v6(header: &[u8; IPV6_HEADER], offset: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[offset..offset + 16]);
    Ipv6Addr::from(octets).into()
}

struct Chain {
    protocol: u8,
    transport: usize,
    fragment: Fragment,
}

/// Follows the extension headers (RFC 8200 §4) until a transport header, a later fragment, the end
/// of the packet, or the bound.
fn walk_extensions(first: u8, bytes: &[u8]) -> Chain {
    let mut chain = Chain { protocol: first, transport: IPV6_HEADER, fragment: Fragment::Whole };
    for _ in 0..EXTENSIONS_MAX {
        let Some(&[next, length, offset_high, offset_low]) =
            bytes.get(chain.transport..).and_then(|rest| rest.first_chunk::<4>())
        else {
            return chain;
        };
        let size = match chain.protocol {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                (usize::from(length) + 1) * 8
            }
            protocol::AUTHENTICATION => (usize::from(length) + 2) * 4,
            protocol::FRAGMENT => 8,
            _ => return chain,
        };
        if chain.transport + size > bytes.len() {
            return chain;
        }
        if chain.protocol == protocol::FRAGMENT {
            chain.fragment = fragment_v6(u16::from_be_bytes([offset_high, offset_low]));
        }
        chain.protocol = next;
        chain.transport += size;
        if chain.fragment == Fragment::Later {
            return chain;
        }
    }
    chain
}

/// RFC 8200 §4.5; an atomic fragment (RFC 6946) is whole.
fn fragment_v6(field: u16) -> Fragment {
    match (field >> 3, field & 1) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    }
}

fn ports(protocol: u8, fragment: Fragment, transport: &[u8]) -> Option<(u16, u16)> {
    let has_ports = matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    if !has_ports || fragment == Fragment::Later {
        return None;
    }
    let &[a, b, c, d] = transport.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Hashes flows under a secret, so that nobody outside can choose flows that collide.
#[derive(Clone, Copy, Debug)]
pub struct FlowHasher(SipHasher13);

impl FlowHasher {
    /// `secret` is random and made at each start.
    #[must_use]
    pub fn new(secret: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(secret))
    }

    /// The hash of the packet's flow: addresses, protocol and ports. A fragment is hashed without
    /// ports, for the later ones have none and all must take the same way.
    #[must_use]
    pub fn hash(&self, view: &View) -> u32 {
        let mut hasher = self.0;
        write_address(&mut hasher, view.source);
        write_address(&mut hasher, view.destination);
        let ports = view.ports.filter(|_| view.fragment == Fragment::Whole).unwrap_or((0, 0));
        let tail = u64::from(view.protocol) << 32 | u64::from(ports.0) << 16 | u64::from(ports.1);
        hasher.write_u64(tail);
        hasher.finish() as u32
    }
}

fn write_address(hasher: &mut SipHasher13, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => hasher.write_u32(v4.to_bits()),
        IpAddr::V6(v6) => hasher.write_u128(v6.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use proptest::prelude::*;

    /// A destination options header of 8 bytes that leads to `next`.
    fn extension(next: u8) -> Vec<u8> {
        vec![next, 0, 1, 4, 0, 0, 0, 0]
    }

    #[test]
    fn both_families_are_read() {
        let v6 = Sample { traffic_class: 0xb9, ..Sample::tcp(true, b"hello") };
        let view = parse(&v6.build()).unwrap();
        assert_eq!(view.source, "fd48:4d00::1".parse::<IpAddr>().unwrap());
        assert_eq!((view.protocol, view.transport), (protocol::TCP, 40));
        assert_eq!((view.traffic_class, view.ecn()), (0xb9, 1));
        assert_eq!(view.ports, Some((40_000, 5_201)));
        let v4 = Sample { dont_fragment: false, extension: vec![1; 8], ..Sample::udp(false, b"") };
        let view = parse(&v4.build()).unwrap();
        assert_eq!((view.transport, view.dont_fragment), (28, false));
    }

    #[test]
    fn extension_headers_are_walked_to_a_bound() {
        let one = Sample { extension: extension(protocol::TCP), ..Sample::tcp(true, b"x") };
        let view = parse(&one.build()).unwrap();
        assert_eq!((view.protocol, view.transport), (protocol::TCP, 48));
        // An authentication header counts in words of 4 bytes, less 2 (RFC 4302 §2.2).
        let extension_of_12 = [[6, 1, 0, 0].as_slice(), &[0; 8]].concat();
        let mut authentic =
            Sample { extension: extension_of_12, ..Sample::tcp(true, b"x") }.build();
        authentic[6] = protocol::AUTHENTICATION;
        let view = parse(&authentic).unwrap();
        assert_eq!((view.transport, view.ports), (52, Some((40_000, 5_201))));
        let mut chain: Vec<u8> = (0..EXTENSIONS_MAX).flat_map(|_| extension(60)).collect();
        chain.extend(extension(protocol::TCP));
        let long = Sample { extension: chain, ..Sample::tcp(true, b"x") };
        let view = parse(&long.build()).unwrap();
        assert_eq!((view.protocol, view.ports), (60, None));
    }

    #[test]
    fn fragments_are_told_apart() {
        let fragment = |field| Sample { fragment: field, ..Sample::udp(false, b"x") }.build();
        assert_eq!(parse(&fragment(0x2000)).unwrap().fragment, Fragment::First);
        let later = parse(&fragment(0x0001)).unwrap();
        assert_eq!((later.fragment, later.ports), (Fragment::Later, None));
        let v6 = |field: u16| {
            let [high, low] = field.to_be_bytes();
            let extension = vec![protocol::UDP, 0, high, low, 0, 0, 0, 1];
            let mut packet = Sample { extension, ..Sample::udp(true, b"x") }.build();
            packet[6] = protocol::FRAGMENT;
            parse(&packet).unwrap()
        };
        assert_eq!(v6(0).fragment, Fragment::Whole);
        assert_eq!(v6(1).fragment, Fragment::First);
        assert_eq!((v6(8).fragment, v6(8).ports), (Fragment::Later, None));
    }

    #[test]
    fn a_length_that_is_not_that_of_the_packet_is_refused() {
        for ipv6 in [false, true] {
            let mut packet = Sample::tcp(ipv6, b"hello").build();
            packet.push(0);
            assert!(matches!(parse(&packet), Err(ParseError::Length { .. })));
            packet.truncate(packet.len() - 2);
            assert!(matches!(parse(&packet), Err(ParseError::Length { .. })));
            packet.truncate(19);
            assert!(matches!(parse(&packet), Err(ParseError::Truncated { .. })));
        }
        assert_eq!(parse(&[]), Err(ParseError::Version(0)));
        assert_eq!(parse(&[0x50; 40]), Err(ParseError::Version(0x50)));
        let mut short = Sample::udp(false, b"").build();
        short[0] = 0x44;
        assert!(matches!(parse(&short), Err(ParseError::Truncated { .. })));
    }

    #[test]
    fn a_flow_has_one_hash_and_its_fragments_another() {
        let hasher = FlowHasher::new(&[7; 16]);
        let hash = |sample: &Sample| hasher.hash(&parse(&sample.build()).unwrap());
        let first = Sample::udp(false, b"one");
        assert_eq!(hash(&first), hash(&Sample::udp(false, b"two")));
        let other = Sample { ports: (40_001, 5_201), ..first.clone() };
        assert_ne!(hash(&first), hash(&other));
        let pieces = [0x2000, 0x0001].map(|fragment| Sample { fragment, ..first.clone() });
        assert_eq!(hash(&pieces[0]), hash(&pieces[1]));
        let secret = FlowHasher::new(&[8; 16]);
        assert_ne!(hash(&first), secret.hash(&parse(&first.build()).unwrap()));
    }

    proptest! {
        #[test]
        fn whatever_comes_the_view_stays_inside(
            version in prop_oneof![Just(0x45u8), Just(0x4f), Just(0x60)],
            mut bytes in proptest::collection::vec(any::<u8>(), 1..200),
            next in prop_oneof![Just(0u8), Just(43), Just(44), Just(51), Just(60), Just(6)],
        ) {
            bytes[0] = version;
            let len = bytes.len() as u16;
            if version == 0x60 && bytes.len() >= 40 {
                bytes[4..6].copy_from_slice(&(len - 40).to_be_bytes());
                bytes[6] = next;
            } else if bytes.len() >= 4 {
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
            }
            if let Ok(view) = parse(&bytes) {
                prop_assert!(view.transport <= bytes.len());
            }
        }
    }
}
