//! A peer that breaks the rules of streams, and the bounds of connections that are kept for them. The
//! rule-breaking end writes to quiche below the endpoint.

use std::time::{Duration, Instant};

use stoq_telemetry::DropReason;

use super::settle::KEY_PACKETS_MAX;
use super::*;
use crate::network::{Node, pki, run_until};
use crate::settings::Settings;

const PEER: PeerId = PeerId(0);

fn pass_all(_: &[u8]) -> bool {
    true
}

fn linked() -> (Node, Node) {
    let dir = pki(&["edge-a", "edge-b"]);
    let mut a = Node::new(dir.path(), "edge-a", "[fd00::1]:9292", Settings::default());
    let mut b = Node::new(dir.path(), "edge-b", "[fd00::2]:9292", Settings::default());
    let to_b = [b.address];
    a.peer(0, "edge-b", &to_b);
    b.peer(0, "edge-a", &[]);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    (a, b)
}

/// Sends raw bytes on stream `id` of the only connection.
fn write_raw(node: &mut Node, id: u64, bytes: &[u8], fin: bool) {
    let (key, conn) = node.endpoint.conns.iter_mut().next().unwrap();
    assert_eq!(conn.quic.stream_send(id, bytes, fin), Ok(bytes.len()));
    node.endpoint.wake(key);
}

/// The code with which the peer has reset a stream, if it has.
fn reset_code(node: &mut Node, id: u64) -> Option<u64> {
    let (_, conn) = node.endpoint.conns.iter_mut().next().unwrap();
    match conn.quic.stream_recv(id, &mut [0; 8]) {
        Err(quiche::Error::StreamReset(code)) => Some(code),
        _ => None,
    }
}

#[test]
fn a_malformed_header_is_refused_and_counted() {
    let (mut a, mut b) = linked();
    let long = [&[33][..], &[b'a'; 33]].concat();
    let cases: [(&[u8], bool); 5] =
        [(&[0], false), (&long, false), (b"\x02A!", false), (b"\x05abc", true), (b"", true)];
    for ((header, fin), number) in cases.into_iter().zip(1..) {
        let id = 4 * number;
        write_raw(&mut a, id, header, fin);
        let mut code = None;
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            // The ends of what was refused are not for the application.
            code = code.or(reset_code(a, id));
            code.is_some() && b.dropped(DropReason::StreamInvalid) == number
        });
        assert_eq!(code, Some(StreamCode::Invalid as u64), "{header:?}");
        assert_eq!((b.endpoint.stream_count(), b.endpoint.poll_stream()), (0, None));
    }
}

#[test]
fn a_header_may_come_byte_by_byte_and_end_the_stream() {
    let (mut a, mut b) = linked();
    let header = b"\x04copy";
    for (at, byte) in header.iter().enumerate() {
        assert_eq!(b.endpoint.poll_stream(), None);
        write_raw(&mut a, 4, &[*byte], at + 1 == header.len());
        let sent = a.sent;
        run_until(&mut a, &mut b, &mut pass_all, |a, _| a.sent > sent);
    }
    run_until(&mut a, &mut b, &mut pass_all, |_, b| !b.endpoint.streams.events.is_empty());
    let Some(StreamEvent::Opened { stream, .. }) = b.endpoint.poll_stream() else { panic!() };
    b.endpoint.accept_stream(stream);
    assert_eq!(b.endpoint.stream_recv(stream, &mut [0; 8]), Ok((0, true)));
}

#[test]
fn an_answer_that_is_none_ends_the_stream() {
    let (mut a, mut b) = linked();
    let stream = a.endpoint.open_stream(PEER, &"copy".parse().unwrap()).unwrap();
    run_until(&mut a, &mut b, &mut pass_all, |_, b| b.endpoint.poll_stream().is_some());
    write_raw(&mut b, 4, b"\x07", false);
    let closed = StreamEvent::Closed(stream, Broken::ByPeer(StreamCode::Invalid));
    run_until(&mut a, &mut b, &mut pass_all, |a, _| {
        a.endpoint.poll_stream() == Some(closed.clone())
    });
    assert_eq!(a.dropped(DropReason::StreamInvalid), 1);
}

#[test]
fn a_replaced_connection_is_not_kept_for_ever() {
    let (mut a, mut b) = linked();
    let stream = a.endpoint.open_stream(PEER, &"copy".parse().unwrap()).unwrap();
    let old = a.endpoint.streams.table[&stream].key;
    let begin = Instant::now();
    a.endpoint.replace_all(begin);
    run_until(&mut a, &mut b, &mut pass_all, |a, _| {
        a.endpoint.conns.get(old).is_some_and(|conn| conn.retired.is_some())
    });
    let end = a.endpoint.conns[old].retired.unwrap();
    assert!(end > begin + Duration::from_secs(3000), "an hour");
    a.endpoint.check_retired(old, end - Duration::from_secs(1));
    assert_eq!(a.endpoint.conns[old].stage, Stage::Ready);
    a.endpoint.check_retired(old, end);
    assert_eq!(a.endpoint.conns[old].stage, Stage::Closing);
    let lost = StreamEvent::Closed(stream, Broken::Lost);
    run_until(&mut a, &mut b, &mut pass_all, |a, _| a.endpoint.poll_stream() == Some(lost.clone()));
    assert!(a.is_up() && b.is_up());
    const { assert!(KEY_PACKETS_MAX < 1 << 23, "RFC 9001 §6.6") };
}
