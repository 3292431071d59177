//! A part of a super-packet, between the link that carries it and the tunnel that cuts and joins it.

use crate::PacketBuf;

/// What is said of a super-packet once, beside its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Length of the payload in bytes: not 0.
    pub total: u16,
    /// Payload bytes of each of its packets but the last, which may have less: not 0.
    pub size: u16,
    /// Length of the headers in bytes, which the slice's body begins with: not 0.
    pub headers: u8,
}

/// A part of a super-packet.
#[derive(Debug)]
pub struct Slice {
    /// Number of the super-packet, given by who sends it; wraps.
    pub number: u16,
    /// Where the part belongs in the payload of the super-packet, in bytes.
    pub offset: u16,
    /// The packets that it is part of experienced congestion.
    pub congested: bool,
    /// In the first slice, and wherever the sender wants to be sure.
    pub head: Option<Head>,
    /// The headers, if there is a head, and a part of the payload: at least one byte.
    pub body: PacketBuf,
}

impl Slice {
    /// Length of the headers in front of the payload in bytes.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        self.head.map_or(0, |head| usize::from(head.headers))
    }

    /// Length of the part of the payload in bytes; 0 if the body is shorter than its headers.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.body.len().saturating_sub(self.headers_len())
    }
}
