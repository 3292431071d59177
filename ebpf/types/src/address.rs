//! Addresses as keys of maps: the sixteen bytes of IPv6, IPv4 mapped (RFC 4291 §2.5.5.2).

use core::net::IpAddr;

/// The bytes of an address as they stand in a packet, in two words, so that a program copies it by two
/// instructions.
pub type Address = [u64; 2];

/// The second half of `::ffff:0:0`, as it stands in a packet.
const MAPPED: u64 = u32::from_ne_bytes([0, 0, 0xff, 0xff]) as u64;

/// An address as a key.
#[must_use]
pub fn address(ip: IpAddr) -> Address {
    let octets = match ip {
        IpAddr::V4(ip) => return from_v4(u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => ip.octets(),
    };
    let half = |at| u64::from_ne_bytes(core::array::from_fn(|i| octets[at + i]));
    [half(0), half(8)]
}

/// An IPv4 address, as it stands in a packet, as a key.
#[inline(always)]
#[must_use]
pub const fn from_v4(octets: u32) -> Address {
    [0, (octets as u64) << 32 | MAPPED]
}

/// The prefix that the sources of Initial packets are told apart by: what one subscriber has, an
/// address of IPv4 and a /64 of IPv6. The two cannot meet: no host has an address in ::/32.
#[inline(always)]
#[must_use]
pub const fn source_prefix(source: Address, is_v4: bool) -> u64 {
    if is_v4 { source[1] } else { source[0] }
}
