//! Traces of real runs, taken from the log of a daemon that carried one TCP flow over a bridge whose
//! rate was changed under it (`perf/tests/end_to_end/tiers.rs`, with `log.level = "trace"`). A line is
//! one sample: interval in µs, bytes delivered, bytes lost, µs held, RTT and variation in µs.

use super::*;

fn samples(trace: &str) -> impl Iterator<Item = Sample> + '_ {
    trace.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.split(',').map(|field| field.parse::<u64>().unwrap());
        let mut next = || fields.next().unwrap();
        let interval = Duration::from_micros(next());
        let (delivered_bytes, lost_bytes) = (next(), next());
        let [held, rtt, variation] = [next(), next(), next()].map(Duration::from_micros);
        Sample { interval, delivered_bytes, lost_bytes, held, rtt, variation }
    })
}

fn replay(trace: &str) -> Simulated {
    let mut simulated = Simulated::new();
    for sample in samples(trace) {
        simulated.take(&sample);
    }
    simulated
}

/// What was delivered there went from 54 to 1117 Mbit/s and back, because of the host.
#[test]
fn a_starved_host_does_not_make_the_tier_swing() {
    let simulated = replay(include_str!("traces/busy-host.csv"));
    assert_eq!(simulated.tiers(), [Tier::M100], "as the daemon that was recorded had it");
}

#[test]
fn a_wire_that_became_slow_is_seen_and_one_that_is_not_filled_stays() {
    let simulated = replay(include_str!("traces/wire-to-10.csv"));
    assert_eq!(
        simulated.tiers(),
        [Tier::M100, Tier::Floor],
        "as the daemon that was recorded had it"
    );
}
