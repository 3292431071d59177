//! The tier of a link on synthetic traces in simulated time, and on traces of real runs.

mod recorded;
mod synthetic;

use std::time::{Duration, Instant};

use super::{Change, LinkTier, PeerView, Profile, Rules, Sample, Tier};

/// How often a daemon takes samples.
const EVERY: Duration = Duration::from_millis(250);

/// A link in simulated time.
struct Simulated {
    link: LinkTier,
    rules: Rules,
    start: Instant,
    now: Instant,
    /// When the tier became which.
    changes: Vec<(Duration, Option<Tier>)>,
}

impl Simulated {
    fn new() -> Self {
        let now = Instant::now();
        let (link, rules) = (LinkTier::default(), Rules::default());
        Self { link, rules, start: now, now, changes: Vec::new() }
    }

    fn at(&self) -> Duration {
        self.now - self.start
    }

    fn take(&mut self, sample: &Sample) {
        self.now += sample.interval;
        let change = self.link.sample(sample, self.rules, self.now);
        self.note(change);
    }

    fn note(&mut self, change: Option<Change>) {
        if let Some(change) = change {
            self.changes.push((self.at(), change.to));
        }
    }

    /// Plays samples for so long.
    fn play(&mut self, seconds: u64, mut next: impl FnMut(Duration) -> Sample) {
        let end = self.at() + Duration::from_secs(seconds);
        while self.at() < end {
            self.take(&next(self.at()));
        }
    }

    fn tiers(&self) -> Vec<Tier> {
        self.changes.iter().filter_map(|(_, tier)| *tier).collect()
    }
}

/// A sample of a path of 1 ms that delivers at this rate.
fn at_rate(mbps: f64, is_full: bool) -> Sample {
    Sample {
        interval: EVERY,
        delivered_bytes: (mbps * 1e6 / 8.0 * EVERY.as_secs_f64()) as u64,
        held: if is_full { EVERY * 9 / 10 } else { EVERY / 10 },
        rtt: Duration::from_millis(1),
        variation: Duration::from_micros(100),
        ..Sample::default()
    }
}

fn full(mbps: f64) -> Sample {
    at_rate(mbps, true)
}

fn with_room(mbps: f64) -> Sample {
    at_rate(mbps, false)
}

#[test]
fn the_boundaries_are_those_of_the_product() {
    let cases = [
        (79_999_999, Tier::Floor),
        (80_000_000, Tier::M100),
        (800_000_000, Tier::G1),
        (2_000_000_000, Tier::G2_5),
        (7_999_999_999, Tier::G2_5),
        (8_000_000_000, Tier::G10),
        (u64::MAX, Tier::G10),
    ];
    for (rate_bps, tier) in cases {
        assert_eq!(Tier::of_rate(rate_bps), tier, "{rate_bps}");
    }
    let names: Vec<_> = Tier::ALL.iter().map(|tier| tier.label()).collect();
    assert_eq!(names, ["floor", "100M", "1G", "2.5G", "10G"]);
    for tier in Tier::ALL {
        assert_eq!(Tier::of_number(tier.number()), Some(tier));
    }
    assert_eq!(Tier::of_number(5), None);
}

#[test]
fn an_interface_bounds_the_tier_at_once_and_lets_it_rise_again() {
    let mut simulated = Simulated::new();
    simulated.play(3, |_| full(2400.0));
    for (mbps, expected) in [
        (Some(10_000), Tier::G2_5),
        (Some(100), Tier::M100),
        (Some(10), Tier::Floor),
        (Some(1000), Tier::G1),
        (None, Tier::G2_5),
    ] {
        let change = simulated.link.set_link_speed(mbps);
        simulated.note(change);
        assert_eq!(simulated.link.sending(), Some(expected), "{mbps:?}");
    }
    assert_eq!(
        simulated.tiers(),
        [Tier::G2_5, Tier::M100, Tier::Floor, Tier::G1, Tier::G2_5],
        "each is told once"
    );
}

#[test]
fn the_peers_interface_bounds_it_too() {
    let mut simulated = Simulated::new();
    simulated.play(3, |_| full(2400.0));
    simulated.link.set_peer(PeerView { tier: None, link_speed_mbps: Some(1000) });
    assert_eq!(simulated.link.sending(), Some(Tier::G1));
}

#[test]
fn each_direction_has_its_own_and_what_is_shared_takes_the_lower() {
    let mut link = LinkTier::default();
    assert_eq!((link.sending(), link.receiving(), link.shown()), (None, None, None));
    let theirs = Some(Tier::M100);
    link.set_peer(PeerView { tier: theirs, link_speed_mbps: None });
    assert_eq!((link.sending(), link.receiving(), link.shown()), (None, theirs, theirs));
    let mut simulated = Simulated { link, ..Simulated::new() };
    simulated.play(3, |_| full(960.0));
    let link = simulated.link;
    assert_eq!((link.receiving(), link.shown()), (theirs, Some(Tier::G1)));
    assert_eq!(link.profile(), Profile { lanes: 1, ..Profile::of(Some(Tier::G1), None) });
}

#[test]
fn what_a_peer_claims_is_bounded_by_the_interfaces() {
    let mut link = LinkTier::default();
    link.set_peer(PeerView { tier: Some(Tier::G10), link_speed_mbps: None });
    assert!(link.profile().stream_window_bytes > Profile::of(None, None).stream_window_bytes);
    link.set_link_speed(Some(1000));
    assert_eq!(link.receiving(), Some(Tier::G1));
    assert_eq!(link.profile(), Profile::of(None, None));
}

#[test]
fn a_link_that_is_not_measured_has_the_usual_profile() {
    let unmeasured = LinkTier::default().profile();
    assert_eq!(unmeasured, Profile::of(Some(Tier::G1), Some(Tier::G1)));
    assert_ne!(unmeasured, Profile::of(Some(Tier::Floor), Some(Tier::Floor)));
}
