//! What a router owes to the sender of a packet that it cannot forward: ICMP "fragmentation
//! needed" (RFC 792, RFC 1191 §4), ICMPv6 "packet too big" (RFC 4443 §3.2), and "destination
//! unreachable" of both.
//!
//! A worker owns an [`Answerer`] and writes what it returns to the device. It answers at a bounded
//! rate, and never what must not be answered (RFC 1122 §3.2.2, RFC 4443 §2.4): errors, multicast,
//! later fragments, and sources that are not one host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use stoq_buffer::PacketBuf;

use crate::packet::{Fragment, IPV4_HEADER, IPV6_HEADER, View, protocol};
use stoq_checksum::Sum;

/// Answers in a second: the `icmp_msgs_per_sec` of Linux.
pub const ANSWERS_PER_S: u32 = 1_000;

/// Answers at once: the `icmp_msgs_burst` of Linux.
pub const ANSWERS_BURST: u32 = 50;

/// What one answer costs.
const ANSWER_COST: Duration = Duration::from_nanos(1_000_000_000 / ANSWERS_PER_S as u64);

/// Most bytes of an answer over IPv4 (RFC 1812 §4.3.2.3).
const ANSWER_V4_MAX: usize = 576;

/// Most bytes of an answer over IPv6: the least MTU of IPv6 (RFC 4443 §2.4 (c)).
const ANSWER_V6_MAX: usize = 1_280;

/// No IPv6 link is smaller (RFC 8200 §5).
const MTU_V6_MIN: u16 = 1_280;

/// No IPv4 link is smaller (RFC 791 §3.2).
const MTU_V4_MIN: u16 = 68;

const ICMP_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;
/// Precedence of internetwork control (RFC 1812 §4.3.2.5).
const TRAFFIC_CLASS: u8 = 0xc0;

/// What is wrong with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    TooBig { mtu: u16 },
    NoRoute,
}

impl Message {
    /// Type, code and the four bytes behind the checksum.
    fn fields(self, ipv6: bool) -> (u8, u8, [u8; 4]) {
        let rest = |mtu: u16, least: u16| u32::from(mtu.max(least)).to_be_bytes();
        match (self, ipv6) {
            (Self::TooBig { mtu }, true) => (2, 0, rest(mtu, MTU_V6_MIN)),
            (Self::TooBig { mtu }, false) => (3, 4, rest(mtu, MTU_V4_MIN)),
            (Self::NoRoute, true) => (1, 0, [0; 4]),
            (Self::NoRoute, false) => (3, 0, [0; 4]),
        }
    }
}

/// Makes answers, at most [`ANSWERS_PER_S`] of them.
#[derive(Debug)]
pub struct Answerer {
    credit: Duration,
    last: Instant,
}

impl Answerer {
    /// An answerer that may answer a burst at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { credit: ANSWER_COST * ANSWERS_BURST, last: now }
    }

    /// Tells the sender of `packet` that packets of at most `mtu` bytes get through. `from` is the
    /// address of this node that it comes from. `None` when it must not or may not be answered.
    ///
    /// It is sent for an IPv4 packet without DF too: fragmenting is left to its sender.
    pub fn too_big(
        &mut self,
        packet: &[u8],
        view: &View,
        mtu: u16,
        from: IpAddr,
        now: Instant,
    ) -> Option<PacketBuf> {
        self.answer(Message::TooBig { mtu }, packet, view, from, now)
    }

    /// Tells the sender of `packet` that no peer has its destination; otherwise as
    /// [`Answerer::too_big`].
    pub fn no_route(
        &mut self,
        packet: &[u8],
        view: &View,
        from: IpAddr,
        now: Instant,
    ) -> Option<PacketBuf> {
        self.answer(Message::NoRoute, packet, view, from, now)
    }

    fn answer(
        &mut self,
        message: Message,
        packet: &[u8],
        view: &View,
        from: IpAddr,
        now: Instant,
    ) -> Option<PacketBuf> {
        if !may_be_answered(packet, view) || !self.has_credit(now) {
            return None;
        }
        match (from, view.source) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Some(build_v4(message, packet, from, to)),
            (IpAddr::V6(from), IpAddr::V6(to)) => Some(build_v6(message, packet, from, to)),
            _ => None,
        }
    }

    fn has_credit(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.last);
        self.last = self.last.max(now);
        self.credit = self.credit.saturating_add(earned).min(ANSWER_COST * ANSWERS_BURST);
        let left = self.credit.checked_sub(ANSWER_COST);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }
}

fn may_be_answered(packet: &[u8], view: &View) -> bool {
    let source_is_one_host = match view.source {
        IpAddr::V4(v4) => {
            let reserved = v4.octets()[0] == 0 || v4.octets()[0] >= 240;
            !(reserved || v4.is_multicast() || v4.is_loopback())
        }
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_loopback() || v6.is_unspecified()),
    };
    let many = match view.destination {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    source_is_one_host
        && !many
        && view.fragment != Fragment::Later
        && !is_icmp_error(packet.get(view.transport).copied(), view.protocol)
}

/// ICMP that cannot be read counts as an error, for it may be one.
fn is_icmp_error(kind: Option<u8>, protocol: u8) -> bool {
    match (protocol, kind) {
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        (protocol::ICMP, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        // All below 128, and redirect.
        (protocol::ICMPV6, Some(kind)) => kind < 128 || kind == 137,
        (protocol::ICMP | protocol::ICMPV6, None) => true,
        _ => false,
    }
}

fn icmp_header(message: Message, ipv6: bool) -> [u8; ICMP_HEADER] {
    let (kind, code, [a, b, c, d]) = message.fields(ipv6);
    [kind, code, 0, 0, a, b, c, d]
}

fn build_v4(message: Message, packet: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> PacketBuf {
    let quoted = &packet[..packet.len().min(ANSWER_V4_MAX - IPV4_HEADER - ICMP_HEADER)];
    let mut icmp = icmp_header(message, false);
    let sum = Sum::default().bytes(&icmp).bytes(quoted).finish();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let len = (IPV4_HEADER + ICMP_HEADER + quoted.len()) as u16;
    let mut header = [0; IPV4_HEADER];
    header[..2].copy_from_slice(&[0x45, TRAFFIC_CLASS]);
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[8..10].copy_from_slice(&[HOP_LIMIT, protocol::ICMP]);
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = Sum::default().bytes(&header).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    join(&header, &icmp, quoted)
}

fn build_v6(message: Message, packet: &[u8], from: Ipv6Addr, to: Ipv6Addr) -> PacketBuf {
    let quoted = &packet[..packet.len().min(ANSWER_V6_MAX - IPV6_HEADER - ICMP_HEADER)];
    let mut icmp = icmp_header(message, true);
    let len = ICMP_HEADER + quoted.len();
    let sum = Sum::default()
        .pseudo_header(from.into(), to.into(), protocol::ICMPV6, len as u32)
        .bytes(&icmp)
        .bytes(quoted)
        .finish();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut header = [0; IPV6_HEADER];
    header[..2].copy_from_slice(&[0x60 | TRAFFIC_CLASS >> 4, TRAFFIC_CLASS << 4]);
    header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    header[6..8].copy_from_slice(&[protocol::ICMPV6, HOP_LIMIT]);
    header[8..24].copy_from_slice(&from.octets());
    header[24..40].copy_from_slice(&to.octets());
    join(&header, &icmp, quoted)
}

fn join(header: &[u8], icmp: &[u8], quoted: &[u8]) -> PacketBuf {
    let mut answer = PacketBuf::from_slice(header);
    answer.extend_from_slice(icmp);
    answer.extend_from_slice(quoted);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse;
    use crate::sample::{Sample, bytes};

    const FROM_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 92, 0, 1));
    const FROM_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd48, 0x4d00, 0, 0, 0, 0, 0, 9));

    fn too_big(packet: &[u8], from: IpAddr) -> Option<Vec<u8>> {
        let now = Instant::now();
        let view = parse(packet).unwrap();
        let answer = Answerer::new(now).too_big(packet, &view, 1_000, from, now)?;
        Some(answer.as_slice().to_vec())
    }

    #[test]
    fn ipv4_is_told_that_fragmentation_is_needed() {
        let packet = Sample::udp(false, &bytes(1_400)).build();
        let answer = too_big(&packet, FROM_V4).unwrap();
        let view = parse(&answer).unwrap();
        assert_eq!((view.source, view.destination), (FROM_V4, "10.1.0.1".parse().unwrap()));
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(answer[24..28], [0, 0, 0x03, 0xe8]);
        assert_eq!((answer.len(), &answer[28..]), (576, &packet[..548]));
        assert_eq!(Sum::default().bytes(&answer[..20]).finish(), 0);
        assert_eq!(Sum::default().bytes(&answer[20..]).finish(), 0);
    }

    #[test]
    fn ipv6_is_told_that_the_packet_is_too_big_but_never_below_1280() {
        let packet = Sample::tcp(true, &bytes(1_400)).build();
        let answer = too_big(&packet, FROM_V6).unwrap();
        let view = parse(&answer).unwrap();
        assert_eq!((view.source, view.protocol), (FROM_V6, protocol::ICMPV6));
        assert_eq!(answer[40..42], [2, 0]);
        assert_eq!(answer[44..48], 1_280u32.to_be_bytes());
        assert_eq!((answer.len(), &answer[48..]), (1_280, &packet[..1_232]));
        let sum = Sum::default()
            .pseudo_header(view.source, view.destination, protocol::ICMPV6, 1_240)
            .bytes(&answer[40..]);
        assert_eq!(sum.finish(), 0);
    }

    #[test]
    fn a_packet_to_nowhere_is_answered() {
        let now = Instant::now();
        let mut answerer = Answerer::new(now);
        for (ipv6, from, message) in [(false, FROM_V4, [3, 0]), (true, FROM_V6, [1, 0])] {
            let packet = Sample::udp(ipv6, b"x").build();
            let view = parse(&packet).unwrap();
            let answer = answerer.no_route(&packet, &view, from, now).unwrap();
            let icmp = parse(answer.as_slice()).unwrap().transport;
            assert_eq!(answer.as_slice()[icmp..icmp + 2], message);
            assert!(answer.as_slice().ends_with(&packet));
        }
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let refused = |ipv6: bool, from: IpAddr, change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = Sample::udp(ipv6, b"12345678").build();
            change(&mut packet);
            assert_eq!(too_big(&packet, from), None);
        };
        assert!(too_big(&Sample::udp(false, b"x").build(), FROM_V4).is_some());
        refused(false, FROM_V4, &|p| p[6..8].copy_from_slice(&[0, 1]));
        refused(false, FROM_V4, &|p| p[16] = 224);
        refused(false, FROM_V4, &|p| p[16..20].fill(255));
        for first in [0, 127, 224, 255] {
            refused(false, FROM_V4, &|p| p[12] = first);
        }
        refused(true, FROM_V6, &|p| p[24] = 0xff);
        refused(true, FROM_V6, &|p| p[8] = 0xff);
        refused(true, FROM_V6, &|p| p[8..24].fill(0));
        for kind in [3, 4, 5, 11, 12] {
            refused(false, FROM_V4, &|p| (p[9], p[20]) = (protocol::ICMP, kind));
        }
        for kind in [1, 2, 127, 137] {
            refused(true, FROM_V6, &|p| (p[6], p[40]) = (protocol::ICMPV6, kind));
        }
        refused(true, FROM_V4, &|_| {});
        let empty = Sample { protocol: protocol::ICMP, ..Sample::udp(false, b"") };
        let mut packet = empty.build();
        packet.truncate(20);
        packet[3] = 20;
        assert_eq!(too_big(&packet, FROM_V4), None);
    }

    #[test]
    fn an_echo_request_is_answered() {
        let mut packet = Sample::udp(false, b"12345678").build();
        (packet[9], packet[20]) = (protocol::ICMP, 8);
        assert!(too_big(&packet, FROM_V4).is_some());
    }

    #[test]
    fn the_rate_is_bounded() {
        let start = Instant::now();
        let mut answerer = Answerer::new(start);
        let packet = Sample::udp(false, b"x").build();
        let view = parse(&packet).unwrap();
        let mut answers = |now| {
            let answer = |_: &u32| answerer.no_route(&packet, &view, FROM_V4, now).is_some();
            (0..2_000).filter(answer).count()
        };
        assert_eq!(answers(start), 50);
        assert_eq!(answers(start + Duration::from_millis(10)), 10);
        assert_eq!(answers(start), 0);
        assert_eq!(answers(start + Duration::from_secs(3_600)), 50);
    }
}
