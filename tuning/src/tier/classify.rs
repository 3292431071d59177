//! When readings make another tier. Owned by the tier of a link.
//!
//! For each boundary between two tiers two counts are kept: readings in a row that speak for the tier
//! above it, and readings in a row that speak for the one below. What proves nothing breaks no row: a
//! low reading of a path that was not full.
//!
//! | reading | full path | path with room |
//! |---|---|---|
//! | at least the boundary | speaks for above | speaks for above |
//! | between | breaks "above" and "below" | breaks "below" |
//! | less than three quarters of it | speaks for below | says nothing |
//!
//! The gap between the two, the number of readings and the least stay keep noise from turning into
//! changes. Where a capacity lies so close to a boundary that it comes and goes all the same, each
//! return makes the next stay twice as long.

use std::fmt;
use std::time::{Duration, Instant};

use super::meter::Reading;
use super::{BOUNDARIES_BPS, Tier};

/// Part of a boundary below which a full path has left the tier above it: three quarters, so that a
/// capacity that varies by an eighth to either side never crosses both.
const fn leaves_below(boundary_bps: u64) -> u64 {
    boundary_bps / 4 * 3
}

/// How long a tier is remembered after it was left: a return within this time is a return. Or four
/// stays, if that is longer.
const CALM: Duration = Duration::from_secs(60);

/// Most doublings of the stay: from 2 s to about a minute.
const DOUBLINGS_MAX: u32 = 5;

/// Readings of which the largest is the estimate that is shown: one second of them.
const SHOWN: usize = 4;

/// What the operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Readings in a row that make another tier, at least 1; one is a quarter of a second on most
    /// paths, and at most a second and a sample.
    pub readings: u32,
    /// How long a tier stays at least.
    pub stay: Duration,
}

impl Default for Rules {
    /// Four readings and two seconds: a change is followed within about three seconds.
    fn default() -> Self {
        Self { readings: 4, stay: Duration::from_secs(2) }
    }
}

/// Why the tier of a link changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// So many bits a second were delivered, and the path may carry more.
    Delivered {
        /// The largest of the last readings.
        rate_bps: u64,
    },
    /// The path was full, and delivered no more than so many bits a second.
    Full {
        /// The largest of the last readings.
        rate_bps: u64,
    },
    /// The interface of one of the ends has another speed.
    LinkSpeed,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered { rate_bps } => write!(f, "{} Mbit/s delivered", rate_bps / 1_000_000),
            Self::Full { rate_bps } => {
                write!(f, "the path is full at {} Mbit/s", rate_bps / 1_000_000)
            }
            Self::LinkSpeed => f.write_str("the link speed of an interface"),
        }
    }
}

/// Another tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The one before; `None` if nothing was measured yet.
    pub from: Option<Tier>,
    /// The new one; `None` only after a change of nothing but a link speed.
    pub to: Option<Tier>,
    /// Why.
    pub why: Why,
}

/// The tier that readings lead to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Classifier {
    tier: Option<Tier>,
    changed: Option<Instant>,
    /// The tier before this one.
    left: Option<Tier>,
    /// Changes in a row that each went back to the tier before.
    returns: u32,
    above: [u32; BOUNDARIES_BPS.len()],
    below: [u32; BOUNDARIES_BPS.len()],
    /// Readings of a full path since the last change.
    full: u32,
    recent_bps: [u64; SHOWN],
    taken: usize,
}

impl Classifier {
    /// The tier, once there is one.
    pub fn tier(&self) -> Option<Tier> {
        self.tier
    }

    /// The largest of the last readings, in bits a second.
    pub fn rate_bps(&self) -> u64 {
        self.recent_bps.iter().copied().max().unwrap_or(0)
    }

    /// Takes a reading. Returns why the tier changed, if it did.
    pub fn take(&mut self, reading: Reading, rules: Rules, now: Instant) -> Option<Why> {
        self.recent_bps[self.taken % SHOWN] = reading.rate_bps;
        self.taken = self.taken.wrapping_add(1);
        self.count(reading);
        let stay = self.stay(rules);
        if self.changed.is_some_and(|at| now.saturating_duration_since(at) < stay) {
            return None;
        }
        let to = self.due(rules.readings.max(1)).filter(|to| Some(*to) != self.tier)?;
        let why = match self.tier {
            Some(from) if to < from => Why::Full { rate_bps: self.rate_bps() },
            _ => Why::Delivered { rate_bps: self.rate_bps() },
        };
        self.change(to, stay, now);
        Some(why)
    }

    fn count(&mut self, reading: Reading) {
        let Reading { rate_bps, is_full } = reading;
        self.full = self.full.saturating_add(u32::from(is_full));
        for (at, boundary_bps) in BOUNDARIES_BPS.into_iter().enumerate() {
            let (above, below) = (&mut self.above[at], &mut self.below[at]);
            if rate_bps >= boundary_bps {
                *above = above.saturating_add(1);
            } else if is_full {
                *above = 0;
            }
            if rate_bps >= leaves_below(boundary_bps) {
                *below = 0;
            } else if is_full {
                *below = below.saturating_add(1);
            }
        }
    }

    /// The tier that enough readings agree on.
    fn due(&self, readings: u32) -> Option<Tier> {
        let highest = self.above.iter().rposition(|count| *count >= readings);
        let reached = highest.map(|at| Tier::above(at + 1));
        let Some(tier) = self.tier else {
            let full = self.full >= readings;
            return reached.or_else(|| full.then(|| Tier::of_rate(self.rate_bps())));
        };
        if let Some(reached) = reached.filter(|reached| *reached > tier) {
            return Some(reached);
        }
        let lowest = self.below.iter().position(|count| *count >= readings);
        lowest.map(Tier::above).filter(|left| *left < tier)
    }

    fn stay(&self, rules: Rules) -> Duration {
        // The first return may well be a cable that was put back.
        let doublings = self.returns.saturating_sub(1).min(DOUBLINGS_MAX);
        rules.stay.saturating_mul(1 << doublings)
    }

    fn change(&mut self, to: Tier, stay: Duration, now: Instant) {
        let calm = CALM.max(stay.saturating_mul(4));
        let soon = self.changed.is_some_and(|at| now.saturating_duration_since(at) < calm);
        let returns = if soon && self.left == Some(to) { self.returns + 1 } else { 0 };
        let (left, changed) = (self.tier, Some(now));
        let (recent_bps, taken) = (self.recent_bps, self.taken);
        let tier = Some(to);
        *self = Self { tier, changed, left, returns, recent_bps, taken, ..Self::default() };
    }
}
