//! Frames, built field by field, so that a case can break exactly one of them.

use std::net::IpAddr;

/// A UDP packet on Ethernet, with what may stand around it.
#[derive(Clone)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub port: u16,
    pub payload: Vec<u8>,
    /// Types of the VLAN tags, the outer one first.
    pub tags: Vec<u16>,
    /// Words of IPv4 options.
    pub options: usize,
    /// IPv6 extension headers: type, and bytes behind the first eight, in units of eight.
    pub extensions: Vec<(u8, u8)>,
    /// Segments left, in routing headers.
    pub segments_left: u8,
    /// The protocol or next header at the end.
    pub protocol: u8,
    /// The word of IPv4 with the flags and the offset of fragments.
    pub fragment: u16,
    /// What is added to the IPv4 checksum.
    pub checksum_error: u16,
    /// What the UDP header says, when it is not the truth.
    pub udp_len: Option<u16>,
    /// What the IP header says, when it is not the truth: total length, or payload length.
    pub ip_len: Option<u16>,
    /// Bytes behind the packet, as Ethernet pads.
    pub padding: usize,
    /// Bytes of the frame that are left; all when it is larger.
    pub cut_at: usize,
    /// The version nibble, when it is not the truth.
    pub version: Option<u8>,
}

impl Packet {
    pub fn new(source: IpAddr, destination: IpAddr, port: u16, payload: Vec<u8>) -> Self {
        Self {
            source,
            destination,
            port,
            payload,
            tags: Vec::new(),
            options: 0,
            extensions: Vec::new(),
            segments_left: 0,
            protocol: 17,
            fragment: 0x4000,
            checksum_error: 0,
            udp_len: None,
            ip_len: None,
            padding: 0,
            cut_at: usize::MAX,
            version: None,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        for tag in &self.tags {
            frame.extend_from_slice(&tag.to_be_bytes());
            frame.extend_from_slice(&[0, 100]);
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend_from_slice(&[0x08, 0x00]);
                self.ipv4(&mut frame, source.octets(), destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend_from_slice(&[0x86, 0xdd]);
                self.ipv6(&mut frame, source.octets(), destination.octets());
            }
            _ => panic!("one family"),
        }
        self.udp(&mut frame);
        frame.resize(frame.len() + self.padding, 0);
        frame.truncate(self.cut_at);
        frame
    }

    fn ipv4(&self, frame: &mut Vec<u8>, source: [u8; 4], destination: [u8; 4]) {
        let header_len = 20 + self.options * 4;
        let total = u16::try_from(header_len + 8 + self.payload.len()).unwrap();
        let mut header = vec![0; header_len];
        header[0] = self.version.unwrap_or(4) << 4 | u8::try_from(header_len / 4).unwrap();
        header[2..4].copy_from_slice(&self.ip_len.unwrap_or(total).to_be_bytes());
        header[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        header[8] = 64;
        header[9] = self.protocol;
        header[12..16].copy_from_slice(&source);
        header[16..20].copy_from_slice(&destination);
        for (index, byte) in header[20..].iter_mut().enumerate() {
            *byte = 0x41 + index as u8;
        }
        let words = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let checksum = (!(sum as u16)).wrapping_add(self.checksum_error);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend_from_slice(&header);
    }

    fn ipv6(&self, frame: &mut Vec<u8>, source: [u8; 16], destination: [u8; 16]) {
        let extensions_len: usize =
            self.extensions.iter().map(|(_, units)| (usize::from(*units) + 1) * 8).sum();
        let len = u16::try_from(extensions_len + 8 + self.payload.len()).unwrap();
        let kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
        frame.extend_from_slice(&[self.version.unwrap_or(6) << 4, 0, 0, 0]);
        frame.extend_from_slice(&self.ip_len.unwrap_or(len).to_be_bytes());
        frame.push(kinds.first().copied().unwrap_or(self.protocol));
        frame.push(64);
        frame.extend_from_slice(&source);
        frame.extend_from_slice(&destination);
        for (index, (_, units)) in self.extensions.iter().enumerate() {
            let next = kinds.get(index + 1).copied().unwrap_or(self.protocol);
            let start = frame.len();
            frame.extend_from_slice(&[next, *units, 0, self.segments_left]);
            frame.resize(start + (usize::from(*units) + 1) * 8, 0);
        }
    }

    fn udp(&self, frame: &mut Vec<u8>) {
        let len = u16::try_from(8 + self.payload.len()).unwrap();
        frame.extend_from_slice(&40_000_u16.to_be_bytes());
        frame.extend_from_slice(&self.port.to_be_bytes());
        frame.extend_from_slice(&self.udp_len.unwrap_or(len).to_be_bytes());
        frame.extend_from_slice(&[0x12, 0x34]);
        frame.extend_from_slice(&self.payload);
    }
}
