//! Software segmentation: a super-packet from the device becomes packets that fit a datagram.
//!
//! Every byte is copied once, straight into a pooled buffer, and summed once. What all pieces have
//! in common - the pseudo-header, the transport header, the IPv4 header - is summed once for the
//! super-packet, and each piece adds its own length, number and payload. Called by workers for each
//! packet that they read from the device; a packet that is no super-packet is copied and its
//! checksum completed.

use stoq_buffer::PacketBuf;

use crate::header::flag::{CWR, FIN, PSH};
use crate::packet::{self, Fragment, View};
use crate::vnet::{Gso, Partial, Super, VnetHeader};
use stoq_checksum::Sum;

/// Most pieces of one super-packet: 65,535 bytes in the smallest pieces that Linux makes, which
/// have 8 bytes of payload (`tcp_min_snd_mss` is 48, of which options can take 40).
pub const SEGMENTS_MAX: usize = 8192;

/// Longest headers of a super-packet: IPv6 with 128 bytes of extension headers and TCP with all
/// options would be 228.
pub(crate) const HEADERS_MAX: usize = 256;

const TCP_HEADER: usize = 20;
pub(crate) const UDP_HEADER: usize = 8;
pub(crate) const TCP_CHECKSUM: usize = 16;
pub(crate) const UDP_CHECKSUM: usize = 6;

/// Why a packet from the device cannot be cut. All of it counts as `device_read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The header says one thing, the packet is another.
    #[error("expected a whole packet of kind {expected:?}, got another: drop it")]
    Kind {
        /// What the header says.
        expected: Gso,
    },
    /// Transport header or payload are missing.
    #[error("expected a transport header and payload in {len} bytes: drop the packet")]
    Truncated {
        /// Length of the packet.
        len: usize,
    },
    /// The headers are too long.
    #[error("expected at most {HEADERS_MAX} bytes of headers, got {0}: drop the packet")]
    Headers(usize),
    /// There would be too many pieces.
    #[error("expected at most {SEGMENTS_MAX} segments, got {0}: drop the packet")]
    Segments(usize),
    /// The checksum to complete is not that of the transport header.
    #[error("expected the checksum in the header at {expected}, got {got}: drop the packet")]
    Checksum {
        /// Where it belongs; for a packet left whole, the least place where it may start.
        expected: usize,
        /// Where the header says that it is.
        got: usize,
    },
}

/// How one packet from the device becomes packets for the link: checked, not yet done.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub(crate) packet: &'a [u8],
    view: &'a View,
    pub(crate) header: VnetHeader,
    /// Where the payload starts, and how the packet is cut; `None` leaves it whole.
    pub(crate) cut: Option<(usize, Super)>,
}

impl<'a> Plan<'a> {
    /// Checks that `packet`, of which `view` is the view, can be cut as `header` says.
    ///
    /// # Errors
    /// When header and packet do not agree.
    pub fn new(header: VnetHeader, packet: &'a [u8], view: &'a View) -> Result<Self, SegmentError> {
        if let Some(partial) = header.partial {
            check_partial(partial, view)?;
        }
        let cut = match header.gso {
            None => None,
            Some(gso) => Some((check(&header, gso, packet, view)?, gso)),
        };
        let plan = Self { packet, view, header, cut };
        match plan.count() {
            count if count > SEGMENTS_MAX => Err(SegmentError::Segments(count)),
            _ => Ok(plan),
        }
    }

    /// How many packets it becomes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.cut.map_or(1, |(headers, gso)| {
            (self.packet.len() - headers).div_ceil(usize::from(gso.size))
        })
    }

    /// Length of the longest of them in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        let len = self.packet.len();
        self.cut.map_or(len, |(headers, gso)| len.min(headers + usize::from(gso.size)))
    }

    /// Makes the packets, in order, with complete checksums.
    pub fn emit(&self, mut to: impl FnMut(PacketBuf)) {
        match self.cut {
            None => to(self.whole()),
            Some((headers, gso)) => self.pieces(headers, gso, &mut to),
        }
    }

    fn whole(&self) -> PacketBuf {
        let mut packet = PacketBuf::from_slice(self.packet);
        let Some(partial) = self.header.partial else { return packet };
        let summed = Sum::default().bytes(&self.packet[usize::from(partial.start)..]);
        let udp = usize::from(partial.offset) == UDP_CHECKSUM;
        let checksum = if udp { summed.finish_udp() } else { summed.finish() };
        let field = partial.field();
        packet.as_mut_slice()[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn pieces(&self, headers: usize, gso: Super, to: &mut impl FnMut(PacketBuf)) {
        let (head, payload) = self.packet.split_at(headers);
        let template = Template::new(head, self.view);
        let last = self.count() - 1;
        for (index, chunk) in payload.chunks(usize::from(gso.size)).enumerate() {
            to(template.piece(index, index == last, usize::from(gso.size), chunk));
        }
    }
}

/// Checks a super-packet and returns where its payload starts.
fn check(
    header: &VnetHeader,
    gso: Super,
    packet: &[u8],
    view: &View,
) -> Result<usize, SegmentError> {
    let fits = match gso.kind {
        Gso::Tcp4 => !view.is_ipv6() && view.protocol == packet::protocol::TCP,
        Gso::Tcp6 => view.is_ipv6() && view.protocol == packet::protocol::TCP,
        Gso::Udp => view.protocol == packet::protocol::UDP,
    };
    if !fits || view.fragment != Fragment::Whole {
        return Err(SegmentError::Kind { expected: gso.kind });
    }
    let (transport, checksum) = match gso.kind {
        Gso::Udp => (Some(UDP_HEADER), UDP_CHECKSUM),
        _ => (tcp_header_len(packet, view.transport), TCP_CHECKSUM),
    };
    let truncated = SegmentError::Truncated { len: packet.len() };
    let headers = view.transport + transport.ok_or(truncated)?;
    if headers >= packet.len() {
        return Err(truncated);
    }
    if headers > HEADERS_MAX {
        return Err(SegmentError::Headers(headers));
    }
    let (expected, got) = (view.transport + checksum, header.partial.map(|p| p.field()));
    match got {
        Some(got) if got != expected => Err(SegmentError::Checksum { expected, got }),
        _ => Ok(headers),
    }
}

/// The checksum to complete is that of the transport header, or of a packet inside the payload
/// (UDP carries VXLAN and the like), and never in what stands before.
fn check_partial(partial: Partial, view: &View) -> Result<(), SegmentError> {
    let (at, start, got) = (view.transport, usize::from(partial.start), partial.field());
    let (fits, expected) = match view.protocol {
        packet::protocol::TCP => (start == at && got == at + TCP_CHECKSUM, at + TCP_CHECKSUM),
        packet::protocol::UDP => {
            let own = start == at && got == at + UDP_CHECKSUM;
            (own || start >= at + UDP_HEADER, at + UDP_CHECKSUM)
        }
        _ => (start >= at, at),
    };
    if fits { Ok(()) } else { Err(SegmentError::Checksum { expected, got }) }
}

/// Length of the TCP header at `transport`, or `None` when it is none.
pub(crate) fn tcp_header_len(packet: &[u8], transport: usize) -> Option<usize> {
    let len = usize::from(packet.get(transport + 12)? >> 4) * 4;
    (len >= TCP_HEADER && transport + len <= packet.len()).then_some(len)
}

/// The headers that all pieces start from, and the sums of what stays the same in them.
struct Template {
    bytes: [u8; HEADERS_MAX],
    headers: usize,
    transport: usize,
    /// First IPv4 identification; `None` for IPv6.
    identification: Option<u16>,
    /// First sequence number and the word of data offset and flags; `None` for UDP.
    tcp: Option<(u32, u16)>,
    ip_sum: Sum,
    transport_sum: Sum,
}

impl Template {
    fn new(head: &[u8], view: &View) -> Self {
        let mut bytes = [0; HEADERS_MAX];
        bytes[..head.len()].copy_from_slice(head);
        let at = view.transport;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let identification = (!view.is_ipv6()).then(|| word(4));
        let is_tcp = view.protocol == packet::protocol::TCP;
        let tcp = is_tcp
            .then(|| ((u32::from(word(at + 4)) << 16) | u32::from(word(at + 6)), word(at + 12)));
        // The fields that differ between pieces count as zero in what is summed once.
        let differing: &[usize] = if is_tcp { &[4, 6, 12, TCP_CHECKSUM] } else { &[4, 6] };
        differing.iter().for_each(|word| bytes[at + word..at + word + 2].fill(0));
        let mut ip_sum = Sum::default();
        if identification.is_some() {
            bytes[2..6].fill(0);
            bytes[10..12].fill(0);
            ip_sum = ip_sum.bytes(&bytes[..at]);
        }
        let transport_sum = Sum::default()
            .pseudo_header(view.source, view.destination, view.protocol, 0)
            .bytes(&bytes[at..head.len()]);
        Self {
            bytes,
            headers: head.len(),
            transport: at,
            identification,
            tcp,
            ip_sum,
            transport_sum,
        }
    }

    /// The piece `index`, of which `payload` is the payload. What differs is written into the
    /// packet and not into the template first: copying what was just written in small pieces
    /// stalls the processor.
    fn piece(&self, index: usize, last: bool, size: usize, payload: &[u8]) -> PacketBuf {
        let mut packet = PacketBuf::new();
        packet.extend_from_slice(&self.bytes[..self.headers]);
        packet.extend_from_slice(payload);
        let (network, transport) =
            packet.as_mut_slice()[..self.headers].split_at_mut(self.transport);
        let length = transport.len() + payload.len();
        self.network(network, index, length);
        // The length of the pseudo-header; a piece is shorter than 2^16.
        let sum = self.transport_sum.word(length as u16).bytes(payload);
        match self.tcp {
            Some((sequence, flags)) => {
                let sequence = sequence.wrapping_add((index * size) as u32);
                let first = if index == 0 { flags } else { flags & !CWR };
                finish_tcp(
                    transport,
                    sequence,
                    if last { first } else { first & !(FIN | PSH) },
                    sum,
                );
            }
            None => finish_udp(transport, length as u16, sum),
        }
        packet
    }

    fn network(&self, header: &mut [u8], index: usize, length: usize) {
        let Some(identification) = self.identification else {
            let length = (self.transport - packet::IPV6_HEADER + length) as u16;
            return put(header, 4, length.to_be_bytes());
        };
        let length = (self.transport + length) as u16;
        let identification = identification.wrapping_add(index as u16);
        let checksum = self.ip_sum.word(length).word(identification).finish();
        put(header, 2, length.to_be_bytes());
        put(header, 4, identification.to_be_bytes());
        put(header, 10, checksum.to_be_bytes());
    }
}

fn finish_tcp(header: &mut [u8], sequence: u32, flags: u16, sum: Sum) {
    let checksum = sum.long(sequence).word(flags).finish();
    put(header, 4, sequence.to_be_bytes());
    put(header, 12, flags.to_be_bytes());
    put(header, TCP_CHECKSUM, checksum.to_be_bytes());
}

fn finish_udp(header: &mut [u8], length: u16, sum: Sum) {
    let checksum = sum.word(length).finish_udp();
    put(header, 4, length.to_be_bytes());
    put(header, UDP_CHECKSUM, checksum.to_be_bytes());
}

fn put<const N: usize>(header: &mut [u8], at: usize, field: [u8; N]) {
    header[at..at + N].copy_from_slice(&field);
}

#[cfg(test)]
mod tests;
