//! Streams between two endpoints: opened, accepted or refused, carried through loss and through the
//! replacement of their connection, and bounded.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod network;

use std::collections::VecDeque;
use std::time::Instant;

use network::{Node, deliver, pki, run_until};
use stoq::settings::Settings;
use stoq::{
    Broken, OpenError, PeerId, STREAMS_PER_PEER, Service, StreamCode, StreamEvent, StreamId,
};
use stoq_buffer::PacketBuf;
use stoq_telemetry::DropReason;

const PEER: PeerId = PeerId(0);

fn pass_all(_: &[u8]) -> bool {
    true
}

fn service() -> Service {
    "copy".parse().unwrap()
}

/// Two nodes with a link between them; the first has dialled.
fn linked(dir: &std::path::Path, settings: &Settings) -> (Node, Node) {
    let mut a = Node::new(dir, "edge-a", "[fd00::1]:9292", settings.clone());
    let mut b = Node::new(dir, "edge-b", "[fd00::2]:9292", settings.clone());
    let to_b = [b.address];
    a.peer(0, "edge-b", &to_b);
    b.peer(0, "edge-a", &[]);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    (a, b)
}

/// The next event that is not only [`StreamEvent::Ready`].
fn decisive(node: &mut Node) -> Option<StreamEvent> {
    std::iter::from_fn(|| node.endpoint.poll_stream())
        .find(|event| !matches!(event, StreamEvent::Ready(_)))
}

/// Opens a stream as soon as those that have ended are acknowledged and make room for it.
fn open_soon(a: &mut Node, b: &mut Node) -> StreamId {
    let mut open = None;
    run_until(a, b, &mut pass_all, |a, _| {
        open = a.endpoint.open_stream(PEER, &service()).ok();
        open.is_some()
    });
    open.unwrap()
}

/// Opens a stream from `a` to `b`, which takes it. Returns what each calls it.
fn opened(a: &mut Node, b: &mut Node) -> (StreamId, StreamId) {
    let here = open_soon(a, b);
    let mut there = None;
    run_until(a, b, &mut pass_all, |a, b| {
        if let Some(StreamEvent::Opened { stream, peer, service: wanted }) = decisive(b) {
            assert_eq!((peer, wanted), (PEER, service()));
            b.endpoint.accept_stream(stream);
            there = Some(stream);
        }
        decisive(a) == Some(StreamEvent::Accepted(here))
    });
    (here, there.unwrap())
}

/// One end of a stream that sends so many bytes and keeps what it gets.
struct End {
    stream: StreamId,
    to_send: VecDeque<u8>,
    finished: bool,
    got: Vec<u8>,
    ended: bool,
}

impl End {
    fn new(stream: StreamId, bytes: usize, seed: u8) -> Self {
        let to_send = (0..bytes).map(|n| (n / 7) as u8 ^ seed).collect();
        Self { stream, to_send, finished: false, got: Vec::new(), ended: false }
    }

    fn drive(&mut self, node: &mut Node) -> Result<(), Broken> {
        if self.is_over() {
            return Ok(());
        }
        let chunk = self.to_send.make_contiguous();
        let sent = node.endpoint.stream_send(
            self.stream,
            &chunk[..chunk.len().min(50_000)],
            Instant::now(),
        )?;
        self.to_send.drain(..sent);
        if self.to_send.is_empty() && !self.finished {
            self.finished = node.endpoint.finish_stream(self.stream)?;
        }
        let mut buffer = [0; 20_000];
        while !self.ended {
            let (len, fin) = node.endpoint.stream_recv(self.stream, &mut buffer)?;
            self.got.extend_from_slice(&buffer[..len]);
            self.ended = fin;
            if len == 0 {
                break;
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.finished && self.ended
    }
}

fn contents(bytes: usize, seed: u8) -> Vec<u8> {
    End::new(StreamId(0), bytes, seed).to_send.into()
}

#[test]
fn a_stream_carries_both_ways_whoever_opens_it() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    for turn in 0..2 {
        let (here, there) = if turn == 0 {
            opened(&mut a, &mut b)
        } else {
            let (there, here) = opened(&mut b, &mut a);
            (here, there)
        };
        let (mut x, mut y) = (End::new(here, 3_000_000, 1), End::new(there, 200_000, 2));
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            x.drive(a).unwrap();
            y.drive(b).unwrap();
            x.is_over() && y.is_over()
        });
        assert!(y.got == contents(3_000_000, 1) && x.got == contents(200_000, 2));
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            a.endpoint.stream_count() + b.endpoint.stream_count() == 0
        });
    }
}

#[test]
fn loss_costs_nothing_but_time() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (here, there) = opened(&mut a, &mut b);
    let (mut x, mut y) = (End::new(here, 1_000_000, 3), End::new(there, 1_000_000, 4));
    let mut count = 0_u32;
    let mut lossy = |_: &[u8]| {
        count += 1;
        !count.is_multiple_of(20)
    };
    run_until(&mut a, &mut b, &mut lossy, |a, b| {
        x.drive(a).unwrap();
        y.drive(b).unwrap();
        x.is_over() && y.is_over()
    });
    assert!(y.got == contents(1_000_000, 3) && x.got == contents(1_000_000, 4));
}

#[test]
fn an_end_comes_even_if_all_before_it_is_acknowledged_before_it_has_left() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (here, there) = opened(&mut a, &mut b);
    let mut buffer = [0; 16];
    assert!(a.endpoint.finish_stream(here).unwrap());
    run_until(&mut a, &mut b, &mut pass_all, |_, b| {
        b.endpoint.stream_recv(there, &mut buffer).unwrap() == (0, true)
    });
    assert_eq!(b.endpoint.stream_send(there, b"hello", Instant::now()), Ok(5));
    assert_ne!(deliver(&mut b, &mut a, &mut pass_all), 0, "the bytes");
    assert!(b.endpoint.finish_stream(there).unwrap());
    assert_ne!(deliver(&mut a, &mut b, &mut pass_all), 0, "their acknowledgement");
    let mut got = Vec::new();
    run_until(&mut a, &mut b, &mut pass_all, |a, _| {
        let (len, fin) = a.endpoint.stream_recv(here, &mut buffer).unwrap();
        got.extend_from_slice(&buffer[..len]);
        fin
    });
    assert_eq!(got, b"hello");
}

#[test]
fn a_refused_stream_says_why() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    for code in [StreamCode::UnknownService, StreamCode::Refused, StreamCode::LocalFailure] {
        let here = a.endpoint.open_stream(PEER, &service()).unwrap();
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            if let Some(StreamEvent::Opened { stream, .. }) = decisive(b) {
                b.endpoint.reset_stream(stream, code);
            }
            let closed = StreamEvent::Closed(here, Broken::ByPeer(code));
            decisive(a).inspect(|event| assert_eq!(*event, closed)).is_some()
        });
        assert_eq!(a.endpoint.stream_count() + b.endpoint.stream_count(), 0);
    }
}

#[test]
fn a_stream_outlives_the_replacement_of_its_connection() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (here, there) = opened(&mut a, &mut b);
    let (mut x, mut y) = (End::new(here, 400_000, 5), End::new(there, 400_000, 6));
    let begin = Instant::now();
    a.endpoint.replace_all(begin);
    // Longer than a replaced connection without streams is kept.
    run_until(&mut a, &mut b, &mut pass_all, |_, _| begin.elapsed().as_millis() > 2500);
    assert_eq!([&a, &b].map(|node| node.endpoint.connection_count()), [2, 2]);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        x.drive(a).unwrap();
        y.drive(b).unwrap();
        x.is_over() && y.is_over()
    });
    assert!(y.got == contents(400_000, 5) && x.got == contents(400_000, 6));
    // With its last stream the old connection goes; the link stays up on the new one.
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        a.endpoint.connection_count() == 1 && b.endpoint.connection_count() == 1
    });
    assert!(a.is_up() && b.is_up());
}

#[test]
fn what_a_closed_connection_delivered_can_still_be_read() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (here, there) = opened(&mut a, &mut b);
    assert!(b.endpoint.finish_stream(there).unwrap());
    let mut x = End::new(here, 100_000, 7);
    // The reader takes nothing until the other node has gone.
    run_until(&mut a, &mut b, &mut pass_all, |a, _| {
        x.drive(a).unwrap();
        x.is_over() && a.endpoint.stream_count() == 0
    });
    a.endpoint.drain(Instant::now());
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.endpoint.is_drained() && !b.is_up());
    let mut y = End::new(there, 0, 0);
    run_until(&mut a, &mut b, &mut pass_all, |_, b| {
        y.drive(b).unwrap();
        y.ended
    });
    assert!(y.got == contents(100_000, 7));
    run_until(&mut a, &mut b, &mut pass_all, |_, b| b.endpoint.connection_count() == 0);
}

#[test]
fn a_lost_connection_ends_its_streams() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (_, there) = opened(&mut a, &mut b);
    a.endpoint.drain(Instant::now());
    run_until(&mut a, &mut b, &mut pass_all, |_, b| {
        decisive(b) == Some(StreamEvent::Closed(there, Broken::Lost))
    });
    assert_eq!(b.endpoint.stream_recv(there, &mut [0; 8]), Err(Broken::Lost));
}

#[test]
fn a_reader_that_does_not_read_holds_the_sender() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (here, there) = opened(&mut a, &mut b);
    let mut sent = 0;
    let mut last = (0, Instant::now());
    run_until(&mut a, &mut b, &mut pass_all, |a, _| {
        sent += a.endpoint.stream_send(here, &[1; 10_000], Instant::now()).unwrap();
        if sent > last.0 {
            last = (sent, Instant::now());
        }
        last.1.elapsed().as_millis() > 300
    });
    // The window at the start, which only a reader raises.
    assert_eq!(sent + "\x04copy".len(), 256 << 10);
    let mut y = End::new(there, 0, 0);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        y.drive(b).unwrap();
        sent += a.endpoint.stream_send(here, &[1; 10_000], Instant::now()).unwrap();
        sent > 512 << 10
    });
}

#[test]
fn streams_are_bounded_for_a_connection_and_for_a_peer() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let mut open = 0;
    let refusal = loop {
        match a.endpoint.open_stream(PEER, &service()) {
            Ok(_) => open += 1,
            Err(error) => break error,
        }
    };
    // The control stream is the sixteenth.
    assert_eq!((open, refusal), (15, OpenError::TooMany));
    assert!(open < STREAMS_PER_PEER);
    run_until(&mut a, &mut b, &mut pass_all, |_, b| b.endpoint.stream_count() == open);
    assert_eq!(b.dropped(DropReason::StreamLimit), 0);
}

#[test]
fn a_restarted_peer_ends_its_streams_soon() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (here, _) = opened(&mut a, &mut b);
    let begin = Instant::now();
    a.endpoint.stream_send(here, b"anybody?", begin).unwrap();
    // What was sent is lost with the old run, and nothing but its repetition reaches the new one.
    let mut nothing = |_: &[u8]| false;
    run_until(&mut a, &mut b, &mut nothing, |_, _| begin.elapsed().as_millis() > 100);
    let mut again =
        Node::with_generation(dir.path(), "edge-b", "[fd00::2]:9292", Settings::default(), 2);
    again.peer(0, "edge-a", &[]);
    run_until(&mut a, &mut again, &mut pass_all, |a, _| {
        decisive(a) == Some(StreamEvent::Closed(here, Broken::Lost))
    });
    // Because the new run says so, and not by the end of the idle time.
    assert!(begin.elapsed() < Settings::default().idle_timeout, "{:?}", begin.elapsed());
}

#[test]
fn a_stream_that_is_broken_off_midway_says_so() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (here, there) = opened(&mut a, &mut b);
    let mut x = End::new(here, 10_000_000, 8);
    let mut y = End::new(there, 0, 0);
    let mut broken = None;
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        if y.got.len() < 100_000 {
            y.drive(b).unwrap();
        } else {
            b.endpoint.reset_stream(there, StreamCode::LocalFailure);
        }
        broken = x.drive(a).err();
        broken.is_some()
    });
    assert_eq!(broken, Some(Broken::ByPeer(StreamCode::LocalFailure)));
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        a.endpoint.stream_count() + b.endpoint.stream_count() == 0
    });
    // The connection is none the worse for it.
    let _again = opened(&mut a, &mut b);
}

#[test]
fn one_peer_has_a_bound_over_all_connections() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let mut open = 0;
    while open < STREAMS_PER_PEER {
        while a.endpoint.open_stream(PEER, &service()).is_ok() {
            open += 1;
        }
        // Each connection has room for its own, while the peer has.
        a.endpoint.replace_all(Instant::now());
        let before = a.endpoint.connection_count();
        run_until(&mut a, &mut b, &mut pass_all, |a, _| {
            let opened = a.endpoint.open_stream(PEER, &service()).is_ok();
            open += usize::from(opened);
            opened || (open == STREAMS_PER_PEER && a.endpoint.connection_count() > before)
        });
    }
    assert_eq!(open, STREAMS_PER_PEER);
    assert_eq!(a.endpoint.open_stream(PEER, &service()), Err(OpenError::TooMany));
    run_until(&mut a, &mut b, &mut pass_all, |_, b| b.endpoint.stream_count() == open);
}

#[test]
fn streams_that_ended_make_room_for_others_however_they_ended() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    // Twice as many of each kind as a connection has room for at once.
    for _ in 0..32 {
        let refused = open_soon(&mut a, &mut b);
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            if let Some(StreamEvent::Opened { stream, .. }) = decisive(b) {
                b.endpoint.reset_stream(stream, StreamCode::Refused);
            }
            decisive(a).is_some_and(|event| matches!(event, StreamEvent::Closed(..)))
        });
        assert_eq!(a.endpoint.stream_send(refused, b"x", Instant::now()), Err(Broken::Lost));
        // Broken off by its opener, before and after the peer knows of it.
        let unknown = open_soon(&mut a, &mut b);
        a.endpoint.reset_stream(unknown, StreamCode::Cancelled);
        let (here, there) = opened(&mut a, &mut b);
        a.endpoint.reset_stream(here, StreamCode::Cancelled);
        run_until(&mut a, &mut b, &mut pass_all, |_, b| {
            b.endpoint.stream_recv(there, &mut [0; 9]).is_err()
        });
        // Broken off by the peer midway.
        let (here, there) = opened(&mut a, &mut b);
        a.endpoint.stream_send(here, &[1; 100_000], Instant::now()).unwrap();
        b.endpoint.reset_stream(there, StreamCode::LocalFailure);
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            let ours = a.endpoint.stream_recv(here, &mut [0; 9]);
            let theirs = b.endpoint.stream_recv(there, &mut [0; 9]);
            ours.is_err() && theirs.is_err()
        });
    }
    let mut free = 0;
    run_until(&mut a, &mut b, &mut pass_all, |a, _| {
        free += usize::from(a.endpoint.open_stream(PEER, &service()).is_ok());
        free == 15
    });
}

#[test]
fn a_stream_and_datagrams_share_a_connection() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = linked(dir.path(), &Settings::default());
    let (here, there) = opened(&mut a, &mut b);
    let (mut x, mut y) = (End::new(here, 4_000_000, 9), End::new(there, 0, 0));
    let (mut packets, mut at_most_bytes) = (0, 0);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        x.drive(a).unwrap();
        y.drive(b).unwrap();
        // As fast as they arrive, and no faster: neither end of the link is idle.
        if packets < 1500 && b.received.len() + 64 > packets {
            let packet = PacketBuf::from_slice(&[0x45; 1000]);
            a.endpoint.enqueue(PEER, packet, 1, false, Instant::now()).unwrap();
            packets += 1;
            at_most_bytes = y.got.len();
        }
        b.received.len() == 1500 && x.is_over() && y.is_over()
    });
    assert!(y.got == contents(4_000_000, 9));
    // The stream had its share while the packets were sent.
    assert!(at_most_bytes > 100_000, "{at_most_bytes}");
}
