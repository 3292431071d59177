//! Links between two endpoints: they come up, carry packets in order, are replaced, and refuse
//! those who do not belong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod network;

use std::time::{Duration, Instant};

use network::{Node, deliver, pki, run_until};
use stoq::settings::Settings;
use stoq::{Event, PeerId};
use stoq_buffer::PacketBuf;
use stoq_telemetry::DropReason;

const A: &str = "[fd00::1]:9292";
const B: &str = "[fd00::2]:9292";

fn pass_all(_: &[u8]) -> bool {
    true
}

/// Two nodes; those that `dial` says know the other's address.
fn pair(dir: &std::path::Path, dial: [bool; 2], settings: &Settings) -> (Node, Node) {
    let mut a = Node::new(dir, "edge-a", A, settings.clone());
    let mut b = Node::new(dir, "edge-b", B, settings.clone());
    let [to_b, to_a] = [(dial[0], b.address), (dial[1], a.address)]
        .map(|(dial, address)| if dial { vec![address] } else { Vec::new() });
    a.peer(0, "edge-b", &to_b);
    b.peer(0, "edge-a", &to_a);
    (a, b)
}

fn send(node: &mut Node, number: u32, len: usize) {
    let mut contents = vec![0x45; len];
    contents[..4].copy_from_slice(&number.to_be_bytes());
    let packet = PacketBuf::from_slice(&contents);
    node.endpoint.enqueue(PeerId(0), packet, 1, false, Instant::now()).unwrap();
}

fn numbers(node: &Node) -> Vec<u32> {
    let number = |p: &PacketBuf| u32::from_be_bytes(p.as_slice()[..4].try_into().unwrap());
    node.received.iter().map(|(_, packet)| number(packet)).collect()
}

#[test]
fn a_link_comes_up_whoever_dials() {
    let dir = pki(&["edge-a", "edge-b"]);
    for dial in [[true, false], [false, true], [true, true]] {
        let (mut a, mut b) = pair(dir.path(), dial, &Settings::default());
        run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
        for node in [&mut a, &mut b] {
            let link = node.endpoint.links().remove(0);
            assert_eq!(link.key_exchange, Some("X25519MLKEM768"), "dial {dial:?}");
        }
    }
}

#[test]
fn packets_arrive_once_and_in_order_both_ways() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path(), [true, true], &Settings::default());
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    // A few at a time: CoDel would drop from a queue that a busy machine lets stand.
    for first in (0..2000).step_by(40) {
        for number in first..first + 40 {
            send(&mut a, number, 1200);
            send(&mut b, number, 60);
        }
        let so_far = first as usize + 40;
        run_until(&mut a, &mut b, &mut pass_all, |a, b| {
            a.received.len() == so_far && b.received.len() == so_far
        });
    }
    assert_eq!(numbers(&a), (0..2000).collect::<Vec<_>>());
    assert_eq!(numbers(&b), (0..2000).collect::<Vec<_>>());
}

#[test]
fn connections_are_replaced_under_traffic_without_loss_or_reordering() {
    let dir = pki(&["edge-a", "edge-b"]);
    let settings = Settings { packets_per_connection: 2000, ..Settings::default() };
    let (mut a, mut b) = pair(dir.path(), [true, false], &settings);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    let (mut sent, start) = (0, Instant::now());
    let mut connections = std::collections::HashSet::new();
    while connections.len() < 4 {
        assert!(start.elapsed() < network::PATIENCE, "{connections:?}");
        for _ in 0..20 {
            send(&mut a, sent, 1000);
            send(&mut b, sent, 1000);
            sent += 1;
        }
        let mut note = |datagram: &[u8]| {
            // The tag of a short header's connection ID names the connection.
            if datagram[0] & 0x80 == 0 {
                connections.insert(datagram[9..13].to_vec());
            }
            true
        };
        deliver(&mut a, &mut b, &mut note);
        deliver(&mut b, &mut a, &mut pass_all);
        std::thread::yield_now();
    }
    let all = sent as usize;
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        a.received.len() == all && b.received.len() == all
    });
    assert_eq!(numbers(&a), (0..sent).collect::<Vec<_>>());
    assert_eq!(numbers(&b), (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_large_packet_passes_in_pieces_while_the_path_is_unknown() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path(), [true, false], &Settings::default());
    // A path of 1280 bytes: every larger datagram is lost.
    let mut narrow = |datagram: &[u8]| datagram.len() <= 1280 - 48;
    run_until(&mut a, &mut b, &mut narrow, |a, b| a.is_up() && b.is_up());
    send(&mut a, 1, 1280);
    run_until(&mut a, &mut b, &mut narrow, |_, b| b.received.len() == 1);
    assert_eq!(b.received[0].1.len(), 1280);
}

#[test]
fn a_packet_larger_than_the_interface_carries_is_counted() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, b) = pair(dir.path(), [false, false], &Settings::default());
    let path = stoq::Path { local: a.address, remote: b.address, via: stoq::Via::Listen(0) };
    for (len, reason) in [(1472, DropReason::CidForged), (1473, DropReason::OuterOversized)] {
        assert_eq!(a.dropped(reason), 0);
        assert_eq!(a.endpoint.receive(&mut vec![0x40; len], path, Instant::now()), None);
        assert_eq!(a.dropped(reason), 1, "{len} bytes");
    }
}

#[test]
fn a_foreign_certificate_is_refused_and_counted() {
    let (dir, foreign) = (pki(&["edge-a"]), pki(&["edge-b"]));
    let mut a = Node::new(dir.path(), "edge-a", A, Settings::default());
    let mut b = Node::new(foreign.path(), "edge-b", B, Settings::default());
    let to_b = [b.address];
    a.peer(0, "edge-b", &to_b);
    b.peer(0, "edge-a", &[]);
    run_until(&mut a, &mut b, &mut pass_all, |a, _| a.dropped(DropReason::CertificateRefused) > 0);
    assert!(!a.is_up() && !b.is_up());
}

#[test]
fn a_node_of_the_mesh_that_is_no_peer_is_refused() {
    let dir = pki(&["edge-a", "edge-b", "edge-c"]);
    let mut a = Node::new(dir.path(), "edge-a", A, Settings::default());
    let mut c = Node::new(dir.path(), "edge-c", B, Settings::default());
    a.peer(0, "edge-b", &[]);
    let to_a = [a.address];
    c.peer(0, "edge-a", &to_a);
    run_until(&mut a, &mut c, &mut pass_all, |a, _| a.dropped(DropReason::PeerUnknown) > 0);
    assert!(!a.is_up());
}

#[test]
fn a_restarted_peer_is_connected_again() {
    let dir = pki(&["edge-a", "edge-b"]);
    for dial in [[true, false], [false, true]] {
        let (mut a, mut b) = pair(dir.path(), dial, &Settings::default());
        run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
        let mut again = Node::with_generation(dir.path(), "edge-b", B, Settings::default(), 2);
        let to_a = if dial[1] { vec![a.address] } else { Vec::new() };
        again.peer(0, "edge-a", &to_a);
        // Traffic towards the lost run is answered by a stateless reset, or its dial supersedes.
        send(&mut a, 1, 100);
        run_until(&mut a, &mut again, &mut pass_all, |_, b| b.is_up());
        // Until it hears of the new run, it still takes the old connection to be up.
        let is_up_again = |event: &&Event| matches!(event, Event::Up { .. });
        run_until(&mut a, &mut again, &mut pass_all, |a, _| {
            a.is_up() && a.events.iter().filter(is_up_again).count() >= 2
        });
        send(&mut a, 2, 100);
        run_until(&mut a, &mut again, &mut pass_all, |_, b| numbers(b).contains(&2));
    }
}

#[test]
fn a_drained_node_tells_its_peers() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path(), [true, false], &Settings::default());
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    a.endpoint.drain(Instant::now());
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.endpoint.is_drained() && !b.is_up());
}

#[test]
fn a_link_survives_a_blackhole_of_three_seconds() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path(), [true, true], &Settings::default());
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    let (cut, mut number) = (Instant::now(), 0);
    let mut nothing = |_: &[u8]| false;
    run_until(&mut a, &mut b, &mut nothing, |a, b| {
        // Traffic both ways, by which each end notices that nothing answers.
        if number < cut.elapsed().as_millis() as u32 / 10 {
            number += 1;
            send(a, number, 100);
            send(b, number, 100);
        }
        cut.elapsed() > Duration::from_secs(3)
    });
    let back = Instant::now();
    run_until(&mut a, &mut b, &mut pass_all, |a, b| {
        let arrived = a.received.len().min(b.received.len());
        if a.is_up() && b.is_up() {
            send(a, 100_000, 100);
            send(b, 100_000, 100);
        }
        arrived > 0 && numbers(a).contains(&100_000) && numbers(b).contains(&100_000)
    });
    // That it takes no longer than 3 s is shown in many worlds; here, that no idle time has to end.
    assert!(
        back.elapsed() < Settings::default().idle_timeout,
        "after {:?}: {:?} {:?}",
        back.elapsed(),
        a.events,
        b.events
    );
    let refused = [&a, &b].map(|node| node.dropped(DropReason::HandshakeFailed));
    assert_eq!(refused, [0, 0], "{:?} {:?}", a.events, b.events);
}

/// Bytes that a client would send first: QUIC version 1, Initial, made-up IDs, of the least size. Nothing
/// in it has to be opened to be answered by a Retry.
fn first_packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0; 1200];
    packet[0] = 0xc0;
    packet[1..6].copy_from_slice(&[0, 0, 0, 1, 12]);
    packet[8..12].copy_from_slice(&number.to_be_bytes());
    packet[18] = 12;
    packet[20..24].copy_from_slice(&number.to_be_bytes());
    // No token, and a length that fills the datagram.
    packet[32..34].copy_from_slice(&(0x4000_u16 | (1200 - 34)).to_be_bytes());
    packet
}

#[test]
fn a_flood_of_first_packets_is_answered_within_a_budget_and_a_link_lives_on() {
    let dir = pki(&["edge-a", "edge-b"]);
    let settings = Settings { retry_above: 0, ..Settings::default() };
    let (mut a, mut b) = pair(dir.path(), [true, false], &settings);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    let (before, now) = (b.endpoint.retries_sent(), Instant::now());
    let local = b.address;
    for number in 0..20_000 {
        b.endpoint.begin_burst();
        let remote = ([10, 0, (number >> 8) as u8, number as u8], 4000).into();
        let path = stoq::Path { local, remote, via: stoq::Via::Listen(0) };
        b.endpoint.receive(&mut first_packet(number), path, now);
        while b.endpoint.poll_transmit(&mut [0; 1500], now).is_some() {}
    }
    let answered = b.endpoint.retries_sent() - before;
    assert!((100..1000).contains(&answered), "{answered} of 20000 at once were answered");
    assert!(b.dropped(DropReason::HandshakeBudget) > 10_000);
    send(&mut a, 7, 500);
    run_until(&mut a, &mut b, &mut pass_all, |_, b| numbers(b) == [7]);
}
