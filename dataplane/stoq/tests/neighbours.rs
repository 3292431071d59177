//! Neighbouring revisions of the protocol: this one beside one that names fewer features, and beside one
//! that names features which nobody knows yet. Whoever dials, the link carries packets both ways, and what
//! is in use is what both ends named.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod network;

use std::time::Instant;

use network::{Node, pki, run_until};
use stoq::PeerId;
use stoq::control::feature;
use stoq::settings::Settings;
use stoq_buffer::PacketBuf;

const PEER: PeerId = PeerId(0);

/// Packets that are sent each way.
const PACKETS: usize = 50;

/// One end: what it is called, the features that it names beside recovery, and whether it recovers.
#[derive(Clone, Copy, Debug)]
struct Revision {
    features: u64,
    recovery: bool,
}

/// Before slices and recovery: HELLO names nothing.
const EARLIER: Revision = Revision { features: 0, recovery: false };
/// Slices without recovery, and recovery without slices.
const SLICES_ALONE: Revision = Revision { features: feature::SLICED, recovery: false };
const RECOVERY_ALONE: Revision = Revision { features: 0, recovery: true };
/// This one.
const PRESENT: Revision = Revision { features: feature::SLICED, recovery: true };
/// Names every bit there is.
const LATER: Revision = Revision { features: u64::MAX, recovery: true };

fn node(dir: &std::path::Path, name: &str, address: &str, revision: Revision) -> Node {
    let settings = Settings { recovery: revision.recovery, ..Settings::default() };
    let credentials = network::credentials(dir, name);
    Node::with_features(credentials, address, settings, 1, revision.features)
}

fn send(node: &mut Node) {
    for number in 0..PACKETS {
        let packet = PacketBuf::from_slice(&[0x60 | (number as u8 & 0x0f); 100]);
        node.endpoint.enqueue(PEER, packet, 1, false, Instant::now()).unwrap();
    }
}

/// The link between a dialler and an acceptor of these revisions.
fn is_linked(dialler: Revision, acceptor: Revision) {
    let dir = pki(&["a", "b"]);
    let mut a = node(dir.path(), "a", "[2001:db8::1]:9292", dialler);
    let mut b = node(dir.path(), "b", "[2001:db8::2]:9292", acceptor);
    a.peer(0, "b", &[b.address]);
    b.peer(0, "a", &[]);
    run_until(&mut a, &mut b, &mut |_| true, |a, b| {
        let known = a.endpoint.path_mtu(PEER, Instant::now()).is_some_and(|mtu| mtu >= 1400);
        let known_back = b.endpoint.path_mtu(PEER, Instant::now()).is_some_and(|mtu| mtu >= 1400);
        a.is_up() && b.is_up() && known && known_back
    });
    send(&mut a);
    send(&mut b);
    run_until(&mut a, &mut b, &mut |_| true, |a, b| {
        a.received.len() >= PACKETS && b.received.len() >= PACKETS
    });
    let both = dialler.features & acceptor.features & feature::SLICED != 0;
    for node in [&mut a, &mut b] {
        let slices = node.endpoint.slicing(PEER, 1, Instant::now()).is_some();
        assert_eq!(slices, both, "{dialler:?} dials {acceptor:?}");
        assert_eq!(node.received.len(), PACKETS, "{dialler:?} dials {acceptor:?}");
    }
}

#[test]
fn every_revision_is_linked_to_every_other_whoever_dials() {
    let revisions = [EARLIER, SLICES_ALONE, RECOVERY_ALONE, PRESENT, LATER];
    for dialler in revisions {
        for acceptor in revisions {
            is_linked(dialler, acceptor);
        }
    }
}
