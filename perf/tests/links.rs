//! Many links on one node, in short form: hundreds of real nodes are linked to it, all answer its keepalives,
//! and they are linked again after it was killed.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use stoq_perf::bed::{Bed, Family, STOQ_PORT, Side};
use stoq_perf::links::{Crowd, Target};
use stoq_perf::node::{Deployment, NodeConfig};
use stoq_perf::wait;
use stoq_perf::workspace::Binaries;

/// Links of the node.
const LINKS: u32 = 300;

/// How long what takes some seconds may take on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// A keepalive, and what it may be late by on a busy machine.
const SILENCE_S: f64 = 15.0;

/// Longer than the idle timeout: a link that is up then has been kept.
const KEPT_S: f64 = 32.0;

#[test]
fn hundreds_of_links_are_made_kept_and_made_again() {
    let test = "hundreds_of_links_are_made_kept_and_made_again";
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("{test}: SKIPPED, network namespaces need root");
    }
    match Binaries::find() {
        Err(missing) if !Binaries::are_named() => return eprintln!("{test}: SKIPPED, {missing}"),
        found => found.unwrap(),
    };
    let bed = Bed::new().unwrap();
    let guest = bed.guest("links", 6).unwrap();
    let deployment = Deployment::new(&bed).unwrap();
    let mut config = NodeConfig::new("mio");
    config.leaves(LINKS);
    let node = deployment.start(Side::A, &config).unwrap();
    let target = Target {
        address: SocketAddr::new(Side::A.wan(Family::V6), STOQ_PORT),
        node: Side::A.node().to_owned(),
        root: deployment.mesh.root(),
        nodes: LINKS,
        hybrid: true,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_stoq-perf"));
    let log = bed.folder().join("links.log");
    let mut crowd = Crowd::start(&guest.namespace, program, &log, &target).unwrap();
    let up = crowd.wait_until_up(1, PATIENCE).unwrap();
    let kept = crowd.wait_until(up.seconds + KEPT_S, PATIENCE).unwrap();
    assert_eq!((kept.up, kept.went_down), (LINKS, up.went_down), "{kept:?}");
    let told = crowd.told_since(up.seconds);
    assert!(told.iter().all(|told| told.silent_s < SILENCE_S), "{told:?}");
    let links_up = || {
        let status = node.status().map_err(|error| error.to_string())?;
        let links = status["links"].as_array().ok_or("no links")?;
        let up = links.iter().filter(|link| link["state"] == "up").count();
        if up == LINKS as usize { Ok(()) } else { Err(format!("{up} of {} are up", links.len())) }
    };
    wait::until("the node's links being up in its status", PATIENCE, links_up).unwrap();
    node.kill().unwrap();
    let _node = deployment.start(Side::A, &config).unwrap();
    crowd.wait_until_up(2, PATIENCE).unwrap();
}
