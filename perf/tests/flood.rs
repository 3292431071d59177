//! Floods in short form: whatever comes from made-up sources at the highest rate one core sends, the link
//! stays up, a site's flow goes on, what is refused is counted by its reason, and memory stays bounded.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use stoq_perf::bed::{Bed, Family, STOQ_PORT, Side};
use stoq_perf::flood::{Arena, Kind, write_payloads};
use stoq_perf::measure::flow::Flow;
use stoq_perf::measure::ping;
use stoq_perf::node::{Deployment, NodeConfig};
use stoq_perf::workspace::Binaries;

/// How long what should happen at once may take on two busy cores, one of which the flood has.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a flood goes on, from its first packets.
const FLOOD: Duration = Duration::from_secs(2);

/// Packets that make a flood.
const PACKETS: u64 = 20_000;

/// What memory may grow: handshakes that are begun, at most 64 before addresses must be proved, and
/// tables.
const GROWTH: u64 = 32 << 20;

/// Records that show that a flow goes on.
const GOES_ON: u64 = 50;

fn can_run(test: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("{test}: SKIPPED, network namespaces need root");
        return false;
    }
    match Binaries::find() {
        Err(missing) if !Binaries::are_named() => {
            eprintln!("{test}: SKIPPED, {missing}");
            false
        }
        found => found.is_ok() || panic!("{}", found.unwrap_err()),
    }
}

/// Floods edge B, and gives what it dropped meanwhile by its XDP program, and its metrics.
fn flood(kind: Kind) -> (Value, String) {
    let bed = Bed::new().unwrap();
    let arena = Arena::new(&bed).unwrap();
    let payloads = bed.folder().join("payloads");
    write_payloads(kind, &payloads).unwrap();
    let deployment = Deployment::new(&bed).unwrap();
    let (mut a, mut b) = deployment.start_both(&NodeConfig::new("xdp")).unwrap();
    assert_eq!(b.status().unwrap()["port"]["selected"], "xdp", "{}", b.status().unwrap());
    let target = Side::B.tunnel(Family::V4);
    ping::wait_for_answer(&bed.a.namespace, target, PATIENCE).unwrap();
    let flow = Flow::start(&bed.a.namespace, &bed.b.namespace, target).unwrap();
    flow.wait_for_more(GOES_ON, PATIENCE).unwrap();
    let memory = b.process.resident_bytes();

    let program = Path::new(env!("CARGO_BIN_EXE_stoq-perf"));
    let mut flood = arena.edge_b(program, &payloads, STOQ_PORT).unwrap();
    let begin = Instant::now();
    flood.wait_for(PACKETS, PATIENCE).unwrap();
    while begin.elapsed() < FLOOD {
        flow.wait_for_more(GOES_ON, PATIENCE).unwrap();
    }
    flow.wait_for_more(GOES_ON, PATIENCE).unwrap();
    let sent = flood.progress().unwrap();
    drop(flood);
    for node in [&mut a, &mut b] {
        node.wait_for_link("up", Duration::ZERO).unwrap();
    }
    flow.wait_for_more(GOES_ON, PATIENCE).unwrap();
    flow.finish().unwrap();
    let grown = b.process.resident_bytes().saturating_sub(memory);
    assert!(grown < GROWTH, "memory grew by {grown} bytes");
    let drops = b.status().unwrap()["drops"].clone();
    let in_xdp = drops.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("xdp_"));
    let total: u64 = in_xdp.filter_map(|(_, count)| count.as_u64()).sum();
    eprintln!("{sent:?}, refused: {drops}");
    assert!(total > PACKETS / 2, "few of {PACKETS} were refused: {drops}");
    (drops, b.metrics().unwrap())
}

#[test]
fn a_flood_of_garbage_is_refused_in_the_driver() {
    if !can_run("a_flood_of_garbage_is_refused_in_the_driver") {
        return;
    }
    let (drops, _) = flood(Kind::Garbage);
    for reason in ["xdp_not_quic", "xdp_forged"] {
        assert!(drops[reason].as_u64() > Some(0), "none counted as {reason}: {drops}");
    }
}

#[test]
fn a_flood_of_valid_initials_meets_limits_and_retry() {
    if !can_run("a_flood_of_valid_initials_meets_limits_and_retry") {
        return;
    }
    let (drops, metrics) = flood(Kind::Initials);
    assert!(drops["xdp_initial_total"].as_u64() > Some(0), "no limit was met: {drops}");
    let lines = metrics.lines().filter(|line| line.starts_with("stoq_worker_retries_total"));
    let retries: u64 = lines.filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert!(retries > 0, "no address had to be proved: {metrics}");
}
