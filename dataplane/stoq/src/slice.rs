//! Slices: how a super-packet crosses a link with its headers sent once.
//!
//! What the kernel hands over as one super-packet would leave as dozens of packets, each with a copy of
//! the same headers. In slices (context 2) the headers travel with the first one, and the payload fills
//! each datagram to the brim; the other end gives its kernel a super-packet again. A datagram carries 46
//! to 66 bytes more payload that way, and no checksum is computed or checked for what the AEAD protects.
//!
//! Owns the format of a [`Slice`]. What the headers say is not looked at here: the tunnel cuts and joins
//! super-packets. Called by the link on the packet path.

use stoq_buffer::{Head, PacketBuf, Slice};
use stoq_telemetry::DropReason;
use thiserror::Error;

use crate::context;

/// Bytes in front of a slice's body: the context, flags, number and offset.
pub const SLICE_OVERHEAD: usize = context::CONTEXT_LEN + FIXED_LEN;

/// Bytes that a head takes besides the headers: payload length, segment size, length of the headers.
pub const HEAD_LEN: usize = 5;

/// Flags, number and offset.
const FIXED_LEN: usize = 5;

/// The headers of the super-packet stand in front of the payload.
const FLAG_HEAD: u8 = 1;

/// A queue on the way wants the flow to slow down (RFC 3168 §5).
const FLAG_CONGESTED: u8 = 2;

/// Why a slice is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SliceError {
    /// It ends within its own header, or has no payload.
    #[error("expected a slice with a header and payload, got {got} bytes: drop it")]
    Truncated {
        /// Bytes after the context.
        got: usize,
    },
    /// A flag that has no meaning, or a number of the head that cannot be 0.
    #[error("expected known flags and a head without zeros, got flags {flags:#04x}: drop it")]
    Invalid {
        /// The flags.
        flags: u8,
    },
    /// The part ends beyond the payload.
    #[error("expected a part within {total} bytes of payload, got one up to {end}: drop it")]
    OutOfBounds {
        /// Where it ends.
        end: usize,
        /// Length of the payload, or the most that it can be.
        total: usize,
    },
}

impl SliceError {
    /// The reason under which the drop is counted.
    #[must_use]
    pub fn reason(self) -> DropReason {
        DropReason::SliceInvalid
    }
}

/// Puts context and header in front of a slice's body, into its headroom.
#[must_use]
pub fn seal(slice: Slice) -> PacketBuf {
    let Slice { number, offset, congested, head, body: mut datagram } = slice;
    if let Some(Head { total, size, headers }) = head {
        let ([t0, t1], [s0, s1]) = (total.to_be_bytes(), size.to_be_bytes());
        datagram.prepend(&[t0, t1, s0, s1, headers]);
    }
    let mut flags = if head.is_some() { FLAG_HEAD } else { 0 };
    if congested {
        flags |= FLAG_CONGESTED;
    }
    let ([n0, n1], [o0, o1]) = (number.to_be_bytes(), offset.to_be_bytes());
    datagram.prepend(&[context::SLICED, flags, n0, n1, o0, o1]);
    datagram
}

/// Reads what follows the context of a slice.
///
/// # Errors
/// When it is no slice, or contradicts itself.
pub fn parse(mut body: PacketBuf) -> Result<Slice, SliceError> {
    let truncated = SliceError::Truncated { got: body.len() };
    let Some(&[flags, n0, n1, o0, o1]) = body.as_slice().first_chunk() else {
        return Err(truncated);
    };
    if flags & !(FLAG_HEAD | FLAG_CONGESTED) != 0 {
        return Err(SliceError::Invalid { flags });
    }
    body.advance(FIXED_LEN);
    let mut head = None;
    if flags & FLAG_HEAD != 0 {
        let Some(&[t0, t1, s0, s1, headers]) = body.as_slice().first_chunk() else {
            return Err(truncated);
        };
        let (total, size) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([s0, s1]));
        if total == 0 || size == 0 || headers == 0 {
            return Err(SliceError::Invalid { flags });
        }
        body.advance(HEAD_LEN);
        head = Some(Head { total, size, headers });
    }
    if body.len() <= head.map_or(0, |head| usize::from(head.headers)) {
        return Err(truncated);
    }
    let (number, offset) = (u16::from_be_bytes([n0, n1]), u16::from_be_bytes([o0, o1]));
    let slice = Slice { number, offset, congested: flags & FLAG_CONGESTED != 0, head, body };
    let end = usize::from(offset) + slice.payload_len();
    let total = usize::from(head.map_or(u16::MAX, |head| head.total));
    if end > total { Err(SliceError::OutOfBounds { end, total }) } else { Ok(slice) }
}

/// Cuts a sealed slice in two of which the first has at most `max` bytes: the path carries less than it
/// did. `None` if not even the headers fit.
pub(crate) fn cut(mut sealed: PacketBuf, max: usize) -> Option<[PacketBuf; 2]> {
    sealed.advance(context::CONTEXT_LEN);
    let mut front = parse(sealed).ok()?;
    let head = front.head.map_or(0, |_| HEAD_LEN);
    let part = max.checked_sub(SLICE_OVERHEAD + head + front.headers_len()).filter(|&n| n > 0)?;
    let at = front.headers_len() + part;
    let body = PacketBuf::from_slice(front.body.as_slice().get(at..)?);
    front.body.truncate(at);
    // The part ends within the payload, which is below 2^16.
    let offset = front.offset + part as u16;
    let Slice { number, congested, .. } = front;
    Some([seal(front), seal(Slice { number, offset, congested, head: None, body })])
}

/// Sets the mark of congestion in a sealed slice.
pub(crate) fn mark_ce(sealed: &mut [u8]) {
    if let Some(flags) = sealed.get_mut(context::CONTEXT_LEN) {
        *flags |= FLAG_CONGESTED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{CONTEXT_LEN, Payload};
    use proptest::prelude::*;

    fn slice(head: Option<Head>, body: &[u8]) -> Slice {
        let body = PacketBuf::from_slice(body);
        Slice { number: 0xfffe, offset: 1400, congested: false, head, body }
    }

    fn reread(sealed: PacketBuf) -> Slice {
        let Payload::Slice(slice) = context::parse(sealed).unwrap() else { panic!("no slice") };
        slice
    }

    #[test]
    fn a_sealed_slice_comes_back_without_a_copy() {
        for head in [None, Some(Head { total: 9000, size: 1348, headers: 3 })] {
            let slice = slice(head, b"hhhpayload");
            let at = slice.body.as_slice().as_ptr();
            let read = reread(seal(slice));
            assert_eq!((read.number, read.offset, read.congested), (0xfffe, 1400, false));
            assert_eq!((read.head, read.body.as_slice()), (head, b"hhhpayload".as_slice()));
            assert_eq!(read.body.as_slice().as_ptr(), at);
            assert_eq!(read.payload_len(), if head.is_some() { 7 } else { 10 });
        }
    }

    #[test]
    fn overhead_and_mark_are_where_they_are_said_to_be() {
        let mut sealed = seal(slice(None, b"x"));
        assert_eq!(sealed.len(), SLICE_OVERHEAD + 1);
        mark_ce(sealed.as_mut_slice());
        assert!(reread(sealed).congested);
        let head = Some(Head { total: 2000, size: 1, headers: 1 });
        assert_eq!(seal(slice(head, b"hx")).len(), SLICE_OVERHEAD + HEAD_LEN + 2);
    }

    #[test]
    fn a_slice_is_cut_in_two_that_say_the_same() {
        let body: Vec<u8> = (0..200).collect();
        for head in [None, Some(Head { total: 9000, size: 1348, headers: 40 })] {
            let headers = head.map_or(0, |_| 40);
            let [front, rest] = cut(seal(slice(head, &body)), 150).unwrap();
            assert_eq!(front.len(), 150);
            let (front, rest) = (reread(front), reread(rest));
            assert_eq!((front.number, front.offset, front.head), (0xfffe, 1400, head));
            assert_eq!((rest.number, rest.head), (0xfffe, None));
            assert_eq!(usize::from(rest.offset), 1400 + front.payload_len());
            assert_eq!([front.body.as_slice(), rest.body.as_slice()].concat(), body);
            let least = SLICE_OVERHEAD + head.map_or(0, |_| HEAD_LEN) + headers;
            assert!(cut(seal(slice(head, &body)), least).is_none());
        }
    }

    #[test]
    fn what_is_no_slice_is_refused() {
        let parse = |bytes: &[u8]| parse(PacketBuf::from_slice(bytes)).unwrap_err();
        assert_eq!(parse(&[0, 0, 0, 0]), SliceError::Truncated { got: 4 });
        assert_eq!(parse(&[0, 0, 0, 0, 0]), SliceError::Truncated { got: 5 });
        assert_eq!(parse(&[4, 0, 0, 0, 0, 1]), SliceError::Invalid { flags: 4 });
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 9, 0, 1]), SliceError::Truncated { got: 9 });
        for zero in [[0, 0, 0, 1, 1], [0, 9, 0, 0, 1], [0, 9, 0, 1, 0]] {
            let bytes = [&[1, 0, 0, 0, 0][..], &zero, b"hx"].concat();
            assert_eq!(parse(&bytes), SliceError::Invalid { flags: 1 });
        }
        let headers_only = [1, 0, 0, 0, 0, 0, 9, 0, 1, 2, b'h', b'h'];
        assert_eq!(parse(&headers_only), SliceError::Truncated { got: 12 });
        let beyond = [1, 0, 0, 0, 8, 0, 9, 0, 1, 1, b'h', b'x', b'x'];
        assert_eq!(parse(&beyond), SliceError::OutOfBounds { end: 10, total: 9 });
        let end = 0xffff + 1;
        let wide = [0, 0, 0, 0xff, 0xff, b'x'];
        assert_eq!(parse(&wide), SliceError::OutOfBounds { end, total: 0xffff });
    }

    proptest! {
        #[test]
        fn whatever_is_read_can_be_written_again(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(slice) = parse(PacketBuf::from_slice(&bytes)) {
                let sealed = seal(slice);
                prop_assert_eq!(&sealed.as_slice()[CONTEXT_LEN..], &bytes[..]);
            }
        }
    }
}
