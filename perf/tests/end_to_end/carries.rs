//! It carries a site's traffic: both families inside, both outside, hosts behind the edges.

use crate::{Fixture, MIB, SOON};
use stoq_perf::bed::{Family, Side};
use stoq_perf::measure::iperf::{Load, Transfer};
use stoq_perf::measure::ping;
use stoq_perf::node::LINK_UP;
use stoq_perf::wait;

crate::on_each_port!(
    over_ipv6,
    over_ipv4,
    prefers_ipv6,
    settles_on_ipv6_when_both_dial,
    sites_reach_each_other_and_files_arrive_whole,
    udp_arrives_at_a_modest_rate,
    a_source_that_the_peer_does_not_own_is_refused,
);

fn over_ipv6(fixture: &Fixture) {
    over(fixture, Family::V6);
}

fn over_ipv4(fixture: &Fixture) {
    over(fixture, Family::V4);
}

/// The peer is configured with both families, and only one of them works.
fn over(fixture: &Fixture, outside: Family) {
    fixture.bed.only(outside).unwrap();
    let (a, b) = fixture.start();
    for inside in Family::BOTH {
        ping::wait_for_answer(&fixture.bed.a.namespace, Side::B.tunnel(inside), SOON).unwrap();
        ping::wait_for_answer(&fixture.bed.b.namespace, Side::A.tunnel(inside), SOON).unwrap();
    }
    for node in [&a, &b] {
        let status = node.status().unwrap();
        let link = &status["links"][0];
        let endpoint = link["endpoint"].as_str().unwrap();
        let other = node.side.other().wan(outside).to_string();
        assert!(endpoint.contains(&other), "endpoint {endpoint}, expected one of {other}");
        assert_eq!(link["key_exchange"], "X25519MLKEM768");
        assert_eq!(status["port"]["selected"], fixture.port);
        assert_eq!(status["node"], node.side.node());
    }
}

/// One end only listens, so that what the other one chooses is what is used.
fn prefers_ipv6(fixture: &Fixture) {
    let mut listens = fixture.config();
    listens.over(&[]);
    let b = fixture.deployment.start(Side::B, &listens).unwrap();
    wait::until("the listener", SOON, || b.status().map_err(|error| error.to_string())).unwrap();
    let mut a = fixture.deployment.start(Side::A, &fixture.config()).unwrap();
    a.wait_for_link("up", LINK_UP).unwrap();
    let status = a.status().unwrap();
    let endpoint = status["links"][0]["endpoint"].as_str().unwrap();
    assert!(endpoint.starts_with("[fd00:99::2]"), "{endpoint}");
}

/// B starts while A's attempts wait for their repetition, that over IPv4 for the shorter time.
fn settles_on_ipv6_when_both_dial(fixture: &Fixture) {
    let a = fixture.deployment.start(Side::A, &fixture.config()).unwrap();
    wait::until("the first end", SOON, || a.status().map_err(|error| error.to_string())).unwrap();
    let b = fixture.deployment.start(Side::B, &fixture.config()).unwrap();
    for node in [&a, &b] {
        wait::until("a link over IPv6", LINK_UP, || {
            let status = node.status().map_err(|error| error.to_string())?;
            let endpoint = status["links"][0]["endpoint"].as_str().unwrap_or_default().to_owned();
            if endpoint.starts_with("[fd00:99::") { Ok(()) } else { Err(endpoint) }
        })
        .unwrap();
    }
}

fn sites_reach_each_other_and_files_arrive_whole(fixture: &Fixture) {
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    for family in Family::BOTH {
        fixture.copy(32 * MIB, family);
    }
    for (node, counter) in [(&a, "tx_bytes"), (&b, "rx_bytes")] {
        let status = node.status().unwrap();
        let bytes = status["links"][0][counter].as_u64().unwrap();
        assert!(bytes > 64 * MIB, "{counter} of {} is {bytes}", node.side.node());
    }
}

fn udp_arrives_at_a_modest_rate(fixture: &Fixture) {
    let _nodes = fixture.start();
    fixture.wait_for_sites(SOON);
    for family in Family::BOTH {
        let hosts = (fixture.host(Side::A), fixture.host(Side::B));
        let load = Load::Udp(50);
        let address = Side::B.host(family);
        let transfer = Transfer::start(hosts, address, load, (0, 2), fixture.bed.folder()).unwrap();
        let result = transfer.finish().unwrap();
        assert!(result.lost_percent < 5.0, "{family:?}: {result:?}");
        assert!(result.mbps > 45.0, "{family:?}: {result:?}");
    }
}

fn a_source_that_the_peer_does_not_own_is_refused(fixture: &Fixture) {
    let (_a, b) = fixture.start();
    let (from, to) = (&fixture.bed.a.namespace, Side::B.tunnel(Family::V4).to_string());
    ping::wait_for_answer(from, Side::B.tunnel(Family::V4), SOON).unwrap();
    from.ip("addr add 192.0.2.7/32 dev lo").unwrap();
    let before = b.drops("source_not_allowed").unwrap();
    let forged =
        from.run("ping", ["-n", "-c", "5", "-i", "0.01", "-W", "0.3", "-I", "192.0.2.7", &to]);
    assert!(forged.is_err(), "an answer came to an address that is not its own");
    assert_eq!(b.drops("source_not_allowed").unwrap() - before, 5);
    assert!(b.metrics().unwrap().contains("stoq_drops_total{reason=\"source_not_allowed\""));
}
