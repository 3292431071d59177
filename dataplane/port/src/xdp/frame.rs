//! Ethernet, IP and UDP headers around a datagram: taken apart on the way in, written on the way out.
//!
//! Pure. What arrives has passed the XDP program, but is checked again here, for a program may be
//! replaced and memory is shared. Checksums of received UDP packets are not verified: frames of a
//! local stack carry none yet, and QUIC's own protection covers the payload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use stoq_checksum::Sum;

const ETHERNET: usize = 14;
const VLAN: usize = 4;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;

/// Room in front of a datagram: the longest headers that are written here.
pub(crate) const HEADROOM: usize = ETHERNET + VLAN + IPV6 + UDP;

/// Tags that a received frame may carry: 802.1Q, or 802.1ad with it inside (QinQ).
const TAGS_MAX: usize = 2;

/// Extension headers that are passed over in a received packet; the XDP program has the same bound.
const EXTENSIONS_MAX: usize = 8;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_QINQ: u16 = 0x88a8;
const PROTOCOL_UDP: u8 = 17;

/// Hops that a packet may take: the kernel's own default.
const HOP_LIMIT: u8 = 64;

/// The flag "don't fragment" of IPv4: QUIC wants to know what does not fit (RFC 9000 §14).
const DONT_FRAGMENT: u16 = 0x4000;

/// What a received frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// The two ECN bits (RFC 3168 §5).
    pub(crate) ecn: u8,
    /// Where the datagram is.
    pub(crate) payload: Range<usize>,
}

/// Takes the headers of a frame apart; `None` if it is no whole UDP packet.
pub(crate) fn parse(frame: &[u8]) -> Option<Received> {
    let mut at = 12;
    let mut kind = word(frame, at)?;
    for _ in 0..TAGS_MAX {
        if kind == TYPE_VLAN || kind == TYPE_QINQ {
            at += VLAN;
            kind = word(frame, at)?;
        }
    }
    match kind {
        TYPE_IPV4 => parse_ipv4(frame, at + 2),
        TYPE_IPV6 => parse_ipv6(frame, at + 2),
        _ => None,
    }
}

fn parse_ipv4(frame: &[u8], at: usize) -> Option<Received> {
    let header: &[u8; IPV4] = frame.get(at..)?.first_chunk()?;
    let length = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & !DONT_FRAGMENT;
    let whole = header[0] >> 4 == 4 && length >= IPV4 && fragment == 0;
    if !whole || header[9] != PROTOCOL_UDP || total < length {
        return None;
    }
    let from = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let to = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    udp(frame, at + length..at + total, header[1] & 3, from.into(), to.into())
}

fn parse_ipv6(frame: &[u8], at: usize) -> Option<Received> {
    let header: &[u8; IPV6] = frame.get(at..)?.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| header[at + i]));
    let end = at + IPV6 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut next = header[6];
    let mut start = at + IPV6;
    for _ in 0..EXTENSIONS_MAX {
        // Hop-by-hop, routing, destination options (RFC 8200 §4.1).
        if !matches!(next, 0 | 43 | 60) {
            break;
        }
        let extension: &[u8; 2] = frame.get(start..)?.first_chunk()?;
        next = extension[0];
        start += (usize::from(extension[1]) + 1) * 8;
    }
    if next != PROTOCOL_UDP {
        return None;
    }
    let ecn = (header[1] >> 4) & 3;
    udp(frame, start..end, ecn, address(8).into(), address(24).into())
}

/// The UDP packet that fills `packet` of the frame.
fn udp(frame: &[u8], packet: Range<usize>, ecn: u8, from: IpAddr, to: IpAddr) -> Option<Received> {
    let bytes = frame.get(packet.clone())?;
    let [a, b, c, d, e, f, ..] = *bytes.first_chunk::<UDP>()?;
    let length = usize::from(u16::from_be_bytes([e, f]));
    if length < UDP || length > bytes.len() {
        return None;
    }
    let from = SocketAddr::new(from, u16::from_be_bytes([a, b]));
    let to = SocketAddr::new(to, u16::from_be_bytes([c, d]));
    Some(Received { from, to, ecn, payload: packet.start + UDP..packet.start + length })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Where a packet leaves to on the link: what Ethernet needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Our interface's address.
    pub source: [u8; 6],
    /// That of the next hop.
    pub destination: [u8; 6],
    /// The 802.1Q tag, if the route leaves by a VLAN of the interface.
    pub vlan: Option<u16>,
}

/// The headers of all packets from one address and port to another, ready but for lengths and
/// checksums.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: [u8; HEADROOM],
    len: usize,
    ip_at: usize,
    v4: bool,
    /// Sum of the IPv4 header without its length.
    ip_sum: Sum,
    /// Sum of pseudo-header and ports, without the length that is in both.
    udp_sum: Sum,
    /// Largest datagram that the way takes in bytes.
    pub(crate) payload_max: usize,
}

impl Template {
    /// The headers from `from` to `to`, which are of one family, over a link of this MTU in bytes.
    pub(crate) fn new(link: &Link, from: SocketAddr, to: SocketAddr, mtu: u16) -> Self {
        let mut bytes = Vec::with_capacity(HEADROOM);
        bytes.extend_from_slice(&link.destination);
        bytes.extend_from_slice(&link.source);
        if let Some(tag) = link.vlan {
            bytes.extend_from_slice(&TYPE_VLAN.to_be_bytes());
            bytes.extend_from_slice(&tag.to_be_bytes());
        }
        let v4 = to.is_ipv4();
        let ip_at = bytes.len() + 2;
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ipv4_header(&mut bytes, from, to),
            (from, to) => ipv6_header(&mut bytes, from, to),
        }
        let ip_len = bytes.len() - ip_at;
        let ip_sum = if v4 { Sum::default().bytes(&bytes[ip_at..]) } else { Sum::default() };
        for port in [from.port(), to.port(), 0, 0] {
            bytes.extend_from_slice(&port.to_be_bytes());
        }
        let udp_sum = Sum::default()
            .pseudo_header(from.ip(), to.ip(), PROTOCOL_UDP, 0)
            .word(from.port())
            .word(to.port());
        let len = bytes.len();
        bytes.resize(HEADROOM, 0);
        let bytes = std::array::from_fn(|i| bytes[i]);
        let payload_max = usize::from(mtu).saturating_sub(ip_len + UDP);
        Self { bytes, len, ip_at, v4, ip_sum, udp_sum, payload_max }
    }

    /// Bytes of the headers.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes the headers in front of the datagram, which is the rest of `packet`.
    pub(crate) fn write(&self, packet: &mut [u8]) {
        let (head, payload) = packet.split_at_mut(self.len);
        head.copy_from_slice(&self.bytes[..self.len]);
        let udp_len = (UDP + payload.len()) as u16;
        if self.v4 {
            let total = IPV4 as u16 + udp_len;
            let ip = &mut head[self.ip_at..];
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            ip[10..12].copy_from_slice(&self.ip_sum.word(total).finish().to_be_bytes());
        } else {
            head[self.ip_at + 4..self.ip_at + 6].copy_from_slice(&udp_len.to_be_bytes());
        }
        let sum = self.udp_sum.word(udp_len).word(udp_len).bytes(payload);
        let udp = &mut head[self.len - UDP..];
        udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
        udp[6..8].copy_from_slice(&sum.finish_udp().to_be_bytes());
    }
}

fn ipv4_header(bytes: &mut Vec<u8>, from: Ipv4Addr, to: Ipv4Addr) {
    bytes.extend_from_slice(&TYPE_IPV4.to_be_bytes());
    // No identification is needed where nothing may be fragmented (RFC 6864 §4.1).
    bytes.extend_from_slice(&[0x45, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&DONT_FRAGMENT.to_be_bytes());
    bytes.extend_from_slice(&[HOP_LIMIT, PROTOCOL_UDP, 0, 0]);
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&to.octets());
}

fn ipv6_header(bytes: &mut Vec<u8>, from: IpAddr, to: IpAddr) {
    bytes.extend_from_slice(&TYPE_IPV6.to_be_bytes());
    bytes.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, PROTOCOL_UDP, HOP_LIMIT]);
    for address in [from, to] {
        let address = match address {
            IpAddr::V6(v6) => v6,
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        };
        bytes.extend_from_slice(&address.octets());
    }
}

#[cfg(test)]
mod tests;
