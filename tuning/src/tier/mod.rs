//! The tier of a link: which class of capacity it has, measured while it carries traffic, and what is
//! set by it.
//!
//! ```text
//!   samples ──▶ Meter ──readings──▶ Classifier ──▶ tier ──▶ Profile
//!               spans of time       agreement,      ▲
//!                                   least stay      └── link speeds of both ends: never above
//! ```
//!
//! A [`Sample`] is what a link delivered since the last one and for how long something waited for the
//! path meanwhile. The `Meter` makes readings of them, long enough to mean something
//! on the path at hand; the `Classifier` changes the tier when enough readings
//! agree. [`LinkTier`] is both for one direction of a link, with what the peer says of itself.
//!
//! Pure: no I/O but [`link_speed`], and time is an argument. It owns no thread; the daemon that carries
//! the traffic calls it a few times a second for each link that carries something.

mod classify;
mod link;
mod meter;
mod profile;
mod speed;

#[cfg(test)]
mod tests;

pub use classify::{Change, Rules, Why};
pub use link::{LinkTier, PeerView};
pub use meter::Sample;
pub use profile::Profile;
pub use speed::{LINK_SPEED_MAX_MBPS, link_speed};

/// The nominal class of capacity of one direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Below 80 Mbit/s of UDP payload.
    Floor,
    /// From 80 Mbit/s: a cable of 100 Mbit/s carries about 96.
    M100,
    /// From 800 Mbit/s.
    G1,
    /// From 2000 Mbit/s.
    G2_5,
    /// From 8000 Mbit/s.
    G10,
}

/// The least rate of each tier above the floor, in bits of UDP payload a second.
pub const BOUNDARIES_BPS: [u64; 4] = [80_000_000, 800_000_000, 2_000_000_000, 8_000_000_000];

impl Tier {
    /// Every tier, the lowest first; its place is its number between nodes.
    pub const ALL: [Self; 5] = [Self::Floor, Self::M100, Self::G1, Self::G2_5, Self::G10];

    /// The tier of a rate in bits of UDP payload a second.
    #[must_use]
    pub fn of_rate(rate_bps: u64) -> Self {
        Self::above(BOUNDARIES_BPS.iter().filter(|least| rate_bps >= **least).count())
    }

    /// The tier of an interface's nominal speed in Mbit/s. An interface of 100 Mbit/s is `100M`
    /// although it cannot carry 100 Mbit/s of payload.
    #[must_use]
    pub fn of_link_speed(mbps: u32) -> Self {
        Self::above([100, 1000, 2500, 10_000].iter().filter(|least| mbps >= **least).count())
    }

    /// The tier above so many boundaries.
    fn above(boundaries: usize) -> Self {
        Self::ALL[boundaries.min(Self::ALL.len() - 1)]
    }

    /// Its number between nodes, 0 to 4.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The tier with this number; `None` above 4.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its name, as in `status`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::M100 => "100M",
            Self::G1 => "1G",
            Self::G2_5 => "2.5G",
            Self::G10 => "10G",
        }
    }
}
