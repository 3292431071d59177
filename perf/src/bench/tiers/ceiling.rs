//! The most that a tunnel which sends each packet with its own headers can carry: by arithmetic, the
//! payload of one TCP segment inside over the payload of one without a tunnel. The rest of a full frame
//! is the outer headers and the seal. Both wires carry as many full frames a second.

use crate::bed::Family;

/// MTU of the bed's wire in bytes.
const WIRE_MTU: u16 = 1500;

/// IPv4 (RFC 791 §3.1) and TCP (RFC 9293 §3.1) with the time stamps (RFC 7323 §3.2) that Linux sends: what
/// is inside a tunnel and, without one, on the wire.
const TCP_IPV4: u16 = 20 + 20 + 12;

/// UDP header (RFC 768).
const UDP: u16 = 8;

/// What a QUIC packet of ours has besides its connection ID and its datagram's payload: the first byte
/// and a packet number of four at most (RFC 9000 §17.3.1), the DATAGRAM frame's type and length
/// (RFC 9221 §4), our context, and the tag (RFC 9001 §5.3).
const QUIC: u16 = 1 + 4 + 3 + 1 + 16;

/// Bytes of our connection IDs.
const CID: u16 = 12;

/// The ceiling of a tunnel of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// The outer IP version.
    pub outer: Family,
    /// Bytes of a connection ID.
    pub cid: u16,
}

impl Ceiling {
    /// That of the bed's tunnels.
    pub const BED: Self = Self { outer: Family::V6, cid: CID };

    /// Payload of a TCP segment inside, in bytes.
    #[must_use]
    pub fn inside(self) -> u16 {
        let outer = match self.outer {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        WIRE_MTU - outer - UDP - QUIC - self.cid - TCP_IPV4
    }

    /// Payload of a TCP segment without a tunnel, in bytes.
    #[must_use]
    pub fn outside(self) -> u16 {
        WIRE_MTU - TCP_IPV4
    }

    /// The share of the bare wire's goodput.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.inside()) / f64::from(self.outside())
    }

    /// One line for people.
    #[must_use]
    pub fn line(self) -> String {
        let outer = match self.outer {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        format!(
            "ceiling: {} bytes of TCP payload inside a full frame, of {} without a tunnel = {:.4} (outer \
             {outer}, connection ID of {} bytes)",
            self.inside(),
            self.outside(),
            self.share(),
            self.cid
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_protocol() {
        let ceiling = Ceiling { outer: Family::V6, cid: 12 };
        assert_eq!((ceiling.inside(), ceiling.outside()), (1415 - 52, 1448));
        assert!((ceiling.share() - 0.9413).abs() < 1e-4);
        let v4 = Ceiling { outer: Family::V4, ..ceiling };
        assert_eq!(v4.inside() - ceiling.inside(), 20);
        assert!(ceiling.line().contains("0.9413") && ceiling.line().contains("IPv6"));
    }
}
