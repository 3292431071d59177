//! From the frame to the UDP payload: Ethernet, VLAN tags, IPv4 with options, IPv6 with extension headers.
//!
//! [`locate`] finds the datagram and believes nothing that it need not; [`is_valid`] checks the lengths
//! and the checksum, only for those that turned out to be STOQ's. Called for each frame.

use stoq_xdp_types::{Address, from_v4};

use crate::frame::Frame;

/// VLAN tags that are looked through: one, or two of QinQ (IEEE 802.1ad).
const VLAN_TAGS_MAX: usize = 2;

/// IPv6 extension headers that are looked through. Hop-by-hop, destination and routing options come once
/// each, destination options twice (RFC 8200 §4.1); a packet with more goes to the kernel.
const EXTENSIONS_MAX: usize = 4;

/// Least length of a UDP datagram that holds anything: its header and a byte.
const UDP_MIN: usize = 8 + 1;

const ETHERNET_TYPE_AT: usize = 12;
const ETHERNET_LEN: usize = 14;
const VLAN_LEN: usize = 4;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// "More fragments" and the offset (RFC 791 §3.1).
const FRAGMENT: u16 = 0x3fff;

/// Where a UDP datagram is, and where it goes. Offsets are from the start of the frame, in bytes.
pub struct Datagram {
    /// Whether it came in IPv4.
    pub is_v4: bool,
    /// Sender's address.
    pub source: Address,
    /// Receiver's address.
    pub destination: Address,
    /// Destination port.
    pub port: u16,
    /// The UDP header.
    pub udp_at: usize,
    /// Length that the UDP header tells, itself included.
    pub udp_len: usize,
    /// The IP header.
    ip_at: usize,
    /// Where the packet ends, by the IP header.
    ip_end: usize,
}

impl Datagram {
    /// Where the payload begins.
    #[inline(always)]
    pub fn payload_at(&self) -> usize {
        self.udp_at + 8
    }

    /// Length of the payload in bytes; to be asked for valid datagrams only.
    #[inline(always)]
    pub fn payload_len(&self) -> usize {
        self.udp_len.wrapping_sub(8)
    }
}

/// What IP says of a packet that holds a whole UDP datagram.
struct Ip {
    is_v4: bool,
    source: Address,
    destination: Address,
    udp_at: usize,
    end: usize,
}

/// Finds the UDP datagram of a frame; `None` for all that is none, and for fragments, which the kernel
/// puts together.
#[inline(always)]
pub fn locate(frame: Frame<'_>) -> Option<Datagram> {
    let (kind, ip_at) = ethernet(frame)?;
    let ip = match kind {
        IPV4 => ipv4(frame, ip_at)?,
        IPV6 => ipv6(frame, ip_at)?,
        _ => return None,
    };
    let [_, port, udp_len, _] = frame.read::<[u16; 4]>(ip.udp_at)?;
    Some(Datagram {
        is_v4: ip.is_v4,
        source: ip.source,
        destination: ip.destination,
        port: u16::from_be(port),
        udp_at: ip.udp_at,
        udp_len: usize::from(u16::from_be(udp_len)),
        ip_at,
        ip_end: ip.end,
    })
}

/// The type of the frame's content and where it begins.
#[inline(always)]
fn ethernet(frame: Frame<'_>) -> Option<(u16, usize)> {
    let mut at = ETHERNET_LEN;
    let mut kind = u16::from_be(frame.read(ETHERNET_TYPE_AT)?);
    for _ in 0..VLAN_TAGS_MAX {
        if kind != VLAN && kind != QINQ {
            break;
        }
        let [_, inner] = frame.read::<[u16; 2]>(at)?;
        kind = u16::from_be(inner);
        at += VLAN_LEN;
    }
    Some((kind, at))
}

#[inline(always)]
fn ipv4(frame: Frame<'_>, at: usize) -> Option<Ip> {
    let [first, second, third, source, destination] = frame.read::<[u32; 5]>(at)?;
    let [version_and_len, _, total @ ..] = first.to_ne_bytes();
    let [_, _, fragment @ ..] = second.to_ne_bytes();
    let [_, protocol, ..] = third.to_ne_bytes();
    let header_len = usize::from(version_and_len & 0x0f) * 4;
    let is_whole = u16::from_be_bytes(fragment) & FRAGMENT == 0;
    if protocol != UDP || version_and_len >> 4 != 4 || header_len < IPV4_LEN || !is_whole {
        return None;
    }
    Some(Ip {
        is_v4: true,
        source: from_v4(source),
        destination: from_v4(destination),
        udp_at: at + header_len,
        end: at + usize::from(u16::from_be_bytes(total)),
    })
}

#[inline(always)]
fn ipv6(frame: Frame<'_>, at: usize) -> Option<Ip> {
    let [first, s0, s1, d0, d1] = frame.read::<[u64; 5]>(at)?;
    let [version, _, _, _, l0, l1, mut next, _] = first.to_ne_bytes();
    if version >> 4 != 6 {
        return None;
    }
    let mut udp_at = at + IPV6_LEN;
    for _ in 0..EXTENSIONS_MAX {
        if next != HOP_BY_HOP && next != ROUTING && next != DESTINATION {
            break;
        }
        let [after, len, _, segments_left] = frame.read::<[u8; 4]>(udp_at)?;
        if next == ROUTING && segments_left != 0 {
            // The destination is but the next stop: that is for the kernel.
            return None;
        }
        next = after;
        udp_at += (usize::from(len) + 1) * 8;
    }
    if next != UDP {
        return None;
    }
    let end = at + IPV6_LEN + usize::from(u16::from_be_bytes([l0, l1]));
    Some(Ip { is_v4: false, source: [s0, s1], destination: [d0, d1], udp_at, end })
}

/// Whether the lengths fit each other and the frame, and the IPv4 checksum is right. The lengths are
/// those of the headers: Ethernet pads short frames.
#[inline(always)]
pub fn is_valid(frame: Frame<'_>, datagram: &Datagram) -> bool {
    datagram.udp_len >= UDP_MIN
        && datagram.udp_at + datagram.udp_len <= datagram.ip_end
        && frame.holds(datagram.ip_end)
        && (!datagram.is_v4 || has_checksum(frame, datagram))
}

/// Whether the ones' complement sum over the IPv4 header is as it must be (RFC 1071).
#[inline(always)]
fn has_checksum(frame: Frame<'_>, datagram: &Datagram) -> bool {
    let Some(fixed) = frame.read::<[u32; 5]>(datagram.ip_at) else { return false };
    let mut sum: u64 = 0;
    for word in fixed {
        sum += u64::from(word);
    }
    if datagram.udp_at > datagram.ip_at + IPV4_LEN {
        sum += options(frame, datagram);
    }
    // At most fifteen words were added: twice is enough to bring the carries home, and once more.
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

/// The sum over the options of an IPv4 header.
#[inline(always)]
fn options(frame: Frame<'_>, datagram: &Datagram) -> u64 {
    let frame = frame.unknown();
    let mut sum = 0;
    // The header's length has four bits and counts words: ten beyond the fixed part at most.
    for index in 0..10 {
        let at = datagram.ip_at + IPV4_LEN + index * 4;
        if at >= datagram.udp_at {
            break;
        }
        sum += u64::from(frame.read::<u32>(at).unwrap_or(0));
    }
    sum
}
