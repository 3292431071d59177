//! Headers of super-packets: what segmenting, coalescing and assembling have in common.

use stoq_checksum::Sum;

use crate::packet::{IPV6_HEADER, View};

/// The largest IP packet: its length field has 16 bits.
pub(crate) const PACKET_MAX: usize = u16::MAX as usize;

/// Flags of TCP (RFC 9293 §3.1), in the word that begins with the data offset.
pub(crate) mod flag {
    pub(crate) const FIN: u16 = 0x01;
    pub(crate) const SYN: u16 = 0x02;
    pub(crate) const RST: u16 = 0x04;
    pub(crate) const PSH: u16 = 0x08;
    pub(crate) const ACK: u16 = 0x10;
    pub(crate) const URG: u16 = 0x20;
    pub(crate) const CWR: u16 = 0x80;
}

/// The word at `at`; the caller has checked that it is there.
pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a word.
pub(crate) fn put(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// Gives the IP header of a packet, of which `view` is the view, another length, and its checksum.
pub(crate) fn write_network(headers: &mut [u8], view: &View, len: usize) {
    if view.is_ipv6() {
        return put(headers, 4, (len - IPV6_HEADER) as u16);
    }
    put(headers, 2, len as u16);
    put(headers, 10, 0);
    let network = usize::from(headers[0] & 0xf) * 4;
    let checksum = Sum::default().bytes(&headers[..network]).finish();
    put(headers, 10, checksum);
}
