//! The three kinds of a context 3 datagram, as bytes (`docs/protocol.md`, "Recovery"). Called by
//! [`super::Recovery`].

use stoq_buffer::PacketBuf;
use thiserror::Error;

use crate::context::RECOVERY;

/// A payload with its number.
pub(super) const NUMBERED: u8 = 0;
/// The same, sent again.
pub(super) const REPEATED: u8 = 1;
/// Numbers that are missing.
pub(super) const NACK: u8 = 2;

/// Bytes in front of a numbered payload: context, kind, number.
pub(crate) const HEADER_LEN: usize = 6;

/// Ranges of one NACK at most: at 5 % of loss what a gigabit loses in a tenth of a round trip of
/// 20 ms is less.
pub(super) const RANGES_MAX: usize = 32;

/// Numbers that one NACK may name at most, so that it costs its reader no more than some packets do.
pub(super) const NUMBERS_MAX: u32 = 1024;

/// Bytes of one range: its first number and how many follow it, itself included.
const RANGE_LEN: usize = 6;

/// Consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub first: u32,
    pub count: u16,
}

/// What a context 3 datagram holds.
#[derive(Debug)]
pub(super) enum Kind {
    /// A numbered payload.
    Payload { number: u32, repeated: bool, payload: PacketBuf },
    /// What the peer misses.
    Missing(Vec<Range>),
}

/// Why a context 3 datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum RecoveryError {
    /// It ends within its header.
    #[error("expected kind and number behind context 3, got {got} bytes: drop the datagram")]
    Cut { got: usize },
    /// The kind is none that this version knows.
    #[error("expected kind 0, 1 or 2, got {got}: drop the datagram")]
    Unknown { got: u8 },
    /// The NACK's length is not that of its ranges, or they name nothing or too much.
    #[error(
        "expected 1 to {RANGES_MAX} ranges of 1 to {NUMBERS_MAX} numbers in all, \
         got {ranges} ranges, {numbers} numbers in {len} bytes: drop the datagram"
    )]
    Ranges { ranges: usize, numbers: u32, len: usize },
}

/// Reads what is behind context 3.
pub(super) fn parse(mut body: PacketBuf) -> Result<Kind, RecoveryError> {
    let got = body.len();
    let kind = *body.as_slice().first().ok_or(RecoveryError::Cut { got })?;
    body.advance(1);
    match kind {
        NUMBERED | REPEATED => {
            let number = body.as_slice().first_chunk().ok_or(RecoveryError::Cut { got })?;
            let number = u32::from_be_bytes(*number);
            body.advance(4);
            Ok(Kind::Payload { number, repeated: kind == REPEATED, payload: body })
        }
        NACK => read_ranges(body.as_slice()).map(Kind::Missing),
        got => Err(RecoveryError::Unknown { got }),
    }
}

fn read_ranges(bytes: &[u8]) -> Result<Vec<Range>, RecoveryError> {
    let (chunks, rest) = bytes.as_chunks::<RANGE_LEN>();
    let range = |&[a, b, c, d, e, f]: &[u8; RANGE_LEN]| Range {
        first: u32::from_be_bytes([a, b, c, d]),
        count: u16::from_be_bytes([e, f]),
    };
    let (ranges, len) = (chunks.len(), bytes.len());
    let read: Vec<Range> = chunks.iter().take(RANGES_MAX).map(range).collect();
    let numbers: u32 = read.iter().map(|range| u32::from(range.count)).sum();
    let empty = read.iter().any(|range| range.count == 0);
    if !rest.is_empty() || !(1..=RANGES_MAX).contains(&ranges) || empty || numbers > NUMBERS_MAX {
        return Err(RecoveryError::Ranges { ranges, numbers, len });
    }
    Ok(read)
}

/// Puts the header in front of a payload.
pub(super) fn number(payload: &mut PacketBuf, number: u32, kind: u8) {
    let mut header = [RECOVERY, kind, 0, 0, 0, 0];
    header[2..].copy_from_slice(&number.to_be_bytes());
    payload.prepend(&header);
}

/// The datagram that says what is missing.
pub(super) fn write(ranges: &[Range]) -> PacketBuf {
    let mut datagram = PacketBuf::from_slice(&[RECOVERY, NACK]);
    for range in ranges {
        datagram.extend_from_slice(&range.first.to_be_bytes());
        datagram.extend_from_slice(&range.count.to_be_bytes());
    }
    datagram
}
