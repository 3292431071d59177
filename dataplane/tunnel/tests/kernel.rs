//! The tunnel between two real kernels: two network namespaces with a TUN device each, and in
//! between what a pair of workers does - segment what is read, coalesce what is written - without
//! the transport. Privileged: needs root, and says so when it cannot run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bed;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use bed::{Bed, Host, Pump};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use stoq_tunnel::device::Offloads;

/// Long enough for a loaded machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes sent over TCP each way.
const TRANSFER: usize = 32 << 20;

/// UDP datagrams in one GSO send, and their size.
const TRAIN: usize = 20;
const DATAGRAM: usize = 1_000;
const TRAINS: usize = 100;

/// Byte `at` of what is sent.
fn content(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

fn send_tcp(mut stream: TcpStream) {
    let mut chunk = vec![0; 1 << 16];
    for start in (0..TRANSFER).step_by(chunk.len()) {
        chunk.iter_mut().enumerate().for_each(|(i, byte)| *byte = content(start + i));
        stream.write_all(&chunk).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
}

/// Checks every byte.
fn receive_tcp(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut at, mut chunk) = (0, vec![0; 1 << 16]);
    loop {
        let count = stream.read(&mut chunk).unwrap();
        let same = chunk[..count].iter().enumerate().all(|(i, byte)| *byte == content(at + i));
        assert!(same, "other bytes came within {count} from {at}");
        at += count;
        if count == 0 {
            return assert_eq!(at, TRANSFER);
        }
    }
}

/// Both directions at once over one connection.
fn exchange_tcp(bed: &Bed, address: IpAddr) {
    let (listener, port) = bed.right.run(move || {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    });
    let server = bed.right.spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let sending = stream.try_clone().unwrap();
        let sender = std::thread::spawn(|| send_tcp(sending));
        receive_tcp(stream);
        sender.join().unwrap();
    });
    let client = bed.left.spawn(move || {
        let stream = TcpStream::connect_timeout(&(address, port).into(), PATIENCE).unwrap();
        let sending = stream.try_clone().unwrap();
        let sender = std::thread::spawn(|| send_tcp(sending));
        receive_tcp(stream);
        sender.join().unwrap();
    });
    client.join().unwrap();
    server.join().unwrap();
}

/// Trains of datagrams, each train sent when the last one has arrived in order and unchanged.
fn send_udp(bed: &Bed, address: IpAddr) {
    let (arrived, arrival) = mpsc::channel();
    let receiver = bed.right.run(move || UdpSocket::bind((address, 0)).unwrap());
    let port = receiver.local_addr().unwrap().port();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = bed.right.spawn(move || {
        let mut datagram = vec![0; 2_000];
        for number in 0..TRAINS * TRAIN {
            let len = receiver.recv(&mut datagram).unwrap();
            let start = number * DATAGRAM;
            let same = (0..len).all(|i| datagram[i] == content(start + i));
            assert!(len == DATAGRAM && same, "datagram {number} came otherwise");
            if (number + 1) % TRAIN == 0 {
                arrived.send(()).unwrap();
            }
        }
    });
    let local: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let sender = bed.left.run(move || UdpSocket::bind((local, 0)).unwrap());
    setsockopt(&sender, UdpGsoSegment, &(DATAGRAM as i32)).unwrap();
    for train in 0..TRAINS {
        let start = train * TRAIN * DATAGRAM;
        let bytes: Vec<u8> = (start..start + TRAIN * DATAGRAM).map(content).collect();
        sender.send_to(&bytes, (address, port)).unwrap();
        arrival.recv_timeout(PATIENCE).unwrap();
    }
    server.join().unwrap();
}

fn checksum_errors(host: &Host) -> u64 {
    host.run(|| bed::counters("InCsumErrors").iter().sum())
}

/// Everything, with these offloads; returns what the pump saw.
fn carry(name: &str, offloads: Offloads, queues: usize) -> Option<bed::Seen> {
    let bed = Bed::new(name, offloads, queues)?;
    let pump = Pump::start(&bed, None);
    for address in [bed::RIGHT_V4, bed::RIGHT_V6] {
        exchange_tcp(&bed, address);
        send_udp(&bed, address);
    }
    let seen = pump.stop();
    let errors = (checksum_errors(&bed.left), checksum_errors(&bed.right));
    assert_eq!(errors, (0, 0), "the kernel found wrong checksums");
    assert_eq!((seen.refused, seen.unreadable), (0, 0));
    Some(seen)
}

#[test]
fn privileged_all_offloads_carry_super_packets() {
    let Some(seen) = carry("all", Offloads::ALL, 1) else { return };
    assert!(seen.tcp_read > 0 && seen.tcp_written > 0, "{seen:?}");
    assert!(seen.udp_read > 0 && seen.udp_written > 0, "{seen:?}");
}

#[test]
fn privileged_several_queues_carry_as_one() {
    let Some(seen) = carry("queues", Offloads::ALL, 2) else { return };
    assert!(seen.tcp_read > 0 && seen.tcp_written > 0, "{seen:?}");
}

#[test]
fn privileged_without_uso_tcp_still_goes_in_super_packets() {
    let Some(seen) = carry("nouso", Offloads { uso: false, ..Offloads::ALL }, 1) else { return };
    assert!(seen.tcp_read > 0 && seen.tcp_written > 0, "{seen:?}");
    assert_eq!((seen.udp_read, seen.udp_written), (0, 0));
}

#[test]
fn privileged_without_tso_udp_still_goes_in_super_packets() {
    let Some(seen) = carry("notso", Offloads { tso: false, ..Offloads::ALL }, 1) else { return };
    assert!(seen.udp_read > 0 && seen.udp_written > 0, "{seen:?}");
    assert_eq!((seen.tcp_read, seen.tcp_written), (0, 0));
}

#[test]
fn privileged_without_segmentation_checksums_are_completed() {
    let wanted = Offloads { checksum: true, ..Offloads::NONE };
    let Some(seen) = carry("csum", wanted, 1) else { return };
    assert!(seen.partial_read > 0, "{seen:?}");
    assert_eq!((seen.tcp_read, seen.tcp_written), (0, 0));
}

#[test]
fn privileged_without_any_offload_packets_go_as_they_are() {
    let Some(seen) = carry("none", Offloads::NONE, 1) else { return };
    let supers = [seen.tcp_read, seen.tcp_written, seen.udp_read, seen.udp_written];
    assert_eq!((supers, seen.partial_read), ([0; 4], 0));
}

/// A byte changed on the way is found by the receiving kernel, in spite of coalescing, and TCP
/// mends it.
#[test]
fn privileged_corruption_inside_is_not_hidden() {
    let Some(bed) = Bed::new("corrupt", Offloads::ALL, 1) else { return };
    let pump = Pump::start(&bed, Some(997));
    exchange_tcp(&bed, bed::RIGHT_V4);
    let seen = pump.stop();
    assert!(seen.corrupted > 0 && seen.tcp_written > 0, "{seen:?}");
    let errors = checksum_errors(&bed.left) + checksum_errors(&bed.right);
    assert_eq!(errors, seen.corrupted, "each change is found");
}
