//! The tier of one link: what this end measures of what it sends, bounded by both ends' interfaces,
//! and what the other end says of its own direction.

use std::time::Instant;

use super::classify::{Change, Classifier, Rules, Why};
use super::meter::{Meter, Sample};
use super::{Profile, Tier};

/// What the peer says of the direction in which it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerView {
    /// Its tier, if it has measured one.
    pub tier: Option<Tier>,
    /// Speed of its interface in Mbit/s, if it knows.
    pub link_speed_mbps: Option<u32>,
}

/// The tier of a link.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkTier {
    meter: Meter,
    classifier: Classifier,
    link_speed_mbps: Option<u32>,
    peer: PeerView,
}

impl LinkTier {
    /// Takes what the link did since the last sample.
    pub fn sample(&mut self, sample: &Sample, rules: Rules, now: Instant) -> Option<Change> {
        let reading = self.meter.take(sample)?;
        let from = self.sending();
        let why = self.classifier.take(reading, rules, now)?;
        self.changed(from, why)
    }

    /// Takes the speed of this end's interface, if it is known.
    pub fn set_link_speed(&mut self, mbps: Option<u32>) -> Option<Change> {
        let from = self.sending();
        self.link_speed_mbps = mbps;
        self.changed(from, Why::LinkSpeed)
    }

    /// Takes what the peer says.
    pub fn set_peer(&mut self, peer: PeerView) -> Option<Change> {
        let from = self.sending();
        self.peer = peer;
        self.changed(from, Why::LinkSpeed)
    }

    fn changed(&self, from: Option<Tier>, why: Why) -> Option<Change> {
        let to = self.sending();
        (from != to).then_some(Change { from, to, why })
    }

    /// The tier of the direction in which this end sends, once it has measured one: at most what the
    /// slower interface of the two ends carries.
    #[must_use]
    pub fn sending(&self) -> Option<Tier> {
        self.bounded(self.classifier.tier())
    }

    /// The tier of the direction in which the peer sends, if it told one: bounded likewise.
    #[must_use]
    pub fn receiving(&self) -> Option<Tier> {
        self.bounded(self.peer.tier)
    }

    fn bounded(&self, tier: Option<Tier>) -> Option<Tier> {
        let speeds = [self.link_speed_mbps, self.peer.link_speed_mbps];
        let ceiling = speeds.into_iter().flatten().map(Tier::of_link_speed).min();
        tier.map(|tier| ceiling.map_or(tier, |ceiling| tier.min(ceiling)))
    }

    /// The tier to show: that of the direction in which this end sends, and while nothing is known of it,
    /// that of the other.
    #[must_use]
    pub fn shown(&self) -> Option<Tier> {
        self.sending().or(self.receiving())
    }

    /// The largest of the last readings of what this end sends, in bits of UDP payload a second.
    #[must_use]
    pub fn rate_bps(&self) -> u64 {
        self.classifier.rate_bps()
    }

    /// What is set by it.
    #[must_use]
    pub fn profile(&self) -> Profile {
        Profile::of(self.sending(), self.receiving())
    }
}
