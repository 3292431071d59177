//! The tiers of all links: a thread that asks the workers what their links did, decides, and tells the
//! workers what follows. A link is shared by workers, so none of them could decide alone; and none has
//! to wait for a file of the kernel that says how fast an interface is.
//!
//! Owns the samples on their way; the tiers themselves are in [`Shared`], for the status. Started by the
//! daemon.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam::channel::bounded;
use stoq::control::{MBPS_MAX, TierNote};
use stoq::{LinkProfile, LinkSample, PeerId};
use stoq_tuning::tier::{Change, LinkTier, PeerView, Profile, Rules, Sample, Tier, link_speed};

use super::shared::Shared;
use crate::worker::{Command, Tuned};

/// How often the workers are asked: several readings a second, and next to no work.
const EVERY: Duration = Duration::from_millis(250);

/// How long a worker may take to answer; a turn of its loop takes well below 1 ms.
const PATIENCE: Duration = Duration::from_millis(200);

/// How many rounds go by until the speed of the interface is looked at again: two seconds.
const ROUNDS_PER_LOOK: u32 = 8;

/// Changes that are logged in one round at most; another cable changes the tier of every link at once.
const LOGGED_MAX: usize = 64;

/// Starts the thread. It ends with the workers.
///
/// # Errors
/// When the host has no thread left.
pub(super) fn start(shared: Arc<Shared>) -> Result<()> {
    let thread = std::thread::Builder::new().name("tiers".to_owned());
    let rounds = move || {
        let mut watch = Watch::default();
        while watch.round(&shared) {
            std::thread::sleep(EVERY);
        }
    };
    thread.spawn(rounds).context("starting the thread of the tiers").map(drop)
}

/// The tier as the status shows it.
pub(super) fn shown(tier: Option<Tier>) -> stoq_control::Tier {
    match tier {
        None | Some(Tier::Floor) => stoq_control::Tier::Floor,
        Some(Tier::M100) => stoq_control::Tier::M100,
        Some(Tier::G1) => stoq_control::Tier::G1,
        Some(Tier::G2_5) => stoq_control::Tier::G2_5,
        Some(Tier::G10) => stoq_control::Tier::G10,
    }
}

/// What the thread keeps between two rounds.
#[derive(Default)]
struct Watch {
    rounds: u32,
    link_speed_mbps: Option<u32>,
    bursts: Option<(u16, u16)>,
}

/// The shares of a link added up, and what the peer has said.
#[derive(Default)]
struct Gathered {
    sample: Sample,
    heard: Option<TierNote>,
}

impl Watch {
    /// Asks, decides and tells. Returns whether there are workers to ask.
    fn round(&mut self, shared: &Shared) -> bool {
        let Some(gathered) = gather(shared) else { return false };
        let (rules, interface) = {
            let config = &shared.held().config;
            (config.tier.rules(), config.transport.interface.clone())
        };
        let look = self.rounds.is_multiple_of(ROUNDS_PER_LOOK);
        self.rounds = self.rounds.wrapping_add(1);
        let mut speed = None;
        if look {
            let now = interface.and_then(|name| link_speed(Path::new("/sys"), &name));
            speed = (now != self.link_speed_mbps).then_some(now);
            self.link_speed_mbps = now;
        }
        let mut tiers = shared.tiers();
        let mut changed = self.take(&mut tiers, gathered, rules);
        if let Some(mbps) = speed {
            for (peer, tier) in tiers.iter_mut() {
                let change = tier.set_link_speed(mbps);
                changed.changes.extend(change.map(|change| (*peer, change)));
                changed.tell.insert(*peer);
            }
        }
        self.tell(shared, &tiers, &changed.tell);
        drop(tiers);
        log(shared, &changed.changes);
        true
    }

    /// Takes what the links did.
    fn take(
        &self,
        tiers: &mut HashMap<PeerId, LinkTier>,
        gathered: HashMap<PeerId, Gathered>,
        rules: Rules,
    ) -> Changed {
        let mut changed = Changed::default();
        let now = Instant::now();
        for (peer, Gathered { sample, heard }) in gathered {
            let tier = tiers.entry(peer).or_insert_with(|| {
                // Of a link that is not measured yet the peer can only be told this.
                changed.tell.extend(self.link_speed_mbps.map(|_| peer));
                let mut tier = LinkTier::default();
                tier.set_link_speed(self.link_speed_mbps);
                tier
            });
            let before = tier.profile();
            let heard = heard.and_then(|note| tier.set_peer(view(note)));
            let measured = tier.sample(&sample, rules, now);
            trace(peer, &sample, tier);
            for change in [heard, measured].into_iter().flatten() {
                changed.changes.push((peer, change));
                changed.tell.insert(peer);
            }
            if tier.profile() != before {
                changed.tell.insert(peer);
            }
        }
        changed
    }

    /// Tells the workers what follows, if anything does.
    fn tell(
        &mut self,
        shared: &Shared,
        tiers: &HashMap<PeerId, LinkTier>,
        changed: &HashSet<PeerId>,
    ) {
        let bursts = bursts(tiers);
        let same = self.bursts == Some(bursts);
        if changed.is_empty() && same {
            return;
        }
        self.bursts = Some(bursts);
        let of_link = |peer: &PeerId| {
            let tier = tiers.get(peer)?;
            Some((*peer, profile(tier.profile()), note(tier, self.link_speed_mbps)))
        };
        let links = changed.iter().filter_map(of_link).collect();
        let (read_burst, transmit_burst) = (usize::from(bursts.0), usize::from(bursts.1));
        let tuned = Arc::new(Tuned { links, read_burst, transmit_burst });
        shared.send_all(|| Command::Tuned(Arc::clone(&tuned)));
    }
}

/// What a round brought.
#[derive(Default)]
struct Changed {
    changes: Vec<(PeerId, Change)>,
    /// Links whose parameters, or what their peer should know, are not what they were.
    tell: HashSet<PeerId>,
}

/// What the workers say, by link; `None` when they have ended.
fn gather(shared: &Shared) -> Option<HashMap<PeerId, Gathered>> {
    let mut answers = Vec::with_capacity(shared.workers.len());
    for worker in &shared.workers {
        let (reply, answer) = bounded(1);
        if worker.handle.send(Command::Samples(reply)).is_ok() {
            answers.push(answer);
        }
    }
    if answers.is_empty() {
        return None;
    }
    let mut gathered: HashMap<PeerId, Gathered> = HashMap::new();
    for answer in answers {
        // One that is late tells it with the next round: nothing is lost but a reading's precision.
        for share in answer.recv_timeout(PATIENCE).unwrap_or_default() {
            let link = gathered.entry(share.peer).or_default();
            link.sample.merge(&sample(&share));
            link.heard = share.heard.or(link.heard);
        }
    }
    Some(gathered)
}

fn sample(share: &LinkSample) -> Sample {
    Sample {
        interval: share.interval,
        delivered_bytes: share.delivered_bytes,
        lost_bytes: share.lost_bytes,
        held: share.full,
        rtt: share.rtt,
        variation: share.variation,
    }
}

fn view(note: TierNote) -> PeerView {
    let known = Some(note.link_speed_mbps).filter(|mbps| *mbps > 0);
    PeerView { tier: note.tier.and_then(Tier::of_number), link_speed_mbps: known }
}

fn note(tier: &LinkTier, link_speed_mbps: Option<u32>) -> TierNote {
    let sending = tier.sending();
    let rate_mbps = u32::try_from(tier.rate_bps() / 1_000_000).unwrap_or(MBPS_MAX);
    TierNote {
        tier: sending.map(Tier::number),
        rate_mbps: sending.map_or(0, |_| rate_mbps.min(MBPS_MAX)),
        link_speed_mbps: link_speed_mbps.unwrap_or(0),
    }
}

fn profile(of: Profile) -> LinkProfile {
    LinkProfile {
        queue_target: of.queue_target,
        codel_target: of.codel_target,
        quantum_bytes: of.quantum_bytes,
        queue_packets: of.queue_packets,
        turn_packets: of.turn_packets,
        lanes: of.lanes,
        initial_window_packets: of.initial_window_packets,
        stream_window: of.stream_window_bytes,
    }
}

/// Most that is read and sent in a turn: what the fastest measured link asks for.
fn bursts(tiers: &HashMap<PeerId, LinkTier>) -> (u16, u16) {
    let measured = tiers.values().filter(|tier| tier.sending().is_some());
    let profiles = measured.map(LinkTier::profile);
    let most = profiles
        .map(|profile| (profile.read_burst, profile.transmit_burst))
        .reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)));
    let usual = Profile::of(None, None);
    most.unwrap_or((usual.read_burst, usual.transmit_burst))
}

fn log(shared: &Shared, changes: &[(PeerId, Change)]) {
    if changes.is_empty() {
        return;
    }
    let label = |tier: Option<Tier>| tier.map_or("not measured", Tier::label);
    let names = shared.peer_names();
    for (peer, Change { from, to, why }) in changes.iter().take(LOGGED_MAX) {
        let name = names.iter().find(|(known, _)| known == peer);
        let peer = name.map_or("(removed)", |(_, name)| name.as_str());
        tracing::info!(peer, from = label(*from), to = label(*to), %why, "tier");
    }
    if changes.len() > LOGGED_MAX {
        tracing::info!(more = changes.len() - LOGGED_MAX, "tiers of other links");
    }
}

/// What a trace of a run is made of.
fn trace(peer: PeerId, sample: &Sample, tier: &LinkTier) {
    tracing::trace!(
        peer = peer.0,
        interval_us = sample.interval.as_micros() as u64,
        delivered_bytes = sample.delivered_bytes,
        lost_bytes = sample.lost_bytes,
        held_us = sample.held.as_micros() as u64,
        rtt_us = sample.rtt.as_micros() as u64,
        variation_us = sample.variation.as_micros() as u64,
        tier = tier.sending().map_or("", Tier::label),
        "path sample"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The workers begin with the profile that a link has while nothing is measured.
    #[test]
    fn the_profile_of_an_unmeasured_link_is_the_one_that_links_begin_with() {
        let unmeasured = LinkTier::default();
        assert_eq!(profile(unmeasured.profile()), LinkProfile::default());
        assert_eq!(bursts(&HashMap::new()), bursts(&HashMap::from([(PeerId(1), unmeasured)])));
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        let mut tier = LinkTier::default();
        let said = note(&tier, None);
        assert_eq!(said, TierNote::default());
        assert_eq!(view(said), PeerView::default());
        let span = Duration::from_secs(1);
        let full = Sample {
            interval: span,
            delivered_bytes: 120_000_000,
            held: span,
            ..Sample::default()
        };
        let start = Instant::now();
        for second in 1..=4 {
            tier.sample(&full, Rules::default(), start + span * second);
        }
        let said = note(&tier, Some(2500));
        assert_eq!(said, TierNote { tier: Some(2), rate_mbps: 960, link_speed_mbps: 2500 });
        let heard = PeerView { tier: Some(Tier::G1), link_speed_mbps: Some(2500) };
        assert_eq!(view(said), heard);
    }
}
