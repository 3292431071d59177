//! Paths that carry less than 1500 bytes, told to nobody.

use crate::{Fixture, MIB, SOON};
use std::time::Duration;
use stoq_perf::bed::{Family, Side};
use stoq_perf::measure::flow::Flow;
use stoq_perf::process;

crate::on_each_port!(a_path_of_1280_bytes, a_path_that_shrinks_under_traffic, too_big_is_answered,);

/// How long black-hole detection may take (RFC 8899 §4.3: several probes must be lost first).
const NOTICED: Duration = Duration::from_secs(30);

/// Records that show that a flow goes on, and not only empties buffers: 20 MiB.
const GOES_ON: u64 = 5000;

fn a_path_of_1280_bytes(fixture: &Fixture) {
    fixture.bed.middle_mtu(1280).unwrap();
    let _nodes = fixture.start();
    fixture.wait_for_sites(SOON);
    for family in Family::BOTH {
        fixture.copy(4 * MIB, family);
    }
    // Every IPv6 link carries 1280 bytes (RFC 8200 §5), this one too.
    let target = Side::B.host(Family::V6).to_string();
    let least = ["-n", "-c", "3", "-i", "0.1", "-W", "1", "-M", "do", "-s", "1232", &target];
    fixture.host(Side::A).run("ping", least).unwrap();
}

fn a_path_that_shrinks_under_traffic(fixture: &Fixture) {
    let _nodes = fixture.start();
    fixture.wait_for_sites(SOON);
    let address = Side::B.host(Family::V6);
    let flow = Flow::start(fixture.host(Side::A), fixture.host(Side::B), address).unwrap();
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    fixture.bed.middle_mtu(1280).unwrap();
    flow.wait_for_more(GOES_ON, NOTICED).unwrap();
    flow.finish().unwrap();
}

fn too_big_is_answered(fixture: &Fixture) {
    let _nodes = fixture.start();
    fixture.wait_for_sites(SOON);
    for (family, size, answer) in
        [(Family::V4, "1472", "Frag needed"), (Family::V6, "1452", "Packet too big")]
    {
        let target = Side::B.host(family).to_string();
        let mut full = fixture.host(Side::A).command("ping");
        full.args(["-n", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", size, &target]);
        let output = process::output(&mut full).unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = printed.contains(answer) || printed.contains("too long");
        assert!(said, "expected `{answer}` for a packet of 1500 bytes, got {printed}");
    }
}
