//! The header that stands before every packet on the TUN device: `struct virtio_net_hdr` (Virtio
//! 1.2 §5.1.6), ten bytes in the byte order of the machine.
//!
//! The kernel writes it on packets that it hands over and reads it on packets that it takes. It
//! says which checksum is still to be completed and how a super-packet is to be cut. `segment`
//! acts on it, `coalesce` makes it, `device` moves it.

/// Length of the header in bytes.
pub const HEADER: usize = 10;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What a super-packet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either.
    Udp,
}

/// How a super-packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Super {
    /// What it is made of.
    pub kind: Gso,
    /// Payload bytes of each piece but the last, which may be shorter. Never zero.
    pub size: u16,
    /// Length of all headers, as a hint; the packet itself decides.
    pub headers: u16,
    /// TCP with CWR set, which belongs on the first piece only (RFC 3168 §6.1.2).
    pub ecn: bool,
}

/// A checksum that is still to be completed: the field holds the sum of the pseudo-header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Where the summed bytes start, from the start of the packet.
    pub start: u16,
    /// Where the checksum is, from `start`.
    pub offset: u16,
}

impl Partial {
    /// Where the checksum is, from the start of the packet.
    #[must_use]
    pub fn field(&self) -> usize {
        usize::from(self.start) + usize::from(self.offset)
    }
}

/// The header, read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// How to cut it, when it is a super-packet.
    pub gso: Option<Super>,
    /// The checksum to complete, when there is one.
    pub partial: Option<Partial>,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VnetError {
    /// Not even a header.
    #[error("expected a virtio-net header of {HEADER} bytes, got {0}: drop the packet")]
    Truncated(usize),
    /// A flag that was not negotiated.
    #[error("expected flags NEEDS_CSUM or DATA_VALID, got {0:#04x}: drop the packet")]
    Flags(u8),
    /// A kind of super-packet that was not negotiated.
    #[error("expected GSO type none, TCPv4, TCPv6 or UDP_L4, got {0:#04x}: drop the packet")]
    GsoType(u8),
    /// A super-packet that does not say how to cut it.
    #[error("expected a segment size above zero in a super-packet, got none: drop the packet")]
    GsoSize,
    /// The checksum lies outside the packet.
    #[error("expected a checksum inside a packet of {len} bytes, got one at {field}: drop it")]
    Checksum {
        /// Where its last byte would end.
        field: usize,
        /// Length of the packet.
        len: usize,
    },
}

impl VnetHeader {
    /// Splits `bytes` as read from the device into the header and the packet.
    ///
    /// # Errors
    /// When a field has a value that was not negotiated or that points outside the packet.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), VnetError> {
        let Some((header, packet)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(VnetError::Truncated(bytes.len()));
        };
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let [flags, gso_type, ..] = *header;
        if flags & !(FLAG_NEEDS_CSUM | FLAG_DATA_VALID) != 0 {
            return Err(VnetError::Flags(flags));
        }
        let partial =
            (flags & FLAG_NEEDS_CSUM != 0).then(|| Partial { start: word(6), offset: word(8) });
        if let Some(partial) = partial {
            let (field, len) = (partial.field() + 2, packet.len());
            if field > len {
                return Err(VnetError::Checksum { field, len });
            }
        }
        let gso = parse_gso(gso_type, word(4), word(2))?;
        Ok((Self { gso, partial }, packet))
    }

    /// The header as the kernel reads it.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        if let Some(gso) = self.gso {
            header[1] = gso_code(gso);
            header[2..4].copy_from_slice(&gso.headers.to_ne_bytes());
            header[4..6].copy_from_slice(&gso.size.to_ne_bytes());
        }
        if let Some(partial) = self.partial {
            header[0] = FLAG_NEEDS_CSUM;
            header[6..8].copy_from_slice(&partial.start.to_ne_bytes());
            header[8..10].copy_from_slice(&partial.offset.to_ne_bytes());
        }
        header
    }
}

fn parse_gso(code: u8, size: u16, headers: u16) -> Result<Option<Super>, VnetError> {
    let ecn = code & GSO_ECN != 0;
    let kind = match (code & !GSO_ECN, ecn) {
        (GSO_NONE, false) => return Ok(None),
        (GSO_TCPV4, _) => Gso::Tcp4,
        (GSO_TCPV6, _) => Gso::Tcp6,
        (GSO_UDP_L4, false) => Gso::Udp,
        _ => return Err(VnetError::GsoType(code)),
    };
    if size == 0 {
        return Err(VnetError::GsoSize);
    }
    Ok(Some(Super { kind, size, headers, ecn }))
}

fn gso_code(gso: Super) -> u8 {
    let kind = match gso.kind {
        Gso::Tcp4 => GSO_TCPV4,
        Gso::Tcp6 => GSO_TCPV6,
        Gso::Udp => GSO_UDP_L4,
    };
    kind | if gso.ecn { GSO_ECN } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_way_there_and_back() {
        let partial = Some(Partial { start: 20, offset: 16 });
        for kind in [Gso::Tcp4, Gso::Tcp6, Gso::Udp] {
            let gso = Some(Super { kind, size: 1400, headers: 40, ecn: kind != Gso::Udp });
            let header = VnetHeader { gso, partial };
            let bytes = [header.encode().as_slice(), &[0; 60]].concat();
            assert_eq!(VnetHeader::parse(&bytes).unwrap(), (header, [0u8; 60].as_slice()));
        }
        let plain = [VnetHeader::default().encode().as_slice(), b"x"].concat();
        assert_eq!(VnetHeader::parse(&plain).unwrap(), (VnetHeader::default(), b"x".as_slice()));
    }

    #[test]
    fn what_was_not_negotiated_is_refused() {
        let refused = |change: fn(&mut [u8; HEADER])| {
            let mut header = [0; HEADER];
            change(&mut header);
            let bytes = [header.as_slice(), &[0; 30]].concat();
            VnetHeader::parse(&bytes).unwrap_err()
        };
        assert_eq!(refused(|h| h[0] = 4), VnetError::Flags(4));
        assert_eq!(refused(|h| h[1] = 3), VnetError::GsoType(3));
        assert_eq!(refused(|h| h[1] = GSO_ECN), VnetError::GsoType(GSO_ECN));
        assert_eq!(refused(|h| h[1] = GSO_TCPV4), VnetError::GsoSize);
        let outside = VnetError::Checksum { field: 31, len: 30 };
        assert_eq!(
            refused(|h| {
                h[0] = FLAG_NEEDS_CSUM;
                h[6..8].copy_from_slice(&29u16.to_ne_bytes());
            }),
            outside
        );
        assert_eq!(VnetHeader::parse(&[0; 9]), Err(VnetError::Truncated(9)));
    }
}
