//! What a link costs to set up, `hybrid` beside `classical`: two endpoints joined by memory, both on this
//! thread, from the first packet until both are up. The time of both ends together, so an end has about
//! half of it. Run with `cargo run --profile bench --example handshakes`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement")]

#[path = "../tests/network/mod.rs"]
mod network;

use std::time::{Duration, Instant};

use network::{Node, classical, credentials, pki, run_until};
use stoq::settings::Settings;
use stoq::tls::Credentials;

/// Links that are set up for each policy, after a few to warm up.
const COUNT: usize = 200;
const WARM_UP: usize = 20;

/// Until a link is up, and how long its two signatures and verifications took.
fn one(a: &Credentials, b: &Credentials) -> Duration {
    let node = |credentials: &Credentials, at| {
        Node::with_credentials(credentials.clone(), at, Settings::default(), 1)
    };
    let (mut a, mut b) = (node(a, "[fd00::1]:9292"), node(b, "[fd00::2]:9292"));
    let begin = Instant::now();
    a.peer(0, "edge-b", &[b.address]);
    b.peer(0, "edge-a", &[]);
    run_until(&mut a, &mut b, &mut |_| true, |a, b| a.is_up() && b.is_up());
    begin.elapsed()
}

fn main() {
    let dir = pki(&["edge-a", "edge-b"]);
    for (name, load) in [("classical", classical as fn(&_, &_) -> _), ("hybrid", credentials)] {
        let [a, b] = ["edge-a", "edge-b"].map(|node| load(dir.path(), node));
        let mut took: Vec<Duration> = (0..WARM_UP + COUNT).map(|_| one(&a, &b)).collect();
        took.drain(..WARM_UP);
        took.sort_unstable();
        let all: Duration = took.iter().sum();
        let per_second = COUNT as f64 / all.as_secs_f64();
        let [p50, p99] = [50, 99].map(|percent| took[COUNT * percent / 100]);
        println!("{name:9} {per_second:6.0} handshakes/s, p50 {p50:?}, p99 {p99:?}");
    }
}
