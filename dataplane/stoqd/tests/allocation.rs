//! In the steady state a packet costs no allocation but quiche's own, on its whole way through a
//! worker: what is counted here is compared with bare quiche that carries the same datagrams.
//! (quiche 0.30 makes one in each `send`, a copy of its transport parameters, and two in each `recv`:
//! such a copy, and the DATAGRAM's contents.)
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../port/tests/counting/mod.rs"]
mod counting;

#[path = "../benches/bare/mod.rs"]
mod bare;

#[path = "../benches/edges/mod.rs"]
mod edges;

use std::time::Instant;

use bare::Costs;
use counting::allocations;
use stoq::control::feature;

use edges::{Edge, SEGMENTS, Wire, super_packet};

/// Allocations of each stage.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    segment: u64,
    seal: u64,
    open: u64,
    coalesce: u64,
}

fn counted<T>(total: &mut u64, work: impl FnOnce() -> T) -> T {
    let before = allocations();
    let result = work();
    *total += allocations() - before;
    result
}

fn carry(a: &mut Edge, b: &mut Edge, super_packets: usize) -> Counts {
    let (header, packet) = super_packet();
    let (mut there, mut back) = (Wire::new(), Wire::new());
    let mut counts = Counts::default();
    let (mut queued, mut arrived) = (0, 0);
    while arrived < super_packets * SEGMENTS {
        let now = Instant::now();
        a.endpoint.handle_timeout(now);
        b.endpoint.handle_timeout(now);
        if queued <= arrived {
            counted(&mut counts.segment, || a.forward(header, &packet, now));
            queued += SEGMENTS;
        }
        counted(&mut counts.seal, || there.fill(a, now));
        counted(&mut counts.open, || there.empty(a.address, b, now));
        arrived += counted(&mut counts.coalesce, || b.deliver(now));
        back.fill(b, now);
        back.empty(b.address, a, now);
    }
    counts
}

/// What bare quiche allocates in a thousand DATAGRAMs, sealing and opening.
fn bare() -> (u64, u64) {
    let (mut a, mut b) = bare::pair();
    for _ in 0..50 {
        bare::carry(&mut a, &mut b, allocations, &mut Costs::default());
    }
    let mut costs = Costs::default();
    for _ in 0..500 {
        bare::carry(&mut a, &mut b, allocations, &mut costs);
    }
    let datagrams = 500 * bare::BURST as u64;
    (costs.seal * 1000 / datagrams, costs.open * 1000 / datagrams)
}

#[test]
fn packets_cost_no_allocation_but_those_of_quiche() {
    check(0);
}

#[test]
fn nor_do_slices() {
    check(feature::SLICED);
}

fn check(features: u64) {
    let (mut a, mut b) = edges::pair(features);
    // Pools, tables and queues grow with the first packets.
    carry(&mut a, &mut b, 200);
    let counts = carry(&mut a, &mut b, 500);
    assert_eq!((counts.segment, counts.coalesce), (0, 0), "{counts:?}");
    let packets = 500 * SEGMENTS as u64;
    let ours = (counts.seal * 1000 / packets, counts.open * 1000 / packets);
    let quiche = bare();
    // The call that ends a burst of 44 with nothing to send costs one, and here and there one of
    // quiche's tables grows.
    let few = 1000 / 44 + 8;
    assert!(
        ours.0 <= quiche.0 + few && ours.1 <= quiche.1 + few,
        "allocations in 1000 packets (sealing, opening): {ours:?}, of quiche alone {quiche:?}"
    );
}
