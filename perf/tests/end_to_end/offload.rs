//! Every offload can be switched off, and traffic is as whole without it.

use crate::{Fixture, MIB, SOON};
use stoq_perf::bed::{Family, Namespace, Side};
use stoq_perf::measure::iperf::{Load, Throughput, Transfer};
use stoq_perf::node::Node;

/// UDP that may be lost, in percent: two cores that also build something lose some for want of time. A
/// wrong checksum or length would lose all.
const UDP_LOST_MAX: f64 = 30.0;

/// How often a run of UDP is begun.
const UDP_TRIES: u32 = 3;

crate::on_each_port!(each_offload_off, all_offloads_off);

const OFFLOADS: [&str; 7] = [
    "transport.gso",
    "transport.gro",
    "transport.multishot",
    "tunnel.offload.tso",
    "tunnel.offload.uso",
    "tunnel.offload.checksum",
    "tunnel.offload.gro",
];

/// TSO and USO need the checksum offload.
const CHECKSUM: [&str; 3] = ["tunnel.offload.checksum", "tunnel.offload.tso", "tunnel.offload.uso"];

fn each_offload_off(fixture: &Fixture) {
    for offload in OFFLOADS.iter().filter(|offload| **offload != CHECKSUM[0]) {
        eprintln!("without {offload}");
        carries_without(fixture, &[offload]);
    }
    carries_without(fixture, &CHECKSUM);
}

fn all_offloads_off(fixture: &Fixture) {
    carries_without(fixture, &OFFLOADS);
}

fn carries_without(fixture: &Fixture, offloads: &[&str]) {
    let mut config = fixture.config();
    for offload in offloads {
        config.set(offload, "false");
    }
    let (a, b) = fixture.deployment.start_both(&config).unwrap();
    fixture.wait_for_sites(SOON);
    for family in Family::BOTH {
        fixture.copy(4 * MIB, family);
    }
    let hosts = (fixture.host(Side::A), fixture.host(Side::B));
    let udp = udp(fixture, hosts);
    assert!(udp.lost_percent < UDP_LOST_MAX, "without {offloads:?}: {udp:?}");
    stop(a);
    stop(b);
}

/// `iperf3` begins a run of UDP by one datagram each way and never repeats them, so that a run now and
/// then ends before it began on a machine that loses some.
fn udp(fixture: &Fixture, hosts: (&Namespace, &Namespace)) -> Throughput {
    let (address, load) = (Side::B.host(Family::V6), Load::Udp(20));
    for _ in 0..UDP_TRIES {
        let transfer = Transfer::start(hosts, address, load, (0, 1), fixture.bed.folder()).unwrap();
        match transfer.finish() {
            Ok(throughput) => return throughput,
            Err(error) => eprintln!("once more, as iperf3 ended by: {error}"),
        }
    }
    panic!("no run of {UDP_TRIES} came to its end")
}

fn stop(node: Node) {
    assert!(node.stop().unwrap().success());
}
