//! A path that loses packets at random: a link over it keeps its window.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "network/bottleneck.rs"]
mod bottleneck;
mod network;

use std::time::{Duration, Instant};

use bottleneck::{Bottleneck, Shape};
use network::{Node, PATIENCE, pki};
use stoq::settings::Settings;
use stoq::{LinkStatus, RecoveryCounts};
use stoq_telemetry::DropReason;

/// Packets after which a window that follows loss has long collapsed: at 5 % it is some ten packets
/// after the first thousand.
const PACKETS: u64 = 5000;

/// Two linked nodes, 40 Mbit/s and 20 ms there and back between them, and this part of the packets lost.
fn path(loss: f64, settings: [&Settings; 2]) -> Bottleneck {
    let dir = pki(&["edge-a", "edge-b"]);
    let node = |name, at, settings: &Settings| Node::new(dir.path(), name, at, settings.clone());
    let mut a = node("edge-a", "[fd00::1]:9292", settings[0]);
    let mut b = node("edge-b", "[fd00::2]:9292", settings[1]);
    a.peer(0, "edge-b", &[b.address]);
    b.peer(0, "edge-a", &[]);
    let delay = Duration::from_millis(10);
    let shape = Shape { bytes_per_s: 5_000_000, buffer_bytes: 250_000, delay, loss };
    let mut path = Bottleneck::new([a, b], shape, 7);
    path.connect();
    path
}

/// Sends without a pause until this holds.
fn run_until(path: &mut Bottleneck, done: impl Fn(&mut Bottleneck) -> bool) {
    let start = Instant::now();
    while !done(path) {
        assert!(start.elapsed() < PATIENCE, "{:?}", path.nodes[0].endpoint.links());
        path.offer(200, 1300);
        path.step();
    }
}

fn status(path: &mut Bottleneck, node: usize) -> LinkStatus {
    path.nodes[node].endpoint.links().remove(0)
}

#[test]
fn random_loss_does_not_take_the_window() {
    let settings = Settings { recovery: false, ..Settings::default() };
    let mut path = path(0.05, [&settings, &settings]);
    run_until(&mut path, |path| path.packets >= PACKETS);
    let link = status(&mut path, 0);
    assert!(link.lost_packets > PACKETS / 50, "{link:?}");
    assert!(link.congestion_window > settings.initial_window_packets * 1200, "{link:?}");
}

#[test]
fn what_a_path_loses_is_sent_again_and_arrives_in_order() {
    let settings = Settings::default();
    let mut path = path(0.05, [&settings, &settings]);
    run_until(&mut path, |path| status(path, 1).recovery.recovered >= 100);
    assert_eq!(path.disordered, 0);
    assert!(status(&mut path, 0).recovery.resent >= 100);
    let given_up = status(&mut path, 1).recovery.given_up;
    assert!(given_up < 20, "{given_up} of some hundred lost packets were given up");
}

#[test]
fn recovery_is_used_only_if_both_ends_have_it_and_the_path_loses() {
    let (with, without) =
        (Settings::default(), Settings { recovery: false, ..Settings::default() });
    for (loss, settings) in
        [(0.05, [&with, &without]), (0.05, [&without, &with]), (0.0, [&with, &with])]
    {
        let mut path = path(loss, settings);
        run_until(&mut path, |path| path.packets >= PACKETS);
        for node in [0, 1] {
            assert_eq!(status(&mut path, node).recovery, RecoveryCounts::default());
            assert_eq!(path.nodes[node].dropped(DropReason::ContextUnknown), 0);
        }
    }
}
