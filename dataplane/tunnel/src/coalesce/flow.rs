//! One flow that is open for more packets: what may join it, and the super-packet that it becomes.
//! Used by the coalescer only.

use stoq_buffer::PacketBuf;

use super::{Key, MERGED_MAX};
use crate::header::flag::{ACK, CWR, FIN, PSH, RST, SYN, URG};
use crate::header::{PACKET_MAX, put, word, write_network};
use crate::packet::{IPV4_HEADER, IPV6_HEADER, View, protocol};
use crate::segment::{TCP_CHECKSUM, UDP_CHECKSUM, UDP_HEADER, tcp_header_len};
use crate::vnet::{self, Gso, Partial, Super, VnetHeader};
use stoq_checksum::Sum;

/// Longest headers that are merged: IPv6 without extension headers and TCP with all options.
const HEADERS_MAX: usize = IPV6_HEADER + 60;

/// A packet that may be part of a super-packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    headers: usize,
    payload: usize,
    tcp: Option<Tcp>,
}

#[derive(Clone, Copy, Debug)]
struct Tcp {
    sequence: u32,
    /// The word of data offset and flags.
    flags: u16,
}

impl Piece {
    /// `None` when the packet has to go alone: no payload, options or extension headers of IP,
    /// TCP flags that mean something at one place only, UDP without a checksum.
    pub(super) fn of(packet: &[u8], view: &View) -> Option<Self> {
        let network = if view.is_ipv6() { IPV6_HEADER } else { IPV4_HEADER };
        if view.transport != network {
            return None;
        }
        let piece = match view.protocol {
            protocol::TCP => Self::of_tcp(packet, network)?,
            _ => Self::of_udp(packet, network)?,
        };
        (piece.payload > 0).then_some(piece)
    }

    fn of_tcp(packet: &[u8], at: usize) -> Option<Self> {
        let headers = at + tcp_header_len(packet, at)?;
        let flags = word(packet, at + 12);
        if flags & (SYN | RST | URG | ACK) != ACK {
            return None;
        }
        let sequence = u32::from(word(packet, at + 4)) << 16 | u32::from(word(packet, at + 6));
        let payload = packet.len() - headers;
        Some(Self { headers, payload, tcp: Some(Tcp { sequence, flags }) })
    }

    fn of_udp(packet: &[u8], at: usize) -> Option<Self> {
        let headers = at + UDP_HEADER;
        let payload = packet.len().checked_sub(headers)?;
        let whole = usize::from(word(packet, at + 4)) == payload + UDP_HEADER;
        let summed = word(packet, at + UDP_CHECKSUM) != 0;
        (whole && summed).then_some(Self { headers, payload, tcp: None })
    }

    /// Whether nothing may follow it: PSH and FIN belong to the end of a super-packet.
    pub(super) fn closes(&self) -> bool {
        self.tcp.is_some_and(|tcp| tcp.flags & (PSH | FIN) != 0)
    }
}

/// What became of a packet that wanted to join.
#[derive(Debug)]
pub(super) enum Joined {
    /// It joined, and more may.
    More,
    /// It joined as the last.
    Full,
    /// It does not continue the flow.
    No(PacketBuf),
}

/// Consecutive packets of one flow.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Never empty while the flow is open.
    packets: Vec<PacketBuf>,
    first: Option<(Key, Piece)>,
    /// Length of the super-packet.
    len: usize,
    /// Whether the checksum of the first packet was checked: only when a second one comes.
    checked: bool,
    /// The pseudo-header, without the length.
    pseudo: Sum,
}

impl Flow {
    pub(super) fn start(&mut self, key: Key, piece: Piece, packet: PacketBuf) {
        debug_assert!(self.packets.is_empty(), "a flow starts empty");
        self.packets.reserve(MERGED_MAX);
        self.len = packet.len();
        self.packets.push(packet);
        let View { source, destination, protocol, .. } = key.view;
        self.pseudo = Sum::default().pseudo_header(source, destination, protocol, 0);
        self.first = Some((key, piece));
        self.checked = false;
    }

    pub(super) fn clear(&mut self) {
        self.packets.clear();
        self.first = None;
    }

    pub(super) fn is_of(&self, key: &Key) -> bool {
        self.first.as_ref().is_some_and(|(own, _)| own.is_same_flow(key))
    }

    pub(super) fn packets(&self) -> &[PacketBuf] {
        &self.packets
    }

    pub(super) fn join(&mut self, packet: PacketBuf, piece: Piece) -> Joined {
        if !self.is_continued_by(packet.as_slice(), &piece) || !self.sums_are_right(&packet) {
            return Joined::No(packet);
        }
        self.len += piece.payload;
        self.packets.push(packet);
        let shorter = self.first.is_some_and(|(_, first)| piece.payload < first.payload);
        let full = self.packets.len() == MERGED_MAX;
        if shorter || full || piece.closes() { Joined::Full } else { Joined::More }
    }

    fn is_continued_by(&self, packet: &[u8], piece: &Piece) -> bool {
        let Some((key, first)) = &self.first else { return false };
        let head = self.packets[0].as_slice();
        let at = key.view.transport;
        piece.headers == first.headers
            && piece.payload <= first.payload
            && self.len + piece.payload <= PACKET_MAX
            && self.network_continues(head, packet, key.view.is_ipv6())
            && match (first.tcp, piece.tcp) {
                (Some(first_tcp), Some(tcp)) => {
                    let offset = (self.packets.len() * first.payload) as u32;
                    tcp.sequence == first_tcp.sequence.wrapping_add(offset)
                        && (tcp.flags & !(PSH | FIN)) == (first_tcp.flags & !CWR)
                        && tcp_continues(&head[at..first.headers], &packet[at..first.headers])
                }
                (None, None) => true,
                _ => false,
            }
    }

    /// Whether the IP headers differ only as those of pieces do.
    fn network_continues(&self, head: &[u8], packet: &[u8], is_ipv6: bool) -> bool {
        if is_ipv6 {
            return head[..4] == packet[..4] && head[6..8] == packet[6..8];
        }
        // The identification of a packet that is never fragmented means nothing (RFC 6864 §4.1).
        let dont_fragment = head[6] & 0x40 != 0;
        let next = word(head, 4).wrapping_add(self.packets.len() as u16);
        head[..2] == packet[..2]
            && head[6..9] == packet[6..9]
            && (dont_fragment || word(packet, 4) == next)
    }

    fn sums_are_right(&mut self, packet: &PacketBuf) -> bool {
        let Some((key, _)) = self.first else { return false };
        let is_right = |packet: &PacketBuf| {
            let (network, transport) = packet.as_slice().split_at(key.view.transport);
            if !key.view.is_ipv6() && Sum::default().bytes(network).finish() != 0 {
                return false;
            }
            // A transport header with its payload is shorter than 2^16.
            self.pseudo.word(transport.len() as u16).bytes(transport).finish() == 0
        };
        self.checked = self.checked || is_right(&self.packets[0]);
        self.checked && is_right(packet)
    }

    /// What follows the headers, of each packet.
    pub(super) fn payloads(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let headers = self.first.map_or(0, |(_, piece)| piece.headers);
        self.packets.iter().map(move |packet| &packet.as_slice()[headers..])
    }

    /// The device's header and the headers of the super-packet.
    pub(super) fn super_headers(&self) -> SuperHeaders {
        let mut out = SuperHeaders { bytes: [0; vnet::HEADER + HEADERS_MAX], len: vnet::HEADER };
        let (Some((key, piece)), Some(last)) = (self.first, self.packets.last()) else {
            return out;
        };
        out.len += piece.headers;
        let at = key.view.transport;
        let (before, headers) = out.bytes.split_at_mut(vnet::HEADER);
        let headers = &mut headers[..piece.headers];
        headers.copy_from_slice(&self.packets[0].as_slice()[..piece.headers]);
        write_network(headers, &key.view, self.len);
        let (kind, offset) = match piece.tcp {
            Some(_) => {
                headers[at + 13] |= last.as_slice()[at + 13] & (PSH | FIN) as u8;
                (if key.view.is_ipv6() { Gso::Tcp6 } else { Gso::Tcp4 }, TCP_CHECKSUM)
            }
            None => {
                put(headers, at + 4, (self.len - at) as u16);
                (Gso::Udp, UDP_CHECKSUM)
            }
        };
        let sum = self.pseudo.word((self.len - at) as u16).partial();
        put(headers, at + offset, sum);
        let gso = Super {
            kind,
            size: piece.payload as u16,
            headers: piece.headers as u16,
            ecn: piece.tcp.is_some_and(|tcp| tcp.flags & CWR != 0),
        };
        let partial = Partial { start: at as u16, offset: offset as u16 };
        before.copy_from_slice(&VnetHeader { gso: Some(gso), partial: Some(partial) }.encode());
        out
    }
}

/// What stands before the payload of a super-packet.
#[derive(Debug)]
pub(super) struct SuperHeaders {
    bytes: [u8; vnet::HEADER + HEADERS_MAX],
    len: usize,
}

impl SuperHeaders {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Sequence, flags and checksum differ between pieces; ports are those of the flow.
fn tcp_continues(head: &[u8], packet: &[u8]) -> bool {
    head[8..12] == packet[8..12] && head[14..16] == packet[14..16] && head[18..] == packet[18..]
}
