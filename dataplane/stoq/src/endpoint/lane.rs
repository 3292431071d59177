//! A worker's share of a link: its lanes, each a slot with the queue of packets that wait for it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Peer;
use crate::admission::Budget;
use crate::backlog::Backlog;
use crate::control::{BootId, TierNote};
use crate::dial::Dialler;
use crate::link::{Key, SLOTS_MAX, Slot, slots_of};
use crate::profile::{LinkProfile, TURN};
use crate::recovery::Counts;
use crate::tls::STREAM_WINDOW_MAX;

pub(super) struct Lane {
    pub slot: Slot,
    pub backlog: Backlog,
    /// Connections that this node has dialled for the slot and that were unfinished then; to be looked at
    /// before use, for their numbers may be others' by now.
    pub attempts: Vec<Key>,
    /// Bytes to which stream windows may be raised on the connection that became ready last.
    pub stream_window: u32,
    /// Numbers of the connections that this node dialled for the slot, rising.
    pub dialled: u32,
    /// Number of the next super-packet that leaves in slices.
    pub supers: u16,
    /// Inner bytes queued since the start.
    pub tx_bytes: u64,
    /// Inner packets queued since the start.
    pub tx_packets: u64,
    /// How many of them there were, since when.
    unchanged: Option<(u64, Instant)>,
}

impl Lane {
    /// Gives back the memory of the queue if no packet has come for so long: thousands of links are idle
    /// most of the time.
    pub fn rest(&mut self, pause: Duration, now: Instant) {
        match self.unchanged {
            Some((packets, since)) if packets == self.tx_packets => {
                if now.saturating_duration_since(since) >= pause {
                    self.backlog.release();
                }
            }
            _ => self.unchanged = Some((self.tx_packets, now)),
        }
    }
}

pub(super) struct Link {
    pub peer: Peer,
    pub lanes: Vec<Lane>,
    /// The run of the peer's process that the connections lead to.
    pub boot: Option<BootId>,
    pub timer: Option<Instant>,
    pub was_up: bool,
    /// Largest packet that the peer's tunnel device takes, in bytes, as it said.
    pub tunnel_mtu: usize,
    /// The peer took leave: it is not there to be dialled at once.
    pub peer_left: bool,
    /// When it was last said that the peer's certificate has expired and is taken all the same.
    pub outlived_at: Option<Instant>,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub recovery: Counts,
    queue_bytes_max: usize,
    /// What was set for this link; the defaults otherwise.
    pub profile: Option<LinkProfile>,
    /// What this end says of its tier on every connection.
    pub note: Option<TierNote>,
    /// What the peer has said since it was asked for last.
    pub heard: Option<TierNote>,
    /// How often it may.
    pub notes: Option<Budget>,
}

impl Link {
    /// A link to `peer` with the slots that `worker` has in any case.
    pub fn new(peer: Peer, worker: u8, workers: u8, queue_bytes_max: usize) -> Self {
        let mut link = Self {
            peer,
            lanes: Vec::new(),
            boot: None,
            timer: None,
            was_up: false,
            tunnel_mtu: usize::MAX,
            peer_left: false,
            outlived_at: None,
            rx_bytes: 0,
            rx_packets: 0,
            recovery: Counts::default(),
            queue_bytes_max,
            profile: None,
            note: None,
            heard: None,
            notes: None,
        };
        link.add_lanes(worker, workers, 1);
        link
    }

    /// Adds the lanes that a peer with so many workers calls for.
    pub fn add_lanes(&mut self, worker: u8, workers: u8, peer_workers: u8) {
        for number in slots_of(worker, workers, peer_workers) {
            self.lane_or_new(number);
        }
    }

    /// The lane of this slot number; made if steering brought a slot of another worker here.
    pub fn lane_or_new(&mut self, number: u8) -> Option<&mut Lane> {
        if number >= SLOTS_MAX {
            return None;
        }
        let at = match self.lanes.iter().position(|lane| lane.slot.number == number) {
            Some(at) => at,
            None => {
                let slot = Slot::new(number, Dialler::new(&self.peer.endpoints));
                let mut backlog = Backlog::new(self.queue_bytes_max);
                if let Some(profile) = &self.profile {
                    backlog.tune(profile);
                }
                self.lanes.push(Lane {
                    slot,
                    backlog,
                    attempts: Vec::new(),
                    stream_window: 0,
                    dialled: 0,
                    supers: 0,
                    tx_bytes: 0,
                    tx_packets: 0,
                    unchanged: None,
                });
                self.lanes.len() - 1
            }
        };
        self.lanes.get_mut(at)
    }

    pub fn lane(&mut self, number: u8) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.slot.number == number)
    }

    /// Packets that one of its connections sends before another has its turn.
    pub fn turn(&self) -> usize {
        self.profile.map_or(TURN, |profile| usize::from(profile.turn_packets.max(1)))
    }

    pub fn is_up(&self) -> bool {
        self.lanes.iter().any(|lane| lane.slot.is_up())
    }

    /// The lane that carries this flow: its own, or the next that is up.
    pub fn lane_for(&mut self, flow: u32) -> Option<&mut Lane> {
        let spread = self.profile.map_or(usize::MAX, |profile| usize::from(profile.lanes.max(1)));
        let count = self.lanes.len();
        let first = flow as usize % count.min(spread).max(1);
        let at = (0..count).map(|n| (first + n) % count).find(|&n| self.lanes[n].slot.is_up())?;
        self.lanes.get_mut(at)
    }

    /// Bytes to which stream windows may be raised on connections that are dialled.
    pub fn stream_window(&self) -> u32 {
        self.profile.map_or(STREAM_WINDOW_MAX, |profile| profile.stream_window)
    }

    /// Every connection of the link.
    pub fn members(&self) -> Vec<Key> {
        self.lanes.iter().flat_map(|lane| lane.slot.members()).collect()
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.slot.timeout()).min()
    }

    /// Takes a changed list of endpoints; connections stay.
    pub fn set_endpoints(&mut self, endpoints: Vec<SocketAddr>, now: Instant) {
        if self.peer.endpoints == endpoints {
            return;
        }
        for lane in &mut self.lanes {
            lane.slot.dialler = Dialler::new(&endpoints);
            if lane.slot.is_up() {
                lane.slot.dialler.connected(now);
            }
        }
        self.peer.endpoints = endpoints;
    }
}
