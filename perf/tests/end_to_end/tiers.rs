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

/// Bytes of a record of the flow.
const RECORD_BYTES: u64 = 4096;

/// Part of the wire's rate from which on a flow fills it: the boundary of `1G` is 0.8 of that wire's
/// rate, and a few percent are headers.
const FILLED: f64 = 0.83;

/// Records that show that a flow goes on.
const GOES_ON: u64 = 500;

fn tier(node: &Node) -> Result<String, String> {
    let status = node.status().map_err(|error| error.to_string())?;
    Ok(status["links"][0]["tier"].as_str().unwrap_or_default().to_owned())
}

/// Shapes the wire and waits until both ends show the tier. A machine that is too busy to fill the wire
/// cannot show the tier of a fast one: that is said, and the flow must go on all the same.
fn follow(fixture: &Fixture, flow: &Flow, nodes: [&Node; 2], mbit: u32, expected: &str) {
    let (changed, before) = (Instant::now(), flow.received());
    fixture.bed.shape(Shape::Mbit(mbit)).unwrap();
    for node in nodes {
        let what = format!("the tier {expected} at {}", node.side.node());
        let shown = wait::until(&what, PATIENCE, || match tier(node)? {
            seen if seen == expected => Ok(()),
            seen => Err(seen),
        });
        if let Err(late) = shown {
            let carried_mbps = carried_mbps(flow.received() - before, changed.elapsed());
            let filled = carried_mbps > f64::from(mbit) * FILLED;
            assert!(!filled, "{late}, and the flow carried {carried_mbps:.0} Mbit/s");
            let port = fixture.port;
            println!("{port}: wire of {mbit} Mbit/s: not filled here, {carried_mbps:.0} Mbit/s");
            return;
        }
    }
    let took = changed.elapsed();
    let late = if took > FOLLOWS { ", later than it should" } else { "" };
    println!("{}: wire of {mbit} Mbit/s: {expected} after {took:.2?}{late}", fixture.port);
}

fn carried_mbps(records: u64, time: Duration) -> f64 {
    (records * RECORD_BYTES * 8) as f64 / 1e6 / time.as_secs_f64()
}

fn the_tier_follows_the_wire(fixture: &Fixture) {
    fixture.bed.shape(Shape::Mbit(2500)).unwrap();
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    assert_eq!(tier(&a).unwrap(), "floor", "nothing was measured yet");
    let hosts = (fixture.host(Side::A), fixture.host(Side::B));
    let flow = Flow::start(hosts.0, hosts.1, Side::B.host(Family::V6)).unwrap();
    // What the wire of 2.5 Gbit/s gives depends on the machine and on what else it does.
    let first = wait::until("a measured tier", PATIENCE, || match tier(&a)? {
        seen if seen == "floor" => Err(seen),
        seen => Ok(seen),
    });
    println!("{}: wire of 2500 Mbit/s: {}", fixture.port, first.unwrap());
    for (mbit, expected) in [(100, "100M"), (1000, "1G"), (10, "floor"), (100, "100M")] {
        follow(fixture, &flow, [&a, &b], mbit, expected);
        flow.wait_for_more(GOES_ON, PATIENCE).unwrap();
    }
    wait::until("the metric that says what the status does", SOON, || {
        let shown = tier(&a)?;
        let number = ["floor", "100M", "1G", "2.5G", "10G"].iter().position(|name| *name == shown);
        let line = format!("stoq_link_tier{{peer=\"edge-b\"}} {}", number.unwrap_or(usize::MAX));
        let page = a.metrics().map_err(|error| error.to_string())?;
        if page.lines().any(|seen| seen == line) { Ok(()) } else { Err(line) }
    })
    .unwrap();
    flow.finish().unwrap();
}
