//! Socket addresses and control messages as the kernel's bytes, without `unsafe`.
//!
//! Both ports and both senders use these, so that an address is mapped and a control message is
//! read in one place. All that is decoded here came from the kernel, but its contents from outside:
//! lengths are checked, and what does not fit is left out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either kind of socket address: a `sockaddr_in6`.
pub(crate) const NAME_LEN: usize = 28;

/// Room for control messages: a received packet has packet info (40 bytes), traffic class (24) and
/// segment size (24), with some to spare so that an unasked one does not truncate them; a sent one
/// has packet info and segment size.
pub(crate) const CONTROL_LEN: usize = 128;

/// Bytes of a `cmsghdr`: length, level, type.
const HEADER: usize = size_of::<usize>() + 8;

/// The address family of a socket, which decides how an IPv4 address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// A plain IPv4 socket.
    V4,
    /// An IPv6 socket that also carries IPv4, as mapped addresses (RFC 4291 §2.5.5.2).
    Dual,
}

/// A socket address in the kernel's form.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Name(pub(crate) [u8; NAME_LEN]);

/// Control messages in the kernel's form; aligned as a `cmsghdr` must be.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Control(pub(crate) [u8; CONTROL_LEN]);

/// Writes `addr` as a socket of `family` needs it; returns its length.
pub(crate) fn encode_name(addr: SocketAddr, family: Family, name: &mut Name) -> usize {
    let out = &mut name.0;
    match (addr, family) {
        (SocketAddr::V4(v4), Family::V4) => {
            out[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            out[2..4].copy_from_slice(&v4.port().to_be_bytes());
            out[4..8].copy_from_slice(&v4.ip().octets());
            out[8..16].fill(0);
            16
        }
        (SocketAddr::V4(v4), Family::Dual) => {
            encode_v6(&SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0), out)
        }
        (SocketAddr::V6(v6), _) => encode_v6(&v6, out),
    }
}

fn encode_v6(addr: &SocketAddrV6, out: &mut [u8; NAME_LEN]) -> usize {
    out[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    out[2..4].copy_from_slice(&addr.port().to_be_bytes());
    out[4..8].fill(0);
    out[8..24].copy_from_slice(&addr.ip().octets());
    out[24..28].copy_from_slice(&addr.scope_id().to_ne_bytes());
    NAME_LEN
}

/// Reads a socket address; a mapped IPv4 address becomes a plain one. `None` if it is neither
/// family or too short.
pub(crate) fn decode_name(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    if family == libc::AF_INET {
        let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
        return Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into());
    }
    if family != libc::AF_INET6 {
        return None;
    }
    let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
    let scope = u32::from_ne_bytes(bytes.get(24..28)?.try_into().ok()?);
    Some(match IpAddr::from(ip).to_canonical() {
        IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
    })
}

/// Writes the control messages of a send: `segment` splits the payload into datagrams of that many
/// bytes, `from` is the source address (left out when it is of another family than the
/// destination). Returns their length.
pub(crate) fn encode_control(
    segment: Option<u16>,
    from: Option<IpAddr>,
    to: SocketAddr,
    control: &mut Control,
) -> usize {
    let mut at = 0;
    match (from, to) {
        (Some(IpAddr::V4(from)), SocketAddr::V4(_)) => {
            // in_pktinfo: interface (0: by route), source address, unused destination.
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&from.octets());
            at = push(control, at, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        (Some(IpAddr::V6(from)), SocketAddr::V6(_)) => {
            // in6_pktinfo: source address, interface (0: by route).
            let mut info = [0; 20];
            info[..16].copy_from_slice(&from.octets());
            at = push(control, at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        _ => {}
    }
    if let Some(segment) = segment {
        at = push(control, at, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    at
}

fn push(control: &mut Control, at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
    let end = at + aligned(HEADER + data.len());
    let out = &mut control.0[at..end];
    out.fill(0);
    out[..size_of::<usize>()].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
    out[HEADER - 8..HEADER - 4].copy_from_slice(&level.to_ne_bytes());
    out[HEADER - 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
    out[HEADER..HEADER + data.len()].copy_from_slice(data);
    end
}

/// Control messages are aligned to the word (`CMSG_ALIGN`).
fn aligned(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

/// What the control messages of a received packet said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The local address that the packet was sent to.
    pub(crate) to: Option<IpAddr>,
    /// The two ECN bits.
    pub(crate) ecn: u8,
    /// The size of each datagram but the last, if the kernel joined several.
    pub(crate) segment: Option<usize>,
}

/// Reads the control messages of a received packet.
pub(crate) fn decode_control(mut bytes: &[u8]) -> Received {
    let mut received = Received::default();
    while let Some((level, kind, data, rest)) = split_message(bytes) {
        decode_message(&mut received, level, kind, data);
        bytes = rest;
    }
    received
}

/// The first control message (level, type, data) and what follows it.
fn split_message(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let header = bytes.get(..HEADER)?;
    let len = usize::from_ne_bytes(header[..size_of::<usize>()].try_into().ok()?);
    let level = i32::from_ne_bytes(header[HEADER - 8..HEADER - 4].try_into().ok()?);
    let kind = i32::from_ne_bytes(header[HEADER - 4..].try_into().ok()?);
    let data = bytes.get(HEADER..len)?;
    let rest = bytes.get(aligned(len)..).unwrap_or_default();
    Some((level, kind, data, rest))
}

fn decode_message(received: &mut Received, level: i32, kind: i32, data: &[u8]) {
    match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let ip = data.get(8..12).and_then(|ip| <[u8; 4]>::try_from(ip).ok());
            received.to = ip.map(IpAddr::from).or(received.to);
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let ip = data.get(..16).and_then(|ip| <[u8; 16]>::try_from(ip).ok());
            received.to = ip.map(|ip| IpAddr::from(ip).to_canonical()).or(received.to);
        }
        (libc::IPPROTO_IP, libc::IP_TOS) => {
            received.ecn = data.first().map_or(0, |tos| tos & 3);
        }
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            received.ecn = int(data).map_or(0, |class| (class & 3) as u8);
        }
        (libc::SOL_UDP, libc::UDP_GRO) => {
            received.segment = int(data).and_then(|size| usize::try_from(size).ok());
        }
        _ => {}
    }
}

fn int(data: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(data.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(addr: &str, family: Family) -> Option<SocketAddr> {
        let mut name = Name([0xff; NAME_LEN]);
        let len = encode_name(addr.parse().unwrap(), family, &mut name);
        decode_name(&name.0[..len])
    }

    #[test]
    fn an_address_survives_each_kind_of_socket() {
        for (addr, family) in [
            ("192.0.2.1:9292", Family::V4),
            ("192.0.2.1:9292", Family::Dual),
            ("[2001:db8::1]:9292", Family::Dual),
            ("[fe80::1%7]:9292", Family::Dual),
        ] {
            assert_eq!(round_trip(addr, family), addr.parse().ok(), "{addr} {family:?}");
        }
    }

    #[test]
    fn a_dual_stack_socket_gets_the_mapped_form() {
        let mut name = Name([0; NAME_LEN]);
        let len = encode_name("192.0.2.1:1".parse().unwrap(), Family::Dual, &mut name);
        assert_eq!(len, NAME_LEN);
        assert_eq!(name.0[18..24], [0xff, 0xff, 192, 0, 2, 1]);
    }

    #[test]
    fn control_messages_have_the_layout_of_the_kernel() {
        let mut control = Control([0; CONTROL_LEN]);
        let from = Some("2001:db8::1".parse().unwrap());
        let to = "[2001:db8::2]:9".parse().unwrap();
        let len = encode_control(Some(1350), from, to, &mut control);
        assert_eq!(len, 64);
        let (level, kind, data, rest) = split_message(&control.0[..len]).unwrap();
        assert_eq!((level, kind, data.len()), (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20));
        let (level, kind, data, rest) = split_message(rest).unwrap();
        assert_eq!((level, kind), (libc::SOL_UDP, libc::UDP_SEGMENT));
        assert_eq!(data, 1350u16.to_ne_bytes());
        assert!(rest.is_empty());
    }

    #[test]
    fn a_source_of_the_other_family_is_left_out() {
        let mut control = Control([0; CONTROL_LEN]);
        let from = Some("2001:db8::1".parse().unwrap());
        assert_eq!(encode_control(None, from, "192.0.2.1:9".parse().unwrap(), &mut control), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode_control(&bytes);
            decode_name(&bytes);
        }
    }
}
