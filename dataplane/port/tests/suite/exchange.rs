//! Packets come through whole, in order and with their addresses, in every mode.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use stoq_port::{Socket, TxMeta};
use stoq_telemetry::DropReason;

use crate::modes;
use crate::rig::{Rig, dial, hear, loopback, plain};

/// A datagram that says its number, so that order and contents can be checked.
fn datagram(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len];
    bytes[..4].copy_from_slice(&(number as u32).to_be_bytes());
    bytes
}

#[test]
fn every_datagram_arrives_whole_and_in_order() {
    // Trains, a short end, a longer one behind it, lone small ones.
    let lens: Vec<usize> = (0..600)
        .map(|n| match n % 50 {
            0..40 => 1350,
            40 => 700,
            41..45 => 1400,
            45 => 4,
            _ => 60,
        })
        .collect();
    for (name, kind, options) in modes() {
        for v6 in [false, true] {
            let mut rx = Rig::new(kind, &options, &["[::]:0"]);
            let mut tx = Rig::new(kind, &options, &["[::]:0"]);
            let to = loopback(rx.locals[0], v6);
            for (number, len) in lens.iter().enumerate() {
                tx.queue(&datagram(number, *len), &dial(to));
            }
            tx.port.flush().unwrap();
            let taken = rx.take(lens.len());
            assert_eq!(taken.len(), lens.len(), "{name}");
            for (number, (bytes, meta)) in taken.iter().enumerate() {
                assert!(*bytes == datagram(number, lens[number]), "{name}: datagram {number}");
                assert_eq!(meta.to, to, "{name}");
                assert_eq!(meta.from, loopback(tx.locals[1], v6), "{name}");
                assert_eq!(meta.socket, Socket::Listen(0), "{name}");
            }
            assert_eq!(tx.dropped(DropReason::PortSend), 0, "{name}");
            assert_eq!(rx.dropped(DropReason::PortReceive), 0, "{name}");
        }
    }
}

#[test]
fn interleaved_destinations_each_get_their_own() {
    for (name, kind, options) in modes() {
        let mut tx = Rig::new(kind, &options, &["127.0.0.1:0"]);
        let ends = [plain("127.0.0.1:0"), plain("[::1]:0")];
        for number in 0..60 {
            let to = ends[number % 2].local_addr().unwrap();
            tx.queue(&datagram(number, 500), &dial(to));
        }
        tx.port.flush().unwrap();
        let mut bytes = [0; 2048];
        for number in 0..60 {
            let len = hear(&ends[number % 2], &mut bytes).0;
            assert!(bytes[..len] == datagram(number, 500), "{name}: datagram {number}");
        }
    }
}

#[test]
fn the_source_address_is_the_one_asked_for() {
    for (name, kind, options) in modes() {
        let mut tx = Rig::new(kind, &options, &["0.0.0.0:0", "[::]:0"]);
        let end = plain("127.0.0.1:0");
        let to = end.local_addr().unwrap();
        for (place, socket) in
            [Socket::Listen(0), Socket::Listen(1), Socket::Dial].into_iter().enumerate()
        {
            let from = format!("127.0.0.{}", place + 5).parse().unwrap();
            tx.queue(b"hello", &TxMeta { to, from: Some(from), socket });
            tx.port.flush().unwrap();
            let (_, sender) = hear(&end, &mut [0; 16]);
            assert_eq!(sender, (from, tx.locals[place].port()).into(), "{name}");
        }
    }
}

fn send_with_ecn(to: std::net::SocketAddr, ecn: i32) {
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    if to.is_ipv4() {
        setsockopt(&socket.as_fd(), sockopt::Ipv4Tos, &ecn).unwrap();
    } else {
        setsockopt(&socket.as_fd(), sockopt::Ipv6TClass, &ecn).unwrap();
    }
    socket.send_to(b"marked", to).unwrap();
}

#[test]
fn ecn_bits_are_reported() {
    for (name, kind, options) in modes() {
        let mut rx = Rig::new(kind, &options, &["[::]:0", "0.0.0.0:0"]);
        for (place, v6) in [(0, false), (0, true), (1, false)] {
            for ecn in 0..4 {
                send_with_ecn(loopback(rx.locals[place], v6), ecn);
                let taken = rx.take(1);
                assert_eq!(i32::from(taken[0].1.ecn), ecn, "{name}");
                assert!(taken[0].1.from.ip().is_loopback() && taken[0].1.from.is_ipv6() == v6);
            }
        }
    }
}

#[test]
fn an_empty_and_a_huge_datagram_arrive_as_they_are() {
    for (name, kind, options) in modes() {
        let mut rx = Rig::new(kind, &options, &["[::]:0"]);
        let end = plain("[::1]:0");
        for len in [0, 1, 9000, 65_000] {
            end.send_to(&vec![7; len], loopback(rx.locals[0], true)).unwrap();
            let taken = rx.take(1);
            assert_eq!(taken[0].0.len(), len, "{name}");
        }
    }
}

#[test]
fn a_refused_packet_is_counted_and_the_port_goes_on() {
    for (name, kind, options) in modes() {
        let mut tx = Rig::new(kind, &options, &["0.0.0.0:0"]);
        let end = plain("127.0.0.1:0");
        let good = dial(end.local_addr().unwrap());
        // Broadcast without leave (EACCES), the wrong family, a socket that is not there.
        tx.queue(b"to all", &dial("255.255.255.255:9".parse().unwrap()));
        let six = "[2001:db8::1]:9".parse().unwrap();
        tx.queue(b"six", &TxMeta { to: six, from: None, socket: Socket::Listen(0) });
        tx.queue(b"nobody", &TxMeta { socket: Socket::Listen(9), ..good });
        tx.queue(b"good", &good);
        tx.port.flush().unwrap();
        let mut bytes = [0; 16];
        assert_eq!(hear(&end, &mut bytes).0, 4, "{name}");
        tx.expect_dropped(DropReason::PortSend, 3);
    }
}
