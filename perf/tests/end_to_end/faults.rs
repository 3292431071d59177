//! What the network does to it, and that it comes back by itself while TCP inside survives.

use crate::{Fixture, MIB, RECOVERY, SOON};
use std::thread;
use std::time::Duration;
use stoq_perf::bed::{Family, Impairment, Side};
use stoq_perf::measure::flow::Flow;
use stoq_perf::measure::ping;
use stoq_perf::node::LINK_UP;

crate::on_each_port!(
    loss_of_one_percent,
    loss_of_five_percent,
    reordering_and_duplication,
    a_blackhole_of_ten_seconds,
    the_near_end_changes_its_address,
    the_far_end_changes_its_address,
    a_killed_peer_comes_back,
);

/// How long TCP inside may need to notice that the path is back: its own retransmission timer has
/// backed off to several seconds by then (RFC 6298 §5.5).
const TCP_NOTICES: Duration = Duration::from_secs(30);

/// How long the blackhole lasts.
const BLACKHOLE: Duration = Duration::from_secs(10);

/// Records that show that a flow goes on, and not only empties a buffer.
const GOES_ON: u64 = 500;

fn loss_of_one_percent(fixture: &Fixture) {
    loss(fixture, 1.0);
}

fn loss_of_five_percent(fixture: &Fixture) {
    loss(fixture, 5.0);
}

fn loss(fixture: &Fixture, percent: f64) {
    let (mut a, mut b) = fixture.start();
    fixture.wait_for_sites(SOON);
    fixture.bed.lose(percent).unwrap();
    fixture.copy(2 * MIB, Family::V6);
    let through = ping::run(fixture.host(Side::A), Side::B.host(Family::V4), 200).unwrap();
    assert!(through.answers >= 150, "{through:?} at {percent} % each way");
    a.wait_for_link("up", SOON).unwrap();
    b.wait_for_link("up", SOON).unwrap();
}

fn reordering_and_duplication(fixture: &Fixture) {
    let _nodes = fixture.start();
    fixture.wait_for_sites(SOON);
    let impairment = Impairment {
        delay: Duration::from_millis(2),
        reorder_percent: 3.0,
        reorder_by: Duration::from_millis(1),
        duplicate_percent: 3.0,
        ..Impairment::default()
    };
    let relay = fixture.bed.relay(impairment, 42).unwrap();
    for family in Family::BOTH {
        fixture.copy(4 * MIB, family);
    }
    let stats = relay.stats();
    assert!(stats.reordered > 50 && stats.duplicated > 50, "{stats:?}");
}

fn flow(fixture: &Fixture) -> Flow {
    let address = Side::B.host(Family::V6);
    let flow = Flow::start(fixture.host(Side::A), fixture.host(Side::B), address).unwrap();
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    flow
}

fn comes_back(fixture: &Fixture, flow: Flow, within: Duration) {
    let target = Side::B.host(Family::V4);
    let took = ping::wait_for_answer(fixture.host(Side::A), target, TCP_NOTICES).unwrap();
    let late = if took > within { ", later than it should" } else { "" };
    println!("the tunnel came back after {took:?}{late}");
    flow.wait_for_more(GOES_ON, TCP_NOTICES).unwrap();
    flow.finish().unwrap();
}

fn a_blackhole_of_ten_seconds(fixture: &Fixture) {
    let _nodes = fixture.start();
    fixture.wait_for_sites(SOON);
    let flow = flow(fixture);
    fixture.bed.blackhole(true).unwrap();
    // The length of the outage is the test.
    thread::sleep(BLACKHOLE);
    fixture.bed.blackhole(false).unwrap();
    comes_back(fixture, flow, RECOVERY);
}

fn the_near_end_changes_its_address(fixture: &Fixture) {
    moves(fixture, Side::A);
}

fn the_far_end_changes_its_address(fixture: &Fixture) {
    moves(fixture, Side::B);
}

/// Only one family is left, so that the link cannot fall back to the other one.
fn moves(fixture: &Fixture, side: Side) {
    fixture.bed.only(Family::V6).unwrap();
    let _nodes = fixture.start();
    fixture.wait_for_sites(SOON);
    let flow = flow(fixture);
    fixture.bed.move_edge(side, Family::V6).unwrap();
    comes_back(fixture, flow, RECOVERY);
}

fn a_killed_peer_comes_back(fixture: &Fixture) {
    let (_a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let flow = flow(fixture);
    b.kill().unwrap();
    let mut b = fixture.deployment.start(Side::B, &fixture.config()).unwrap();
    comes_back(fixture, flow, RECOVERY);
    b.wait_for_link("up", LINK_UP).unwrap();
}
