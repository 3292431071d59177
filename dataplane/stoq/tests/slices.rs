//! Super-packets in slices, from one endpoint to the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod network;

use std::time::Instant;

use network::{Node, pki, run_until};
use stoq::PeerId;
use stoq::control::feature;
use stoq::settings::Settings;
use stoq::slice::HEAD_LEN;
use stoq_buffer::{Head, PacketBuf, Slice};

const FLOW: u32 = 1;
const PEER: PeerId = PeerId(0);

/// Two nodes with a link whose path MTU is known; the second one can do so much.
fn pair(features: u64) -> (Node, Node) {
    let dir = pki(&["a", "b"]);
    let mut a = Node::new(dir.path(), "a", "[2001:db8::1]:9292", Settings::default());
    let credentials = network::credentials(dir.path(), "b");
    let address = "[2001:db8::2]:9292";
    let mut b = Node::with_features(credentials, address, Settings::default(), 1, features);
    a.peer(0, "b", &[b.address]);
    b.peer(0, "a", &[]);
    run_until(&mut a, &mut b, &mut |_| true, |a, b| {
        let known = a.endpoint.path_mtu(PEER, Instant::now()).is_some_and(|mtu| mtu >= 1400);
        a.is_up() && b.is_up() && known
    });
    (a, b)
}

/// Queues a super-packet of so many slices that fill their datagrams.
fn send(node: &mut Node, count: usize) -> usize {
    let now = Instant::now();
    let slicing = node.endpoint.slicing(PEER, FLOW, now).unwrap();
    let total = (count * slicing.room) as u16;
    let mut offset = 0;
    for index in 0..count {
        let head = (index == 0).then_some(Head { total, size: 1000, headers: 40 });
        let room = slicing.room - head.map_or(0, |_| HEAD_LEN);
        let body = PacketBuf::from_slice(&vec![0x60; room]);
        let slice = Slice { number: slicing.number, offset, congested: false, head, body };
        offset += slice.payload_len() as u16;
        node.endpoint.enqueue_slice(PEER, slice, false, FLOW, now).unwrap();
    }
    slicing.room
}

#[test]
fn slices_arrive_whole_in_order_and_fill_their_datagrams() {
    let (mut a, mut b) = pair(feature::SLICED);
    let room = send(&mut a, 40);
    send(&mut a, 3);
    let mut largest = 0;
    run_until(
        &mut a,
        &mut b,
        &mut |datagram| {
            largest = largest.max(datagram.len());
            true
        },
        |_, b| b.slices.len() == 43,
    );
    // Up to the packet number, which may have three bytes more.
    assert!((1449..=1452).contains(&largest), "{largest} bytes for a slice of {room}");
    let mut offset = 0;
    for (place, (slot, slice)) in b.slices.iter().enumerate() {
        if place == 40 {
            offset = 0;
        }
        assert_eq!((*slot, slice.number), (0, if place < 40 { 0 } else { 1 }));
        assert_eq!((slice.offset, slice.congested), (offset, false));
        offset += slice.payload_len() as u16;
    }
    assert!(b.received.is_empty());
}

#[test]
fn a_peer_without_the_feature_gets_none() {
    let (mut a, _) = pair(0);
    assert_eq!(a.endpoint.slicing(PEER, FLOW, Instant::now()), None);
}
