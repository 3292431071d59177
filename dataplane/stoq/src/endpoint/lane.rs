//! A worker's share of a link: its lanes, each a slot with the queue of packets that wait for it.

use std::net::SocketAddr;
use std::time::Instant;

use super::Peer;
use crate::backlog::Backlog;
use crate::control::BootId;
use crate::dial::Dialler;
use crate::link::{Key, SLOTS_MAX, Slot, slots_of};
use crate::recovery::Counts;

pub(super) struct Lane {
    pub slot: Slot,
    pub backlog: Backlog,
    /// Numbers of the connections that this node dialled for the slot, rising.
    pub dialled: u32,
    /// Inner bytes queued since the start.
    pub tx_bytes: u64,
    /// Inner packets queued since the start.
    pub tx_packets: u64,
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
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub recovery: Counts,
    queue_bytes_max: usize,
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
            rx_bytes: 0,
            rx_packets: 0,
            recovery: Counts::default(),
            queue_bytes_max,
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
                let backlog = Backlog::new(self.queue_bytes_max);
                self.lanes.push(Lane { slot, backlog, dialled: 0, tx_bytes: 0, tx_packets: 0 });
                self.lanes.len() - 1
            }
        };
        self.lanes.get_mut(at)
    }

    pub fn lane(&mut self, number: u8) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.slot.number == number)
    }

    pub fn is_up(&self) -> bool {
        self.lanes.iter().any(|lane| lane.slot.is_up())
    }

    /// The lane that carries this flow: its own, or the next that is up.
    pub fn lane_for(&mut self, flow: u32) -> Option<&mut Lane> {
        let count = self.lanes.len();
        let first = flow as usize % count.max(1);
        let at = (0..count).map(|n| (first + n) % count).find(|&n| self.lanes[n].slot.is_up())?;
        self.lanes.get_mut(at)
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
