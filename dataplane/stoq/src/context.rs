//! What a QUIC DATAGRAM holds: a context as a varint, then the body (as the payloads of RFC 9298 §4
//! do).
//!
//! Owns the numbers. Called by the link for each datagram, on the packet path: a body is never
//! copied, the context is cut off its front.

use stoq_buffer::{PacketBuf, Slice};
use stoq_telemetry::DropReason;
use thiserror::Error;

use crate::fragment::{FRAGMENT_HEADER_LEN, FragmentHeader};
use crate::slice::{self, SliceError};
use crate::varint;

/// Context 0: the body is one IP packet.
pub const PACKET: u8 = 0;
/// Context 1: the body is a [`FragmentHeader`] and a part of one IP packet.
pub const FRAGMENT: u8 = 1;
/// Context 2: the body is a [`Slice`] of a super-packet whose headers are sent once.
pub const SLICED: u8 = 2;
/// Context 3, reserved: recovery of lost packets.
pub const RECOVERY: u8 = 3;

/// Bytes that the context takes in front of an IP packet.
pub const CONTEXT_LEN: usize = 1;

/// What a datagram holds.
#[derive(Debug)]
pub enum Payload {
    /// An IP packet, not looked at yet.
    Packet(PacketBuf),
    /// A part of an IP packet.
    Fragment(FragmentHeader, PacketBuf),
    /// A part of a super-packet.
    Slice(Slice),
}

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContextError {
    /// The context is none that this version knows, or is cut off.
    #[error("expected datagram context 0, 1 or 2, got {got:?}: drop the datagram")]
    Unknown {
        /// The context, if it was whole.
        got: Option<u64>,
    },
    /// The datagram ends within the fragment header.
    #[error(
        "expected a fragment header of {FRAGMENT_HEADER_LEN} bytes, got {got}: drop the datagram"
    )]
    FragmentCut {
        /// Bytes after the context.
        got: usize,
    },
    /// The datagram is no slice.
    #[error(transparent)]
    Slice(#[from] SliceError),
}

impl ContextError {
    /// The reason under which the drop is counted.
    #[must_use]
    pub fn reason(self) -> DropReason {
        match self {
            Self::Unknown { .. } => DropReason::ContextUnknown,
            Self::FragmentCut { .. } => DropReason::FragmentInvalid,
            Self::Slice(error) => error.reason(),
        }
    }
}

/// Takes the context off a received datagram.
///
/// # Errors
/// When the context is unknown, the fragment header is cut off, or the slice is none.
pub fn parse(mut datagram: PacketBuf) -> Result<Payload, ContextError> {
    let (context, len) =
        varint::read(datagram.as_slice()).ok_or(ContextError::Unknown { got: None })?;
    datagram.advance(len);
    match u8::try_from(context) {
        Ok(PACKET) => Ok(Payload::Packet(datagram)),
        Ok(FRAGMENT) => {
            let got = datagram.len();
            let header = FragmentHeader::read(datagram.as_slice())
                .ok_or(ContextError::FragmentCut { got })?;
            datagram.advance(FRAGMENT_HEADER_LEN);
            Ok(Payload::Fragment(header, datagram))
        }
        Ok(SLICED) => Ok(Payload::Slice(slice::parse(datagram)?)),
        _ => Err(ContextError::Unknown { got: Some(context) }),
    }
}

/// Puts the context of an IP packet in front of it, into its headroom.
pub fn seal(packet: &mut PacketBuf) {
    packet.prepend(&[PACKET]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Payload, ContextError> {
        parse(PacketBuf::from_slice(bytes))
    }

    #[test]
    fn a_sealed_packet_comes_back_without_a_copy() {
        let mut packet = PacketBuf::from_slice(b"ip packet");
        let at = packet.as_slice().as_ptr();
        seal(&mut packet);
        assert_eq!(packet.as_slice(), b"\0ip packet");
        let Payload::Packet(packet) = parse(packet).unwrap() else { panic!("no packet") };
        assert_eq!(packet.as_slice(), b"ip packet");
        assert_eq!(packet.as_slice().as_ptr(), at);
    }

    #[test]
    fn a_context_may_be_longer_than_it_needs_to_be() {
        let Payload::Packet(packet) = read(b"\x40\x00ip").unwrap() else { panic!("no packet") };
        assert_eq!(packet.as_slice(), b"ip");
    }

    #[test]
    fn a_fragment_header_is_read() {
        let bytes = [1, 0, 0, 0, 9, 0x04, 0xb0, 0x05, 0x00, b'x'];
        let Payload::Fragment(header, body) = read(&bytes).unwrap() else { panic!("no fragment") };
        assert_eq!(header, FragmentHeader { packet: 9, offset: 1200, total: 1280 });
        assert_eq!(body.as_slice(), b"x");
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_reason() {
        for (bytes, reason) in [
            (&b""[..], DropReason::ContextUnknown),
            (&[SLICED, 0], DropReason::SliceInvalid),
            (&[RECOVERY, 0], DropReason::ContextUnknown),
            (&[0x40], DropReason::ContextUnknown),
            // 256: its low byte is context 0, which must not be taken for it.
            (&[0x41, 0x00, 0x45], DropReason::ContextUnknown),
            (&[1, 0, 0, 0, 9, 0x04, 0xb0, 0x05], DropReason::FragmentInvalid),
        ] {
            assert_eq!(read(bytes).unwrap_err().reason(), reason, "{bytes:?}");
        }
    }
}
