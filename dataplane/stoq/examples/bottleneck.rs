//! What a link carries over a path that loses packets at random: a bottleneck with a buffer of 50 ms,
//! 20 ms there and back, and a sender that never runs dry, for each congestion control.
//! `cargo run --example bottleneck [-- MBIT_PER_S]`
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement")]

#[path = "../tests/network/bottleneck.rs"]
mod bottleneck;
#[path = "../tests/network/mod.rs"]
mod network;

use std::time::{Duration, Instant};

use bottleneck::{Bottleneck, Shape};
use network::{Node, pki};
use stoq::settings::Settings;

/// Time of each run, after a warm-up of [`WARM_UP`].
const RUN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(2);

/// Packets that wait for the link at all times, and their length in bytes.
const WAITING: usize = 200;
const LEN: usize = 1300;

fn main() {
    let mbit: u64 = std::env::args().nth(1).map_or(40, |word| word.parse().unwrap());
    let dir = pki(&["edge-a", "edge-b"]);
    for loss in [0.0, 0.01, 0.05] {
        for congestion in ["cubic", "bbr2"] {
            let settings = Settings { congestion: congestion.into(), ..Settings::default() };
            let [mut a, mut b] = [("edge-a", "[fd00::1]:9292"), ("edge-b", "[fd00::2]:9292")]
                .map(|(name, at)| Node::new(dir.path(), name, at, settings.clone()));
            a.peer(0, "edge-b", &[b.address]);
            b.peer(0, "edge-a", &[]);
            let bytes_per_s = mbit * 125_000;
            let delay = Duration::from_millis(10);
            let shape = Shape { bytes_per_s, buffer_bytes: bytes_per_s / 20, delay, loss };
            let mut path = Bottleneck::new([a, b], shape, 7);
            path.connect();
            let start = Instant::now();
            let (mut before, mut began, mut window) = (0, start, usize::MAX);
            while began.elapsed() < RUN || before == 0 {
                path.offer(WAITING, LEN);
                path.step();
                if before == 0 && start.elapsed() >= WARM_UP {
                    (before, began) = (path.delivered, Instant::now());
                }
                if before > 0 {
                    let link = path.nodes[0].endpoint.links().remove(0);
                    window = window.min(link.congestion_window);
                }
            }
            let carried = (path.delivered - before) as f64 / began.elapsed().as_secs_f64();
            let link = path.nodes[0].endpoint.links().remove(0);
            println!(
                "loss {:>2} % {congestion:6} {:6.1} of {mbit} Mbit/s, least window {:>7} bytes, round trip {:.1?}",
                loss * 100.0,
                carried * 8e-6,
                window,
                link.rtt.unwrap(),
            );
        }
    }
}
