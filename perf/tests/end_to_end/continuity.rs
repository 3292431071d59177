//! What an operator does routinely is not noticed by traffic.

use crate::Fixture;
use stoq_perf::bed::Side;
use stoq_perf::continuity::{Event, LOST_PERCENT, Trial};
use stoq_perf::measure::iperf::Load;

crate::on_each_port!(reloads_and_certificate_swaps_are_not_noticed);

/// A stream that any host carries beside others that are busy: what is asked is whether it lives on.
const RATE_MBIT: u32 = 20;

/// Requests before anything is done, and rounds of two events on each node.
const QUIET: u64 = 500;
const ROUNDS: usize = 5;

fn reloads_and_certificate_swaps_are_not_noticed(fixture: &Fixture) {
    let load = Load::TcpAt(RATE_MBIT);
    let mut trial = Trial::start(&fixture.deployment, &fixture.config(), load, QUIET).unwrap();
    for _ in 0..ROUNDS {
        trial.happen(Event::Reload, Side::A).unwrap();
        trial.happen(Event::Certificate, Side::A).unwrap();
        trial.happen(Event::Reload, Side::B).unwrap();
        trial.happen(Event::Certificate, Side::B).unwrap();
    }
    let noticed = trial.finish().unwrap();
    println!("{}: {noticed}", fixture.port);
    // How long it stalled is for the benchmark to say: here, other tests may have the cores.
    assert!(noticed.lost_percent() <= LOST_PERCENT, "{noticed}");
}
