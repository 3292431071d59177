//! Fragments: how an IP packet crosses a path whose datagrams are too small for it.
//!
//! IPv6 needs links that carry 1280 bytes (RFC 8200 §5), and a DATAGRAM on QUIC's smallest path
//! carries about 1160. So a packet that does not fit is cut into datagrams of context 1, each with
//! the number of the packet, its total length and the offset of the part. The receiver puts it
//! together in bounded memory and drops what contradicts itself: nothing is known twice, so no
//! fragment can rewrite another (the attacks of RFC 8900 §3.7 have no hold).
//!
//! Owns the numbering ([`Fragmenter`]) and the packets that are incomplete ([`Reassembler`]), one of
//! each for a connection. Called by the link on the packet path.

mod reassemble;

use stoq_buffer::PacketBuf;
use thiserror::Error;

use crate::context;

pub use reassemble::{MAX_INCOMPLETE, REASSEMBLY_TIMEOUT, Reassembler};

/// Length of a fragment's header after the context in bytes.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// Longest packet that is cut, in bytes: a full Ethernet packet that may not be refused (IPv4
/// without "don't fragment"); with headroom it still fits a pooled buffer.
pub const MAX_TOTAL_LEN: usize = 1500;

/// Most fragments of one packet. QUIC's smallest path needs two; eight allow for paths that carry
/// 200 bytes, and keep the list of a packet's parts short enough to search.
pub const MAX_FRAGMENTS: usize = 8;

/// Bytes in front of a fragment's body: the context and the header.
const OVERHEAD: usize = context::CONTEXT_LEN + FRAGMENT_HEADER_LEN;

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Number of the packet in its connection and direction; wraps.
    pub packet: u32,
    /// Offset of the body in the packet in bytes.
    pub offset: u16,
    /// Length of the packet in bytes, the same in each of its fragments.
    pub total: u16,
}

impl FragmentHeader {
    /// Reads the header that `bytes` begins with; `None` if they are too short.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [p0, p1, p2, p3, o0, o1, t0, t1] = *bytes.first_chunk()?;
        Some(Self {
            packet: u32::from_be_bytes([p0, p1, p2, p3]),
            offset: u16::from_be_bytes([o0, o1]),
            total: u16::from_be_bytes([t0, t1]),
        })
    }

    /// The context and the header as they stand in front of a body.
    fn sealed(self) -> [u8; OVERHEAD] {
        let [p0, p1, p2, p3] = self.packet.to_be_bytes();
        let [o0, o1] = self.offset.to_be_bytes();
        let [t0, t1] = self.total.to_be_bytes();
        [context::FRAGMENT, p0, p1, p2, p3, o0, o1, t0, t1]
    }
}

/// Why a packet was not cut, or a fragment not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FragmentError {
    /// The packet is empty or longer than [`MAX_TOTAL_LEN`].
    #[error("expected a packet of 1 to {MAX_TOTAL_LEN} bytes, got {got}: answer \"too big\"")]
    Total {
        /// Its length.
        got: usize,
    },
    /// The path is so small that [`MAX_FRAGMENTS`] do not suffice.
    #[error(
        "expected room for a packet in {MAX_FRAGMENTS} datagrams, got {datagram_max} bytes each: answer \"too big\""
    )]
    PathTooSmall {
        /// Largest payload of a DATAGRAM frame.
        datagram_max: usize,
    },
    /// The body is empty or ends beyond the packet.
    #[error("expected a part within a packet of {total} bytes, got {len} at {offset}: drop it")]
    OutOfBounds {
        /// Where the part begins.
        offset: usize,
        /// Length of the part.
        len: usize,
        /// Length of the packet.
        total: usize,
    },
    /// It contradicts an earlier fragment of its packet: another total, or the same bytes again.
    #[error("expected fragments of packet {packet} to agree, got a contradiction: drop the packet")]
    Contradiction {
        /// Number of the packet.
        packet: u32,
    },
}

/// Cuts packets for one connection.
#[derive(Debug, Default)]
pub struct Fragmenter {
    next: u32,
}

impl Fragmenter {
    /// Cuts `packet` into datagrams of at most `datagram_max` bytes, contexts included, in order.
    ///
    /// # Errors
    /// When the packet or the path is outside the bounds of fragments.
    pub fn split(
        &mut self,
        packet: PacketBuf,
        datagram_max: usize,
    ) -> Result<impl Iterator<Item = PacketBuf>, FragmentError> {
        let got = packet.len();
        let total = u16::try_from(got)
            .ok()
            .filter(|_| (1..=MAX_TOTAL_LEN).contains(&got))
            .ok_or(FragmentError::Total { got })?;
        let room = datagram_max.saturating_sub(OVERHEAD);
        if room * MAX_FRAGMENTS < got {
            return Err(FragmentError::PathTooSmall { datagram_max });
        }
        let number = self.next;
        self.next = number.wrapping_add(1);
        // `room` is not 0: it was multiplied to at least one byte.
        let offsets = (0..total).step_by(room);
        Ok(offsets.map(move |offset| {
            let start = usize::from(offset);
            let end = got.min(start + room);
            let mut datagram = PacketBuf::from_slice(&packet.as_slice()[start..end]);
            datagram.prepend(&FragmentHeader { packet: number, offset, total }.sealed());
            datagram
        }))
    }
}

#[cfg(test)]
mod tests;
