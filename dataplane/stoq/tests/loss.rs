//! A path that loses packets at random: a link over it keeps its window.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "network/bottleneck.rs"]
mod bottleneck;
mod network;

use std::time::{Duration, Instant};

use bottleneck::{Bottleneck, Shape};
use network::{Node, PATIENCE, pki};
use stoq::settings::Settings;

/// Packets after which a window that follows loss has long collapsed: at 5 % it is some ten packets
/// after the first thousand.
const PACKETS: u64 = 5000;

#[test]
fn random_loss_does_not_take_the_window() {
    let dir = pki(&["edge-a", "edge-b"]);
    let settings = Settings::default();
    let [mut a, mut b] = [("edge-a", "[fd00::1]:9292"), ("edge-b", "[fd00::2]:9292")]
        .map(|(name, at)| Node::new(dir.path(), name, at, settings.clone()));
    a.peer(0, "edge-b", &[b.address]);
    b.peer(0, "edge-a", &[]);
    let shape = Shape {
        bytes_per_s: 5_000_000,
        buffer_bytes: 250_000,
        delay: Duration::from_millis(10),
        loss: 0.05,
    };
    let mut path = Bottleneck::new([a, b], shape, 7);
    path.connect();
    let start = Instant::now();
    while path.packets < PACKETS {
        assert!(start.elapsed() < PATIENCE, "{} packets arrived", path.packets);
        path.offer(200, 1300);
        path.step();
    }
    let link = path.nodes[0].endpoint.links().remove(0);
    assert!(link.lost_packets > PACKETS / 50, "{link:?}");
    assert!(link.congestion_window > settings.initial_window_packets * 1200, "{link:?}");
}
