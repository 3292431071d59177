//! Signals, as service managers send them.

use crate::{Fixture, SOON};
use nix::sys::signal::Signal;
use stoq_perf::bed::{Family, Side};
use stoq_perf::measure::flow::Flow;
use stoq_perf::wait;

crate::on_each_port!(sigterm_drains_and_ends_well, sighup_reloads_and_keeps_the_link);

/// Records that show that a flow goes on.
const GOES_ON: u64 = 500;

/// A prefix that only the changed file has.
const NEW_PREFIX: &str = "10.77.0.0/16";

fn sigterm_drains_and_ends_well(fixture: &Fixture) {
    let (a, mut b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let status = a.stop().unwrap();
    assert!(status.success(), "stoqd ended with {status} on SIGTERM");
    let link = wait::until("the peer having noticed", SOON, || {
        let status = b.status().map_err(|error| error.to_string())?;
        let link = status["links"][0].clone();
        if link["state"] == "up" { Err(link.to_string()) } else { Ok(link) }
    });
    link.unwrap();
    assert!(b.process.try_exit().is_none(), "the peer must go on");
    assert!(!fixture.bed.a.namespace.has_device("stoq0"), "a device is left behind");
    let mut a = fixture.deployment.start(Side::A, &fixture.config()).unwrap();
    a.wait_for_link("up", SOON).unwrap();
    b.wait_for_link("up", SOON).unwrap();
    fixture.wait_for_sites(SOON);
}

fn sighup_reloads_and_keeps_the_link(fixture: &Fixture) {
    let (a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let address = Side::B.host(Family::V6);
    let flow = Flow::start(fixture.host(Side::A), fixture.host(Side::B), address).unwrap();
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    let bytes = |node: &stoq_perf::node::Node| {
        node.status().unwrap()["links"][0]["tx_bytes"].as_u64().unwrap()
    };
    let before = bytes(&a);
    let mut config = fixture.config();
    let peer = Side::B;
    config.allow(&[
        format!("{}/32", peer.tunnel(Family::V4)),
        format!("{}/128", peer.tunnel(Family::V6)),
        peer.site(Family::V4),
        peer.site(Family::V6),
        NEW_PREFIX.to_owned(),
    ]);
    fixture.deployment.write(Side::A, &config).unwrap();
    a.process.signal(Signal::SIGHUP).unwrap();
    wait::until("the route of the new prefix", SOON, || {
        let states = a.status().unwrap()["links"][0]["state"].clone();
        assert_eq!(states, "up", "the link was lost");
        let routes = fixture.bed.a.namespace.ip("route show").map_err(|error| error.to_string())?;
        if routes.contains(NEW_PREFIX) { Ok(()) } else { Err(routes) }
    })
    .unwrap();
    assert!(bytes(&a) >= before, "the link's counters began anew");
    assert_eq!(b.status().unwrap()["links"][0]["state"], "up");
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    flow.finish().unwrap();
}

#[test]
fn a_stop_in_the_middle_of_a_hand_over_is_no_hand_over() {
    crate::run("a_stop_in_the_middle_of_a_hand_over", "mio", stop_in_the_middle);
}

fn stop_in_the_middle(fixture: &Fixture) {
    let mut passive = fixture.config();
    passive.over(&[]);
    let deployment = &fixture.deployment;
    let mut a = deployment.start(Side::A, &fixture.config()).unwrap();
    let mut b = deployment.start(Side::B, &passive).unwrap();
    b.wait_for_link("up", SOON).unwrap();
    // What cannot dial, and is not dialled, waits for its links in vain.
    deployment.write(Side::A, &passive).unwrap();
    let refusal = std::thread::scope(|scope| {
        let asked = scope.spawn(|| a.ctl(&["upgrade"]));
        wait::until("a new process that waits for its links", SOON, || {
            let log = a.process.log();
            (log.matches("tunnel ready").count() == 2).then_some(()).ok_or(log)
        })
        .unwrap();
        a.process.signal(Signal::SIGTERM).unwrap();
        asked.join().unwrap()
    });
    assert!(refusal.is_err(), "{refusal:?}");
    let status = a.process.wait_exit(SOON).unwrap();
    assert!(status.success(), "{status}: {}", a.process.log());
    assert!(!a.process.log().contains("handed over pid"), "{}", a.process.log());
    wait::until("the end of the new process", SOON, || {
        let there = fixture.bed.a.namespace.has_device("stoq0");
        (!there).then_some(()).ok_or("its device is there".to_owned())
    })
    .unwrap();
}

#[test]
fn a_process_that_handed_over_ends_with_the_one_that_took_over() {
    crate::run("a_process_that_handed_over_ends_with", "mio", |fixture| {
        let (mut a, _b) = fixture.start();
        let mut elder = a.upgrade().unwrap();
        a.process.signal(Signal::SIGKILL).unwrap();
        // By itself it would end well, or wait an hour for streams.
        let status = elder.wait_exit(SOON).unwrap();
        assert_eq!(status.code(), Some(1), "{}", elder.log());
        assert!(elder.log().contains("ended; this one ends with it"), "{}", elder.log());
    });
}
