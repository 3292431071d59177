//! What a link carries over a path that loses packets at random: a bottleneck with a buffer of 50 ms,
//! 20 ms there and back, and a sender that never runs dry, for each congestion control.
//! `cargo run --example bottleneck [-- MBIT_PER_S]`
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement")]

#[path = "../tests/network/bottleneck.rs"]
mod bottleneck;
#[path = "../tests/network/mod.rs"]
mod network;

use std::path::Path;
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
            run(dir.path(), congestion, mbit, loss);
        }
    }
}

fn run(dir: &Path, congestion: &str, mbit: u64, loss: f64) {
    let settings = Settings { congestion: congestion.into(), ..Settings::default() };
    let [mut a, mut b] = [("edge-a", "[fd00::1]:9292"), ("edge-b", "[fd00::2]:9292")]
        .map(|(name, at)| Node::new(dir, name, at, settings.clone()));
    a.peer(0, "edge-b", &[b.address]);
    b.peer(0, "edge-a", &[]);
    let bytes_per_s = mbit * 125_000;
    let delay = Duration::from_millis(10);
    let shape = Shape { bytes_per_s, buffer_bytes: bytes_per_s / 20, delay, loss };
    let mut path = Bottleneck::new([a, b], shape, 7);
    path.connect();
    let (warm, _) = saturate(&mut path, WARM_UP);
    let begin = Instant::now();
    let (delivered, window) = saturate(&mut path, RUN);
    let carried = (delivered - warm) as f64 / begin.elapsed().as_secs_f64();
    let rtt = path.nodes[0].endpoint.links().remove(0).rtt.unwrap();
    println!(
        "loss {:>2} % {congestion:6} {:6.1} of {mbit} Mbit/s, least window {window:>7} bytes, round trip {rtt:.1?}",
        loss * 100.0,
        carried * 8e-6,
    );
}

/// Keeps packets waiting for so long. Returns the bytes delivered since the start, and the least window.
fn saturate(path: &mut Bottleneck, time: Duration) -> (u64, usize) {
    let (begin, mut window) = (Instant::now(), usize::MAX);
    while begin.elapsed() < time {
        path.offer(WAITING, LEN);
        path.step();
        let link = path.nodes[0].endpoint.links().remove(0);
        window = window.min(link.congestion_window);
    }
    (path.delivered, window)
}
