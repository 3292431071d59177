//! The test bed itself: what it promises to the tests that stand on it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use stoq_perf::bed::{Bed, Family, Impairment, Shape, Side};
use stoq_perf::measure::flow::Flow;
use stoq_perf::measure::iperf::{Load, Transfer};
use stoq_perf::measure::{file, ping};
use stoq_perf::{process, wait};

const SOON: Duration = Duration::from_secs(60);

fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("{test}: SKIPPED, network namespaces need root");
    }
    root
}

fn tcp_mbps(bed: &Bed) -> f64 {
    let hosts = (&bed.a.namespace, &bed.b.namespace);
    let address = Side::B.wan(Family::V6);
    let transfer = Transfer::start(hosts, address, Load::Tcp, (0, 1), bed.folder()).unwrap();
    transfer.finish().unwrap().mbps
}

#[test]
fn edges_and_sites_reach_each_other_but_not_the_other_site() {
    if !is_root("edges_and_sites_reach_each_other_but_not_the_other_site") {
        return;
    }
    let bed = Bed::with_sites().unwrap();
    for family in Family::BOTH {
        ping::wait_for_answer(&bed.a.namespace, Side::B.wan(family), SOON).unwrap();
        ping::wait_for_answer(bed.a.site_host().unwrap(), Side::A.gateway(family), SOON).unwrap();
        let other_site = Side::B.host(family).to_string();
        let across = bed.a.site_host().unwrap().run("ping", ["-c", "1", "-W", "0.3", &other_site]);
        assert!(across.is_err(), "only a tunnel may join the sites");
    }
}

#[test]
fn the_wire_keeps_its_rate_and_its_frames_are_no_larger_than_the_mtu() {
    if !is_root("the_wire_keeps_its_rate_and_its_frames_are_no_larger_than_the_mtu") {
        return;
    }
    let bed = Bed::new().unwrap();
    let largest = "table netdev seen { counter large {}
        chain in { type filter hook ingress device m-a priority 0; meta length > 1500 counter name large; }
        }";
    bed.middle.nft(largest).unwrap();
    assert!(tcp_mbps(&bed) > 150.0);
    let counted = bed.middle.nft("list counter netdev seen large").unwrap();
    assert!(counted.contains("packets 0"), "super-packets on the wire: {counted}");
    bed.shape(Shape::Mbit(100)).unwrap();
    // How much of the wire one second of TCP fills depends on how busy the host is; that it is never
    // more does not.
    let shaped = tcp_mbps(&bed);
    assert!((10.0..=110.0).contains(&shaped), "{shaped} Mbit/s on a wire of 100");
    bed.shape(Shape::Unshaped).unwrap();
    assert!(tcp_mbps(&bed) > 150.0);
}

#[test]
fn loss_and_blackhole_begin_and_end() {
    if !is_root("loss_and_blackhole_begin_and_end") {
        return;
    }
    let bed = Bed::new().unwrap();
    let (from, to) = (&bed.a.namespace, Side::B.wan(Family::V4));
    bed.lose(20.0).unwrap();
    let lossy = ping::run(from, to, 200).unwrap();
    assert!((20..=160).contains(&lossy.lost), "{lossy:?} with 20 % lost each way");
    bed.lose(0.0).unwrap();
    bed.blackhole(true).unwrap();
    assert!(ping::run(from, to, 5).is_err());
    bed.blackhole(false).unwrap();
    assert_eq!(ping::run(from, to, 50).unwrap().lost, 0);
}

#[test]
fn a_small_path_swallows_large_packets_silently() {
    if !is_root("a_small_path_swallows_large_packets_silently") {
        return;
    }
    let bed = Bed::new().unwrap();
    bed.middle_mtu(1280).unwrap();
    let address = Side::B.wan(Family::V4).to_string();
    let ping = |size: &str| {
        bed.a.namespace.run("ping", ["-c", "1", "-W", "0.5", "-M", "do", "-s", size, &address])
    };
    ping("1252").unwrap();
    assert!(ping("1300").is_err());
}

#[test]
fn an_edge_moves_to_another_address() {
    if !is_root("an_edge_moves_to_another_address") {
        return;
    }
    let bed = Bed::new().unwrap();
    for family in Family::BOTH {
        bed.move_edge(Side::B, family).unwrap();
        ping::wait_for_answer(&bed.a.namespace, Side::B.wan_moved(family), SOON).unwrap();
        let old = Side::B.wan(family).to_string();
        assert!(bed.a.namespace.run("ping", ["-c", "1", "-W", "0.3", &old]).is_err());
    }
}

#[test]
fn a_relay_delays_and_duplicates_and_the_bridge_comes_back() {
    if !is_root("a_relay_delays_and_duplicates_and_the_bridge_comes_back") {
        return;
    }
    let bed = Bed::new().unwrap();
    let (from, to) = (&bed.a.namespace, Side::B.wan(Family::V6));
    let delay = Duration::from_millis(10);
    let impairment = Impairment { delay, duplicate_percent: 50.0, ..Impairment::default() };
    let relay = bed.relay(impairment, 1).unwrap();
    let slow = ping::run(from, to, 100).unwrap();
    assert!((19.9..25.0).contains(&slow.p50_ms), "{slow:?} with 10 ms each way");
    assert_eq!(slow.lost, 0);
    assert!(tcp_mbps(&bed) > 1.0, "checksums must be right behind a packet socket");
    assert!(relay.stats().duplicated > 20, "{:?}", relay.stats());
    drop(relay);
    assert!(ping::run(from, to, 100).unwrap().p50_ms < 5.0);
}

#[test]
fn a_flow_outlives_a_blackhole_and_notices_a_broken_connection() {
    if !is_root("a_flow_outlives_a_blackhole_and_notices_a_broken_connection") {
        return;
    }
    let bed = Bed::new().unwrap();
    let (from, to) = (&bed.a.namespace, &bed.b.namespace);
    let flow = Flow::start(from, to, Side::B.wan(Family::V6)).unwrap();
    flow.wait_for_more(1000, SOON).unwrap();
    bed.blackhole(true).unwrap();
    assert!(flow.wait_for_more(1000, Duration::from_millis(500)).is_err());
    bed.blackhole(false).unwrap();
    flow.wait_for_more(1000, SOON).unwrap();
    assert!(flow.finish().unwrap() >= 2000);
    let broken = Flow::start(from, to, Side::B.wan(Family::V6)).unwrap();
    broken.wait_for_more(1, SOON).unwrap();
    to.run("ss", ["-K", "state", "established"]).unwrap();
    let reset = wait::until("the end of the flow", SOON, || {
        broken.wait_for_more(u64::MAX / 2, Duration::ZERO).map_or_else(
            |error| {
                if error.to_string().contains("failed: true") {
                    Ok(())
                } else {
                    Err(error.to_string())
                }
            },
            Ok,
        )
    });
    reset.unwrap();
    assert!(broken.finish().is_err());
}

#[test]
fn a_file_is_copied_whole() {
    if !is_root("a_file_is_copied_whole") {
        return;
    }
    let bed = Bed::new().unwrap();
    let hosts = (&bed.a.namespace, &bed.b.namespace);
    let copied = file::copy(hosts, Side::B.wan(Family::V4), 3_000_001, bed.folder()).unwrap();
    assert_eq!(copied.sent, copied.arrived);
    assert_eq!(copied.sent.len(), 64);
}

#[test]
fn a_killed_process_leaves_no_namespace_behind() {
    if !is_root("a_killed_process_leaves_no_namespace_behind") {
        return;
    }
    let mut owner = Command::new(env!("CARGO_BIN_EXE_stoq-perf"));
    let mut owner = owner.arg("bed").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let namespace = lines.next().unwrap().unwrap();
    let folder =
        lines.find_map(|line| Some(line.ok()?.strip_prefix("folder ")?.to_owned())).unwrap();
    let folder = folder.split(';').next().unwrap().to_owned();
    let list = || process::run(Command::new("ip").args(["netns", "list"])).unwrap();
    assert!(list().contains(&namespace));
    let mut sleeper =
        Command::new("ip").args(["netns", "exec", &namespace, "sleep", "600"]).spawn().unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait::until("the namespace's end", SOON, || {
        let gone = !list().contains(&namespace) && !std::path::Path::new(&folder).exists();
        if gone { Ok(()) } else { Err(list()) }
    })
    .unwrap();
    assert!(!sleeper.wait().unwrap().success(), "what ran in it is killed with it");
}
