//! What the fuzz targets of the wire do with their input, and what must hold whatever it is.
//! Included by the fuzz targets and by the test that replays their corpora.
#![allow(dead_code, reason = "each fuzz target uses one of these")]

use std::time::{Duration, Instant};

use stoq::cid::{self, CidKeys};
use stoq::context::{self, Payload};
use stoq::control::{ControlError, Decoder, Frame, MAX_FRAME_LEN};
use stoq::fragment::{MAX_INCOMPLETE, MAX_TOTAL_LEN, REASSEMBLY_TIMEOUT, Reassembler};
use stoq::queue::ecn;
use stoq::slice;
use stoq::stream::{SERVICE_MAX, header_missing, parse_header};
use stoq_buffer::PacketBuf;

/// Connection IDs, where they stand in packets, and their stored keys.
pub fn cid(data: &[u8]) {
    if let Ok(keys) = CidKeys::from_bytes(data) {
        assert_eq!(CidKeys::from_bytes(&keys.to_bytes()), Ok(keys));
    }
    let Some(dcid) = cid::route(data) else { return };
    let at = dcid.as_ptr() as usize - data.as_ptr() as usize;
    assert!(at + dcid.len() <= data.len());
    let keys = CidKeys::new([0x5a; 32]);
    let Ok(genuine) = keys.parse(dcid) else { return };
    let bytes = genuine.as_bytes();
    let nonce = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    assert_eq!(keys.issue(genuine.worker(), genuine.generation(), nonce), genuine);
    assert!(keys.reset_token(&genuine).is_some());
}

/// The header of an application stream: read as far as it asks for, it is one service or none.
pub fn stream(data: &[u8]) {
    let mut got = 0;
    loop {
        let missing = header_missing(&data[..got]);
        if missing == 0 {
            break;
        }
        assert!(got + missing <= 1 + usize::from(u8::MAX));
        got += missing;
        if got > data.len() {
            return;
        }
    }
    let Ok(service) = parse_header(&data[..got]) else { return };
    assert!((1..=SERVICE_MAX).contains(&service.as_str().len()));
    assert_eq!(service.header(), &data[..got]);
}

/// Decodes until the end or an error, from pieces of `piece` bytes.
fn decode(stream: &[u8], piece: usize) -> (Vec<Frame>, Option<ControlError>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for bytes in stream.chunks(piece) {
        if let Err(error) = decoder.push(bytes) {
            panic!("a decoder that is emptied after each piece is full: {error}");
        }
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// The control stream: how it is cut changes nothing, and what was read can be written again. The
/// first byte is the length of the pieces.
pub fn control(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let (frames, error) = decode(stream, usize::from(piece).max(1));
    assert_eq!((frames.clone(), error), decode(stream, MAX_FRAME_LEN));
    let mut written = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut written));
    assert!(written.len() <= stream.len());
    assert_eq!(decode(&written, MAX_FRAME_LEN), (frames, None));
}

/// Takes one datagram; returns whether it was a fragment.
fn take(reassembler: &mut Reassembler, datagram: &[u8], now: Instant) -> bool {
    let (header, body) = match context::parse(PacketBuf::from_slice(datagram)) {
        Ok(Payload::Fragment(header, body)) => (header, body),
        Ok(Payload::Packet(packet)) => {
            assert!(datagram.ends_with(packet.as_slice()));
            return false;
        }
        Ok(Payload::Slice(slice)) => {
            assert!(slice.payload_len() > 0);
            let (number, offset, head) = (slice.number, slice.offset, slice.head);
            let Ok(Payload::Slice(again)) = context::parse(slice::seal(slice)) else {
                panic!("a slice that was read is none");
            };
            assert_eq!((again.number, again.offset, again.head), (number, offset, head));
            return false;
        }
        Err(_) => return false,
    };
    if let Ok(Some(whole)) = reassembler.push(header, body, now) {
        assert_eq!(whole.len(), usize::from(header.total));
        assert!((1..=MAX_TOTAL_LEN).contains(&whole.len()));
    }
    true
}

/// Datagrams and the fragments among them: a length byte, then that many bytes, and so on. The
/// length 255 is a pause of a quarter of the timeout.
pub fn datagrams(data: &[u8]) {
    let mut reassembler = Reassembler::default();
    let mut now = Instant::now();
    let (mut rest, mut started, mut given_up) = (data, 0, 0);
    while let Some((&len, after)) = rest.split_first() {
        rest = after;
        if len == u8::MAX {
            now += REASSEMBLY_TIMEOUT / 4;
            continue;
        }
        let (datagram, after) = rest.split_at(rest.len().min(usize::from(len)));
        rest = after;
        started += u64::from(take(&mut reassembler, datagram, now));
        given_up += reassembler.take_given_up();
        assert!(reassembler.poll_timeout().is_none_or(|due| due <= now + REASSEMBLY_TIMEOUT));
    }
    reassembler.handle_timeout(now + REASSEMBLY_TIMEOUT + Duration::from_nanos(1));
    let last = reassembler.take_given_up();
    assert!(last <= MAX_INCOMPLETE as u64 && given_up + last <= started);
    assert_eq!(reassembler.poll_timeout(), None);
}

/// The ones' complement sum over the first 20 bytes, which marking must not change.
fn header_sum(packet: &[u8]) -> u32 {
    let words = packet[..20].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) % 0xffff
}

/// ECN marking: touches what it may, and leaves a checksum as right or wrong as it was.
pub fn ecn(data: &[u8]) {
    let mut packet = data.to_vec();
    let marked = ecn::mark_ce(&mut packet);
    if !marked {
        assert_eq!(packet, data);
        return;
    }
    let ipv4 = data[0] >> 4 == 4;
    let touched: &[usize] = if ipv4 { &[1, 10, 11] } else { &[1] };
    for (at, (before, after)) in data.iter().zip(&packet).enumerate() {
        assert!(before == after || touched.contains(&at), "byte {at} was changed");
    }
    if ipv4 {
        assert_eq!(header_sum(&packet), header_sum(data));
    }
    let again = packet.clone();
    assert!(ecn::mark_ce(&mut packet));
    assert_eq!(packet, again);
}
