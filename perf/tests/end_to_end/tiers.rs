//! The tier of a link follows the wire, and no flow is lost on the way.

use std::time::{Duration, Instant};

use stoq_perf::bed::{Family, Shape, Side};
use stoq_perf::measure::flow::Flow;
use stoq_perf::node::Node;
use stoq_perf::wait;

use crate::{Fixture, SOON};

crate::on_each_port!(the_tier_follows_the_wire);

/// How soon a tier has to follow the wire.
const FOLLOWS: Duration = Duration::from_secs(5);

/// How long it may take at most on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(20);

/// Records that show that a flow goes on.
const GOES_ON: u64 = 500;

fn tier(node: &Node) -> Result<String, String> {
    let status = node.status().map_err(|error| error.to_string())?;
    Ok(status["links"][0]["tier"].as_str().unwrap_or_default().to_owned())
}

/// Shapes the wire and waits until both ends show the tier. Returns how long that took.
fn follow(fixture: &Fixture, nodes: [&Node; 2], mbit: u32, expected: &str) -> Duration {
    let changed = Instant::now();
    fixture.bed.shape(Shape::Mbit(mbit)).unwrap();
    for node in nodes {
        let what = format!("the tier {expected} at {}", node.side.node());
        wait::until(&what, PATIENCE, || match tier(node)? {
            seen if seen == expected => Ok(()),
            seen => Err(seen),
        })
        .unwrap();
    }
    let took = changed.elapsed();
    let late = if took > FOLLOWS { ", later than it should" } else { "" };
    println!("{}: wire of {mbit} Mbit/s: {expected} after {took:.2?}{late}", fixture.port);
    took
}

fn the_tier_follows_the_wire(fixture: &Fixture) {
    fixture.bed.shape(Shape::Mbit(2500)).unwrap();
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    assert_eq!(tier(&a).unwrap(), "floor", "nothing was measured yet");
    let hosts = (fixture.host(Side::A), fixture.host(Side::B));
    let flow = Flow::start(hosts.0, hosts.1, Side::B.host(Family::V6)).unwrap();
    // What the wire of 2.5 Gbit/s gives depends on the machine and on what else it does; it is more
    // than 100 Mbit/s.
    let first = wait::until("a measured tier", PATIENCE, || match tier(&a)?.as_str() {
        seen @ ("1G" | "2.5G") => Ok(seen.to_owned()),
        seen => Err(seen.to_owned()),
    });
    println!("{}: wire of 2500 Mbit/s: {}", fixture.port, first.unwrap());
    for (mbit, expected) in [(100, "100M"), (1000, "1G"), (10, "floor"), (100, "100M")] {
        follow(fixture, [&a, &b], mbit, expected);
        flow.wait_for_more(GOES_ON, PATIENCE).unwrap();
    }
    for node in [&a, &b] {
        let page = node.metrics().unwrap();
        let line = format!("stoq_link_tier{{peer=\"{}\"}} 1", node.side.other().node());
        assert!(page.lines().any(|seen| seen == line), "{line}: {page}");
    }
    flow.finish().unwrap();
}
