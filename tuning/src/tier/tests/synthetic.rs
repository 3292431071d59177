//! Synthetic traces: what a path of known capacity would show.

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

/// Capacities of the nominal tiers as UDP payload, and the tier each has to get.
const NOMINAL: [(f64, Tier); 5] = [
    (9.6, Tier::Floor),
    (96.0, Tier::M100),
    (960.0, Tier::G1),
    (2400.0, Tier::G2_5),
    (9600.0, Tier::G10),
];

/// The longest that a change may take to be followed.
const FOLLOWED: Duration = Duration::from_secs(5);

fn noise(rng: &mut Rng, part: f64) -> f64 {
    1.0 + part * (2.0 * rng.f64() - 1.0)
}

#[test]
fn a_constant_capacity_gets_its_tier_once() {
    for (mbps, tier) in NOMINAL {
        let mut simulated = Simulated::new();
        simulated.play(60, |_| full(mbps));
        assert_eq!(simulated.tiers(), [tier], "{mbps}");
        assert!(simulated.changes[0].0 < Duration::from_secs(2), "{:?}", simulated.changes);
    }
}

#[test]
fn ten_minutes_of_noise_change_nothing() {
    for seed in 0..20 {
        for (mbps, tier) in NOMINAL {
            let mut rng = Rng::with_seed(seed);
            let mut simulated = Simulated::new();
            simulated.play(600, |_| {
                let interval = EVERY.mul_f64(noise(&mut rng, 0.2));
                let sample = full(mbps * noise(&mut rng, 0.15));
                let part = interval.as_secs_f64() / EVERY.as_secs_f64();
                let delivered_bytes = (sample.delivered_bytes as f64 * part) as u64;
                Sample { interval, delivered_bytes, ..sample }
            });
            assert_eq!(simulated.tiers(), [tier], "{mbps} Mbit/s, seed {seed}");
        }
    }
}

/// Close to a boundary either tier is right, but not both by turns.
#[test]
fn noise_at_a_boundary_does_not_make_it_swing() {
    for seed in 0..40 {
        for boundary in [80.0, 800.0, 2000.0, 8000.0] {
            for part in [0.8, 0.85, 0.9, 0.95, 1.0, 1.05] {
                let mut rng = Rng::with_seed(seed);
                let mut simulated = Simulated::new();
                simulated.play(600, |_| full(boundary * part * noise(&mut rng, 0.125)));
                // Up from where the first readings had put it, and then no more.
                let changes = simulated.changes.len();
                assert!(changes <= 2, "{boundary}·{part}, seed {seed}: {:?}", simulated.changes);
            }
        }
    }
}

/// Capacity at both edges of the gap by turns: a change now and then, ever more rarely.
#[test]
fn wild_noise_is_damped() {
    let mut rng = Rng::with_seed(0);
    let mut simulated = Simulated::new();
    // 200 blocks of three seconds, longer than the readings that agree; without damping each would be a
    // change.
    simulated.play(600, |at| {
        let side = if (at.as_secs() / 3).is_multiple_of(2) { 1000.0 } else { 500.0 };
        full(side * noise(&mut rng, 0.05))
    });
    let changes = simulated.changes.len();
    assert!(changes <= 24, "{changes} changes");
}

#[test]
fn a_cable_that_is_moved_is_followed_within_five_seconds() {
    let mut simulated = Simulated::new();
    simulated.play(10, |_| full(2400.0));
    for (mbps, tier) in [(96.0, Tier::M100), (960.0, Tier::G1), (2400.0, Tier::G2_5)] {
        let moved = simulated.at();
        simulated.play(10, |_| full(mbps));
        let (at, to) = *simulated.changes.last().unwrap();
        assert_eq!(to, Some(tier));
        assert!(at - moved < FOLLOWED, "{tier:?} after {:?}", at - moved);
    }
    assert_eq!(simulated.changes.len(), 4, "{:?}", simulated.changes);
}

/// A window that has to grow, as after a longer outage.
#[test]
fn a_rate_that_climbs_slowly_passes_each_tier_once() {
    let mut simulated = Simulated::new();
    simulated.play(30, |at| full(10.0 * 1.3_f64.powf(at.as_secs_f64())));
    let tiers = simulated.tiers();
    assert!(tiers.is_sorted() && tiers.last() == Some(&Tier::G10), "{tiers:?}");
}

#[test]
fn a_radio_link_that_fades_is_followed_down_and_up() {
    let mut simulated = Simulated::new();
    // 300 Mbit/s down to 10 and back in a minute, three times.
    simulated.play(180, |at| {
        let turn = (at.as_secs_f64() / 60.0 * std::f64::consts::TAU).cos();
        full(10.0 + 145.0 * (1.0 + turn))
    });
    use Tier::{Floor, M100};
    assert_eq!(simulated.tiers(), [M100, Floor, M100, Floor, M100, Floor, M100]);
}

#[test]
fn what_the_application_holds_back_lowers_nothing() {
    let mut simulated = Simulated::new();
    simulated.play(5, |_| full(960.0));
    let mut rng = Rng::with_seed(1);
    simulated.play(600, |_| with_room(rng.f64() * 300.0));
    simulated.play(600, |_| with_room(0.0));
    assert_eq!(simulated.tiers(), [Tier::G1]);
}

#[test]
fn what_the_application_sends_may_raise() {
    let mut simulated = Simulated::new();
    simulated.play(10, |_| with_room(90.0));
    simulated.play(10, |_| with_room(900.0));
    assert_eq!(simulated.tiers(), [Tier::M100, Tier::G1]);
}

#[test]
fn an_idle_link_is_not_measured() {
    let mut simulated = Simulated::new();
    simulated.play(600, |_| with_room(0.0));
    assert_eq!(simulated.link.shown(), None);
}

#[test]
fn an_outage_is_no_capacity() {
    let mut simulated = Simulated::new();
    simulated.play(5, |_| full(960.0));
    let lost = Sample { lost_bytes: 100_000, delivered_bytes: 0, ..full(0.0) };
    simulated.play(20, |_| lost);
    simulated.play(5, |_| full(960.0));
    assert_eq!(simulated.tiers(), [Tier::G1]);
}

/// Of a path of 20 ms with loss that the congestion control answers: its rate saws.
#[test]
fn a_long_path_with_loss_keeps_its_tier() {
    for (percent, seed) in [(1.0, 3), (5.0, 4)] {
        let mut rng = Rng::with_seed(seed);
        let mut simulated = Simulated::new();
        simulated.play(600, |at| {
            let saw = 0.85 + 0.15 * (at.as_secs_f64() % 1.7) / 1.7;
            let sample = full(930.0 * saw * noise(&mut rng, 0.03));
            let lost_bytes = (sample.delivered_bytes as f64 * percent / 100.0) as u64;
            let (rtt, variation) = (Duration::from_millis(22), Duration::from_millis(3));
            Sample { lost_bytes, rtt, variation, ..sample }
        });
        // 770 to 960 Mbit/s, below the boundary at times: up when enough readings are above it in a
        // row, and never down.
        let tiers = simulated.tiers();
        assert!(
            tiers.is_sorted() && tiers.last() == Some(&Tier::G1),
            "{percent} % lost: {tiers:?}"
        );
    }
}

/// A token bucket lets a burst pass faster than its rate after each pause.
#[test]
fn bursts_through_a_shaper_do_not_stand_for_its_rate() {
    let mut simulated = Simulated::new();
    simulated.play(300, |at| match at.as_millis() % 5000 {
        // A quarter of a second at ten times the rate, then the rate, then a pause.
        0..250 => with_room(960.0),
        250..4000 => full(96.0),
        _ => with_room(1.0),
    });
    assert_eq!(simulated.tiers(), [Tier::M100]);
}

#[test]
fn a_slow_path_gets_longer_readings() {
    let mut simulated = Simulated::new();
    // Acknowledgements of a path of 600 ms come in heaps, one in each round trip.
    let mut number = 0;
    simulated.play(120, |_| {
        number += 1;
        let heap = if number % 2 == 0 { 192.0 } else { 0.0 };
        Sample { rtt: Duration::from_millis(480), variation: Duration::ZERO, ..full(heap) }
    });
    assert_eq!(simulated.tiers(), [Tier::M100]);
    assert!(simulated.link.rate_bps() < 120_000_000, "{}", simulated.link.rate_bps());
}

#[test]
fn the_rules_are_kept() {
    for (readings, stay_s) in [(1, 0), (8, 0), (2, 30)] {
        let mut simulated = Simulated::new();
        simulated.rules = Rules { readings, stay: Duration::from_secs(stay_s) };
        simulated.play(60, |_| full(960.0));
        let moved = simulated.at();
        simulated.play(60, |_| full(96.0));
        simulated.play(60, |_| full(960.0));
        let times: Vec<_> = simulated.changes.iter().map(|(at, _)| *at).collect();
        assert_eq!(simulated.tiers(), [Tier::G1, Tier::M100, Tier::G1]);
        assert_eq!(times[1] - moved, EVERY * readings, "readings {readings}");
        assert!(times[2] - times[1] >= simulated.rules.stay);
    }
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let time = || (0..u64::MAX).prop_map(Duration::from_nanos);
    (0..10_000_000_000_u64, any::<u64>(), any::<u64>(), time(), time(), time()).prop_map(
        |(interval_ns, delivered_bytes, lost_bytes, held, rtt, variation)| {
            let interval = Duration::from_nanos(interval_ns);
            Sample { interval, delivered_bytes, lost_bytes, held, rtt, variation }
        },
    )
}

proptest! {
    #[test]
    fn no_sample_breaks_it_and_changes_keep_the_stay(
        samples in proptest::collection::vec(any_sample(), 1..200)
    ) {
        let mut simulated = Simulated::new();
        for sample in &samples {
            simulated.take(sample);
        }
        for pair in simulated.changes.windows(2) {
            prop_assert!(pair[0].1 != pair[1].1);
            prop_assert!(pair[1].0 - pair[0].0 >= simulated.rules.stay);
        }
    }

    #[test]
    fn samples_with_room_never_lower(rates in proptest::collection::vec(0.0..3000.0_f64, 1..500)) {
        let mut simulated = Simulated::new();
        simulated.play(3, |_| full(960.0));
        for mbps in rates {
            simulated.take(&with_room(mbps));
        }
        prop_assert!(simulated.link.sending() >= Some(Tier::G1));
        prop_assert!(simulated.tiers().is_sorted());
    }
}
