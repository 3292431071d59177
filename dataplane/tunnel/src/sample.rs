//! Packets for tests, made by the book: field by field and with checksums added up word by word, so
//! that a fault in the code under test is not repeated here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::{Fragment, View, parse, protocol};
use crate::vnet::{Gso, Partial, Super, VnetHeader};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const CWR: u8 = 0x80;

/// What a packet is made from.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) ipv6: bool,
    pub(crate) protocol: u8,
    pub(crate) ports: (u16, u16),
    pub(crate) identification: u16,
    pub(crate) dont_fragment: bool,
    /// Wire value of the IPv4 fragment offset, with MF as bit 13.
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    pub(crate) options: Vec<u8>,
    /// IPv4 options, or an IPv6 destination options header.
    pub(crate) extension: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Sample {
    pub(crate) fn tcp(ipv6: bool, payload: &[u8]) -> Self {
        Self {
            ipv6,
            protocol: protocol::TCP,
            ports: (40_000, 5_201),
            identification: 7,
            dont_fragment: true,
            fragment: 0,
            ttl: 64,
            traffic_class: 0,
            sequence: 1_000,
            flags: ACK,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            extension: Vec::new(),
            payload: payload.to_vec(),
        }
    }

    pub(crate) fn udp(ipv6: bool, payload: &[u8]) -> Self {
        Self { protocol: protocol::UDP, options: Vec::new(), ..Self::tcp(ipv6, payload) }
    }

    /// Where the transport header starts.
    pub(crate) fn transport(&self) -> usize {
        self.extension.len() + if self.ipv6 { 40 } else { 20 }
    }

    /// The complete packet.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut packet = self.unsummed();
        let at = self.transport();
        if let Some(field) = self.checksum_field() {
            let sum = add(self.pseudo_header(packet.len() - at), &packet[at..]);
            let checksum = match (!sum, self.protocol) {
                (0, protocol::UDP) => 0xffff,
                (checksum, _) => checksum,
            };
            packet[at + field..at + field + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        packet
    }

    /// As the kernel hands it over when it leaves the checksum to this side; a super-packet when
    /// `size` is given.
    pub(crate) fn build_partial(&self, size: Option<u16>) -> (VnetHeader, Vec<u8>) {
        let mut packet = self.unsummed();
        let at = self.transport();
        let field = self.checksum_field().unwrap();
        let sum = self.pseudo_header(packet.len() - at);
        packet[at + field..at + field + 2].copy_from_slice(&sum.to_be_bytes());
        let kind = match (self.protocol, self.ipv6) {
            (protocol::UDP, _) => Gso::Udp,
            (_, true) => Gso::Tcp6,
            (_, false) => Gso::Tcp4,
        };
        let headers = (packet.len() - self.payload.len()) as u16;
        let ecn = kind != Gso::Udp && self.flags & CWR != 0;
        let gso = size.map(|size| Super { kind, size, headers, ecn });
        let partial = Some(Partial { start: at as u16, offset: field as u16 });
        (VnetHeader { gso, partial }, packet)
    }

    fn checksum_field(&self) -> Option<usize> {
        match self.protocol {
            protocol::TCP => Some(16),
            protocol::UDP => Some(6),
            _ => None,
        }
    }

    fn addresses(&self) -> (Vec<u8>, Vec<u8>) {
        if self.ipv6 {
            let address = |last| Ipv6Addr::new(0xfd48, 0x4d00, 0, 0, 0, 0, 0, last);
            return (address(1).octets().to_vec(), address(2).octets().to_vec());
        }
        (vec![10, 1, 0, 1], vec![10, 2, 0, 1])
    }

    fn pseudo_header(&self, len: usize) -> u16 {
        let (source, destination) = self.addresses();
        let tail = [(len >> 8) as u8, len as u8, 0, self.protocol];
        add(0, &[source, destination, tail.to_vec()].concat())
    }

    fn unsummed(&self) -> Vec<u8> {
        let transport = self.transport_header();
        let len = self.transport() + transport.len() + self.payload.len();
        let network = if self.ipv6 { self.header_v6(len) } else { self.header_v4(len) };
        [network, transport, self.payload.clone()].concat()
    }

    fn transport_header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(self.ports.0.to_be_bytes());
        header.extend(self.ports.1.to_be_bytes());
        match self.protocol {
            protocol::TCP => {
                header.extend(self.sequence.to_be_bytes());
                header.extend(77u32.to_be_bytes());
                header.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
                header.extend([0x20, 0, 0, 0, 0, 0]);
                header.extend(&self.options);
            }
            protocol::UDP => {
                header.extend((8 + self.payload.len() as u16).to_be_bytes());
                header.extend([0, 0]);
            }
            _ => {}
        }
        header
    }

    fn header_v4(&self, len: usize) -> Vec<u8> {
        let (source, destination) = self.addresses();
        let dont_fragment = if self.dont_fragment { 0x4000 } else { 0 };
        let mut header = vec![0x45 + (self.extension.len() / 4) as u8, self.traffic_class];
        header.extend((len as u16).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend((self.fragment | dont_fragment).to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(source);
        header.extend(destination);
        header.extend(&self.extension);
        let checksum = !add(0, &header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn header_v6(&self, len: usize) -> Vec<u8> {
        let (source, destination) = self.addresses();
        let mut header = vec![0x60 | self.traffic_class >> 4, self.traffic_class << 4, 0x12, 0x34];
        header.extend((len as u16 - 40).to_be_bytes());
        let next = if self.extension.is_empty() { self.protocol } else { 60 };
        header.extend([next, self.ttl]);
        header.extend(source);
        header.extend(destination);
        header.extend(&self.extension);
        header
    }
}

fn add(sum: u16, bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// Whether the checksums of IPv4 and of TCP or UDP are right.
pub(crate) fn sums_are_right(packet: &[u8]) -> bool {
    let view = parse(packet).unwrap();
    let at = view.transport;
    if !view.is_ipv6() && add(0, &packet[..at]) != 0xffff {
        return false;
    }
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let len = packet.len() - at;
    let tail = vec![(len >> 8) as u8, len as u8, 0, view.protocol];
    let pseudo = [octets(view.source), octets(view.destination), tail].concat();
    add(add(0, &pseudo), &packet[at..]) == 0xffff
}

/// `len` bytes that differ.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

#[test]
fn the_samples_are_what_they_say() {
    let v4 = Sample { fragment: 0x2000, ..Sample::udp(false, b"x") };
    let view = parse(&v4.build()).unwrap();
    let expected = View {
        source: Ipv4Addr::new(10, 1, 0, 1).into(),
        destination: Ipv4Addr::new(10, 2, 0, 1).into(),
        protocol: protocol::UDP,
        transport: 20,
        ports: Some((40_000, 5_201)),
        fragment: Fragment::First,
        traffic_class: 0,
        dont_fragment: true,
    };
    assert_eq!(view, expected);
    assert!(sums_are_right(&Sample::tcp(true, b"odd").build()));
    assert!(sums_are_right(&Sample::udp(false, b"odd").build()));
}
