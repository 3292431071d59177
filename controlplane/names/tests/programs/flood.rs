//! Floods by a peer: of queries, of connections, of rubbish. The others are answered meanwhile.

use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use super::NODES;
use super::bed::{Bed, HOST_V6, Served, can_run, zone};
use stoq_names::{LOOPBACK, Outcome, ZoneKey};

/// How long an answer or the end of a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A query for the AAAA records of a name.
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 28, 0, 1]);
    message
}

/// Asks and waits for the answer; empty when none came.
pub fn ask(server: &str, name: &str) -> Vec<u8> {
    let any = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&query(name), server).unwrap();
    let mut answer = vec![0; 4096];
    let len = socket.recv(&mut answer).unwrap_or(0);
    answer.truncate(len);
    answer
}

#[test]
fn a_flood_of_queries_is_cut_to_the_rate_and_the_host_is_answered() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let served = Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 1), vec![]);
    let flood = bed.peer.enter(|| {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.connect((HOST_V6, 53)).unwrap();
        let message = query("edge-b.lab.internal");
        (0..100_000).filter(|_| socket.send(&message).is_ok()).count()
    });
    let host = bed.host.enter(|| {
        let answered = |_: &u32| ask("127.0.92.53:53", "edge-c.lab.internal").len() > 60;
        (0..500).filter(answered).count()
    });
    let sent = flood.join().unwrap() as u64;
    assert_eq!(host.join().unwrap(), 500, "the host's own queries");
    let (limited, answered) = (served.count(Outcome::RateLimited), served.count(Outcome::Zone));
    // What the kernel dropped before us is in neither.
    assert!(sent > 50_000 && limited > 1000, "{sent} sent, {limited} dropped");
    assert!(answered < 500 + 400 + 200 * 60, "{answered} answered");
    println!("{sent} sent, {limited} dropped by the rate, {answered} answered");
}

#[test]
fn connections_of_one_source_do_not_keep_others_out() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let served = Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 1), vec![]);
    let held = bed.peer.enter(|| {
        let connect = |_| TcpStream::connect((HOST_V6, 53)).unwrap();
        let mut streams: Vec<TcpStream> = (0..200).map(connect).collect();
        // Those that got no place are closed: the end is the event that is waited for.
        let closed = |stream: &mut TcpStream| {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            matches!(stream.read(&mut [0; 1]), Ok(0)) || stream.peer_addr().is_err()
        };
        let last = streams.iter_mut().rev().take(150);
        let open = last.map(closed).filter(|closed| !closed).count();
        (streams, open)
    });
    let (_streams, open) = held.join().unwrap();
    assert_eq!(open, 0, "the last 150 of 200 are closed at once");
    assert_eq!(served.count(Outcome::Connections), 200 - 16);
    let said = bed.host.text(&format!("dig +tcp +short @{LOOPBACK} edge-b.lab.internal AAAA"));
    assert_eq!(said.trim(), "fd42:1:2::2");
}

#[test]
fn rubbish_and_responses_are_dropped_and_counted() {
    if !can_run() {
        return;
    }
    let bed = Bed::new();
    let served = Served::start(&bed.host, zone(&ZoneKey::generate().unwrap(), NODES, 1), vec![]);
    let good = query("edge-b.lab.internal");
    let mut response = good.clone();
    response[2] |= 0x80;
    let mut two = good.clone();
    two[5] = 2;
    let mut compressed = good[..12].to_vec();
    compressed.extend_from_slice(&[0xc0, 12, 0, 28, 0, 1]);
    let rubbish =
        [vec![], vec![0], good[..20].to_vec(), response, two, compressed, vec![0xff; 1300]];
    let count = rubbish.len() as u64;
    let answers = bed.peer.enter(move || {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.connect((HOST_V6, 53)).unwrap();
        for message in &rubbish {
            socket.send(message).unwrap();
        }
        // This one is answered, and it is the first that is.
        socket.send(&good).unwrap();
        let mut answer = [0; 1500];
        let len = socket.recv(&mut answer).unwrap();
        answer[..len].to_vec()
    });
    assert!(answers.join().unwrap().len() > 60);
    assert_eq!(served.count(Outcome::Malformed), count);
    let amplified = bed
        .peer
        .text(&format!("dig +dnssec +ignore +bufsize=65000 @{HOST_V6} lab.internal DNSKEY"));
    let size = amplified.lines().find_map(|line| line.split("rcvd: ").nth(1)).unwrap();
    assert!(size.trim().parse::<u16>().unwrap() <= 1232, "{size}");
}
