//! What wakes a worker, and what does not.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use stoq_port::Ready;

use crate::modes;
use crate::rig::{PATIENCE, Rig, dial, loopback, plain};

#[test]
fn a_watched_descriptor_wakes_as_long_as_it_is_readable() {
    for (name, kind, options) in modes() {
        let mut rig = Rig::new(kind, &options, &["[::]:0"]);
        // The sockets are looked at once, after opening.
        rig.port.receive(&mut |_, _| {}).unwrap();
        let events = [EventFd::new().unwrap(), EventFd::new().unwrap()];
        rig.port.watch(events[0].as_fd(), 0).unwrap();
        rig.port.watch(events[1].as_fd(), 63).unwrap();
        assert_eq!(rig.port.wait(Some(Duration::ZERO)).unwrap(), Ready(0), "{name}");
        events[1].write(1).unwrap();
        for _ in 0..3 {
            assert_eq!(rig.port.wait(Some(PATIENCE)).unwrap(), Ready(1 << 63), "{name}");
        }
        events[0].write(1).unwrap();
        assert_eq!(rig.port.wait(Some(PATIENCE)).unwrap(), Ready(1 | 1 << 63), "{name}");
        events[0].read().unwrap();
        events[1].read().unwrap();
        assert_eq!(rig.port.wait(Some(Duration::ZERO)).unwrap(), Ready(0), "{name}");
    }
}

#[test]
fn a_token_without_a_bit_is_refused() {
    for (name, kind, options) in modes() {
        let mut rig = Rig::new(kind, &options, &["[::]:0"]);
        let event = EventFd::new().unwrap();
        assert!(rig.port.watch(event.as_fd(), 64).is_err(), "{name}");
    }
}

#[test]
fn a_timeout_passes_and_not_much_more() {
    for (name, kind, options) in modes() {
        let mut rig = Rig::new(kind, &options, &["[::]:0"]);
        rig.port.receive(&mut |_, _| {}).unwrap();
        let wanted = Duration::from_micros(300);
        let waits = (0..50).map(|_| {
            let start = Instant::now();
            rig.port.wait(Some(wanted)).unwrap();
            start.elapsed()
        });
        // The shortest, since a busy machine stretches any of them. A poll that rounds up to
        // milliseconds would never be below one.
        let shortest = waits.min().unwrap();
        assert!(shortest >= wanted, "{name}: {shortest:?}");
        assert!(shortest < Duration::from_millis(1), "{name}: {shortest:?}");
    }
}

#[test]
fn a_packet_wakes_a_sleeping_worker() {
    for (name, kind, options) in modes() {
        let mut rig = Rig::new(kind, &options, &["[::]:0"]);
        rig.port.receive(&mut |_, _| {}).unwrap();
        let to = loopback(rig.locals[0], true);
        let start = Instant::now();
        let sender = std::thread::spawn(move || plain("[::1]:0").send_to(b"wake", to).unwrap());
        let mut woken = 0;
        while woken == 0 {
            rig.port.wait(Some(PATIENCE)).unwrap();
            woken = rig.port.receive(&mut |_, _| {}).unwrap();
        }
        assert!(start.elapsed() < PATIENCE / 2, "{name}");
        sender.join().unwrap();
    }
}

#[test]
fn a_packet_not_yet_taken_keeps_the_worker_awake() {
    for (name, kind, options) in modes() {
        let mut rig = Rig::new(kind, &options, &["[::]:0"]);
        plain("[::1]:0").send_to(b"here", loopback(rig.locals[0], true)).unwrap();
        rig.port.wait(Some(PATIENCE)).unwrap();
        let start = Instant::now();
        rig.port.wait(Some(PATIENCE)).unwrap();
        assert!(start.elapsed() < PATIENCE / 2, "{name}");
        assert_eq!(rig.take(1).len(), 1, "{name}");
    }
}

#[test]
fn a_long_stream_never_runs_out_of_buffers_for_good() {
    for (name, kind, options) in modes() {
        let mut tx = Rig::new(kind, &options, &["[::]:0"]);
        let end = plain("127.0.0.1:0");
        let meta = dial(end.local_addr().unwrap());
        // Many times what all transmit buffers hold; the receiver may lose some, the port none.
        for _ in 0..20_000 {
            tx.queue(&[1; 1350], &meta);
        }
        tx.port.flush().unwrap();
        tx.queue(b"last", &meta);
        assert_eq!(tx.dropped(stoq_telemetry::DropReason::PortSend), 0, "{name}");
    }
}

/// Packets that cross in the test below, and how many at a time.
const PACKETS: u64 = 60_000;
const WINDOW: u64 = 64;

/// Sends until the other end has told that all arrived.
fn send_windows(mut tx: Rig, to: SocketAddr) {
    let (mut sent, mut heard) = (0, 0);
    let deadline = Instant::now() + 3 * PATIENCE;
    while heard < PACKETS {
        while sent - heard < WINDOW && sent < PACKETS {
            tx.queue(&[2; 1200], &dial(to));
            sent += 1;
        }
        tx.port.flush().unwrap();
        tx.port.wait(Some(Duration::from_millis(100))).unwrap();
        let mut hear = |answer: &mut [u8], _: &_| {
            heard = u64::from_be_bytes((&*answer).try_into().unwrap());
        };
        tx.port.receive(&mut hear).unwrap();
        assert!(Instant::now() < deadline, "{heard} of {PACKETS} arrived");
    }
}

/// Takes packets and tells how many arrived; `going` says whether the sender still sends.
fn take_windows(rx: &mut Rig, going: &dyn Fn() -> bool) {
    let mut received = 0;
    while received < PACKETS {
        let mut from = None;
        rx.port.wait(Some(PATIENCE)).unwrap();
        let count = rx.port.receive(&mut |_, meta| from = Some(meta.from)).unwrap();
        assert!(count > 0 || going(), "{received} of {PACKETS}");
        received += count as u64;
        if let Some(from) = from {
            rx.queue(&received.to_be_bytes(), &dial(from));
            rx.port.flush().unwrap();
        }
    }
}

#[test]
fn two_busy_ends_never_stall() {
    for (name, kind, options) in modes() {
        let mut rx = Rig::new(kind, &options, &["[::1]:0"]);
        let to = rx.locals[0];
        let sender = std::thread::spawn(move || {
            send_windows(Rig::new(kind, &options, &["[::1]:0"]), to);
        });
        take_windows(&mut rx, &|| !sender.is_finished());
        sender.join().expect(&name);
    }
}
