//! The tier of a link, as far as the protocol has to do with it: what its connections deliver, what the
//! two ends say to each other of it, and the parameters that the daemon sets by it. Which tier that is
//! the daemon decides, which knows the shares of all workers.

use std::time::{Duration, Instant};

use stoq_telemetry::DropReason;

use super::Endpoint;
use super::lane::Link;
use crate::PeerId;
use crate::admission::Budget;
use crate::conn::Conn;
use crate::control::{Frame, Goaway, GoawayReason, TierNote};
use crate::governor::Delivered;
use crate::link::{Key, SLOTS_MAX};
use crate::profile::LinkProfile;

/// TIER frames that a peer may send at once, one on each connection of a link that comes up, and in a
/// second: a tier stays for longer.
const NOTES_BURST: u32 = SLOTS_MAX as u32;
const NOTES_PER_SECOND: u32 = 4;

/// What this worker's share of a link did since samples were taken last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSample {
    /// The peer.
    pub peer: PeerId,
    /// The time since then.
    pub interval: Duration,
    /// Bytes of UDP payload that the peer acknowledged.
    pub delivered_bytes: u64,
    /// Bytes of UDP payload that were declared lost.
    pub lost_bytes: u64,
    /// How long packets waited because the path took no more.
    pub full: Duration,
    /// Smoothed round trip time of the slowest connection.
    pub rtt: Duration,
    /// Its variation.
    pub variation: Duration,
    /// What the peer has said of its tier since then.
    pub heard: Option<TierNote>,
}

impl Endpoint {
    /// What each link did since the last call. Links on which nothing happened are left out.
    pub fn take_samples(&mut self, now: Instant) -> Vec<LinkSample> {
        let before = std::mem::replace(&mut self.sampled, now);
        let interval = now.saturating_duration_since(before);
        let conns = &mut self.conns;
        let of_link = |link: &mut Link| {
            let heard = link.heard.take();
            let stirs = |conn: &Conn| conn.last_received >= before || conn.governor.is_full();
            let mut members = link.lanes.iter().flat_map(|lane| lane.slot.members());
            let silent = !members.any(|key| conns.get(key).is_some_and(stirs));
            if silent && heard.is_none() {
                return None;
            }
            let mut sample = LinkSample::empty(link.peer.id, interval, heard);
            for key in link.lanes.iter().flat_map(|lane| lane.slot.members()) {
                if let Some(conn) = conns.get_mut(key) {
                    sample.add(conn, now);
                }
            }
            Some(sample)
        };
        self.links.iter_mut().flatten().filter_map(of_link).collect()
    }

    /// Sets the parameters of a link: at once for its queues and connections, and for those to come.
    /// Connections whose handshake has fixed less than is wanted are replaced, make before break.
    pub fn set_profile(&mut self, peer: PeerId, profile: LinkProfile, now: Instant) {
        self.widest = self.widest.max(profile.stream_window);
        let is_leaving = self.draining.is_some();
        let Some(link) = self.link(peer) else { return };
        link.profile = Some(profile);
        let mut to_ask = Vec::new();
        for lane in &mut link.lanes {
            lane.backlog.tune(&profile);
            let narrow = lane.stream_window < profile.stream_window && !is_leaving;
            match lane.slot.current.filter(|_| narrow) {
                Some(member) if member.dialled_here => lane.slot.dialler.want(now),
                Some(member) => to_ask.push(member.key),
                None => {}
            }
        }
        for key in link.members() {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.governor.set_target(profile.queue_target);
            }
        }
        for key in to_ask {
            let goaway = Goaway { reason: GoawayReason::Replace, drain_ms: 0 };
            if let Some(conn) = self.conns.get_mut(key) {
                conn.send_frame(&Frame::Goaway(goaway));
            }
            self.activate(key);
        }
        self.reschedule_link(peer);
    }

    /// Tells the peer this end's tier: now, and on every connection that becomes ready.
    pub fn tell_tier(&mut self, peer: PeerId, note: TierNote) {
        let Some(link) = self.link(peer) else { return };
        link.note = Some(note);
        let first = link.lanes.iter().find_map(|lane| lane.slot.current);
        let Some(key) = first.map(|member| member.key) else { return };
        if let Some(conn) = self.conns.get_mut(key) {
            conn.send_frame(&Frame::Tier(note));
        }
        self.activate(key);
    }

    /// Gives a connection that became ready what holds for its link.
    pub(super) fn begin_tier(&mut self, key: Key, peer: PeerId) {
        let Some(link) = self.link(peer) else { return };
        let (profile, note) = (link.profile, link.note);
        let Some(conn) = self.conns.get_mut(key) else { return };
        if let Some(profile) = profile {
            conn.governor.set_target(profile.queue_target);
        }
        if let Some(note) = note {
            conn.send_frame(&Frame::Tier(note));
        }
    }

    /// The peer says its tier.
    pub(super) fn tier_note(&mut self, peer: PeerId, note: TierNote, now: Instant) {
        let Some(link) = self.link(peer) else { return };
        let budget = || Budget::new(NOTES_BURST, NOTES_PER_SECOND, now);
        if link.notes.get_or_insert_with(budget).take(now) {
            link.heard = Some(note);
        } else {
            self.local.drops.count(DropReason::TierExcess);
        }
    }
}

impl LinkSample {
    fn empty(peer: PeerId, interval: Duration, heard: Option<TierNote>) -> Self {
        let zero = Duration::ZERO;
        Self {
            peer,
            interval,
            delivered_bytes: 0,
            lost_bytes: 0,
            full: zero,
            rtt: zero,
            variation: zero,
            heard,
        }
    }

    fn add(&mut self, conn: &mut Conn, now: Instant) {
        let stats = conn.quic.stats();
        let totals = (stats.acked_bytes, stats.lost_bytes);
        let Delivered { acked, lost, full } = conn.governor.take_delivered(totals, now);
        self.delivered_bytes += acked;
        self.lost_bytes += lost;
        // Side by side on one path: what one of them cannot send, the path does not take.
        self.full = self.full.max(full);
        if let Some(path) = conn.active_path().filter(|path| path.rtt > self.rtt) {
            (self.rtt, self.variation) = (path.rtt, path.rttvar);
        }
    }
}
