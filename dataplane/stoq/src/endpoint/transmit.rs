//! The way out: inner packets into the queues of links, sealed packets out of connections.

use std::time::Instant;

use stoq_buffer::{PacketBuf, Slice};
use stoq_telemetry::DropReason;

use super::Endpoint;
use crate::conn::Stage;
use crate::context::CONTEXT_LEN;
use crate::control::feature;
use crate::link::Key;
use crate::profile::TURN;
use crate::slice::SLICE_OVERHEAD;
use crate::{PeerId, Transmit};

/// A packet of this size always passes, cut into fragments if need be: the least MTU of IPv6.
pub const ALWAYS_PASSES: usize = 1280;

/// Why a packet was not queued.
#[derive(Debug)]
pub enum Undelivered {
    /// The peer has no connection now.
    LinkDown,
    /// It is larger than the path carries; answer with ICMP "too big" and this MTU.
    TooBig {
        /// The packet.
        packet: PacketBuf,
        /// Largest inner packet that passes, in bytes.
        mtu: usize,
    },
}

/// How the next super-packet may leave in slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slicing {
    /// Its number, for all of its slices.
    pub number: u16,
    /// Bytes that a slice may have besides its overhead, the head included.
    pub room: usize,
}

impl Endpoint {
    /// Queues an inner packet for a peer. `flow` is the hash of its flow, which keeps one lane and
    /// its order; `may_cut` says that it has to pass even if the path is smaller (IPv4 without DF).
    ///
    /// # Errors
    /// When it cannot be sent. Packets that the full queue drops are counted here.
    pub fn enqueue(
        &mut self,
        peer: PeerId,
        packet: PacketBuf,
        flow: u32,
        may_cut: bool,
        now: Instant,
    ) -> Result<(), Undelivered> {
        let link = self.links.get_mut(peer.0 as usize).and_then(Option::as_mut);
        let link = link.ok_or(Undelivered::LinkDown)?;
        let tunnel_mtu = link.tunnel_mtu;
        let lane = link.lane_for(flow).ok_or(Undelivered::LinkDown)?;
        let current = lane.slot.current.ok_or(Undelivered::LinkDown)?;
        let conn = self.conns.get_mut(current.key).ok_or(Undelivered::LinkDown)?;
        let mtu = conn.datagram_max.saturating_sub(CONTEXT_LEN).min(tunnel_mtu);
        let cut = may_cut || packet.len() <= ALWAYS_PASSES || !conn.knows_path_mtu(now);
        if packet.len() > mtu && !cut {
            return Err(Undelivered::TooBig { packet, mtu: mtu.max(ALWAYS_PASSES) });
        }
        lane.tx_bytes += packet.len() as u64;
        lane.tx_packets += 1;
        lane.backlog.push(packet, flow, now, &self.local.drops);
        if !conn.is_active {
            conn.is_active = true;
            self.active.push_back(current.key);
        }
        Ok(())
    }

    /// How a super-packet of this flow may leave in slices; `None` if it may not, because the peer
    /// does not know them or the path is still being measured.
    pub fn slicing(&mut self, peer: PeerId, flow: u32, now: Instant) -> Option<Slicing> {
        let lane = self.links.get_mut(peer.0 as usize)?.as_mut()?.lane_for(flow)?;
        let conn = self.conns.get(lane.slot.current?.key)?;
        if conn.features & feature::SLICED == 0 || !conn.knows_path_mtu(now) {
            return None;
        }
        let number = lane.supers;
        lane.supers = number.wrapping_add(1);
        Some(Slicing { number, room: conn.datagram_max.saturating_sub(SLICE_OVERHEAD) })
    }

    /// Queues a slice for a peer, with the number and the room that [`Endpoint::slicing`] gave.
    ///
    /// # Errors
    /// When it has no connection now.
    pub fn enqueue_slice(
        &mut self,
        peer: PeerId,
        slice: Slice,
        understands_marks: bool,
        flow: u32,
        now: Instant,
    ) -> Result<(), Undelivered> {
        let link = self.links.get_mut(peer.0 as usize).and_then(Option::as_mut);
        let lane = link.and_then(|link| link.lane_for(flow)).ok_or(Undelivered::LinkDown)?;
        let key = lane.slot.current.ok_or(Undelivered::LinkDown)?.key;
        lane.tx_bytes += slice.body.len() as u64;
        lane.tx_packets += 1;
        lane.backlog.push_slice(slice, understands_marks, flow, now, &self.local.drops);
        if let Some(conn) = self.conns.get_mut(key).filter(|conn| !conn.is_active) {
            conn.is_active = true;
            self.active.push_back(key);
        }
        Ok(())
    }

    /// Writes the next packet that is due to `out` (give it at least the largest UDP payload).
    /// Call until it returns `None`.
    pub fn poll_transmit(&mut self, out: &mut [u8], now: Instant) -> Option<Transmit> {
        self.end_run();
        if let Some((reply, path)) = self.replies.pop_front() {
            out.get_mut(..reply.len())?.copy_from_slice(&reply);
            let from = Some(path.local.ip()).filter(|ip| !ip.is_unspecified());
            return Some(Transmit { len: reply.len(), to: path.remote, from, via: path.via });
        }
        while let Some(&key) = self.active.front() {
            if self.conns.get(key).is_some_and(|conn| conn.needs_progress) {
                self.settle(key, now);
            }
            if let Some((transmit, turn)) = self.transmit_on(key, out, now) {
                self.sent_in_turn += 1;
                if self.sent_in_turn >= turn {
                    self.end_turn();
                }
                return Some(transmit);
            }
            self.rest(key, now);
        }
        None
    }

    /// Whether something may wait for [`Endpoint::poll_transmit`].
    #[must_use]
    pub fn may_transmit(&self) -> bool {
        !self.active.is_empty()
    }

    fn end_turn(&mut self) {
        self.sent_in_turn = 0;
        if let Some(key) = self.active.pop_front() {
            self.active.push_back(key);
        }
    }

    /// The next packet of a connection, and how many it may send in its turn.
    fn transmit_on(&mut self, key: Key, out: &mut [u8], now: Instant) -> Option<(Transmit, usize)> {
        let conn = self.conns.get_mut(key)?;
        conn.needs_progress = false;
        let mut turn = TURN;
        let lane = match (conn.stage, conn.peer) {
            (Stage::Ready, Some(peer)) => {
                let link = self.links.get_mut(peer.0 as usize).and_then(Option::as_mut);
                turn = link.as_ref().map_or(TURN, |link| link.turn());
                let lane = link.and_then(|link| link.lane(conn.slot));
                lane.filter(|lane| lane.slot.current.is_some_and(|current| current.key == key))
            }
            _ => None,
        };
        let drops = &self.local.drops;
        let backlogged = lane.as_ref().is_some_and(|lane| lane.backlog.packets() > 0);
        let transmit = conn.transmit(out, now, backlogged, |max| {
            let lane = lane?;
            if lane.slot.is_switching() {
                return lane.backlog.next_piece(max, drops);
            }
            lane.backlog.next(max, now, drops)
        });
        transmit.map(|transmit| (transmit, turn))
    }

    /// Nothing more to send on this connection now: puts it aside until a packet, a timer or
    /// someone who wants to send wakes it.
    fn rest(&mut self, key: Key, now: Instant) {
        self.active.pop_front();
        self.sent_in_turn = 0;
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.is_active = false;
        if conn.quic.is_closed() {
            if self.keeps_unread(key, now) {
                return self.reschedule_conn(key, now);
            }
            self.remove(key, now);
            return;
        }
        self.poll_switch(key, now);
        self.reschedule_conn(key, now);
    }

    /// Lets the slot of this connection move to its successor when its packets have arrived.
    fn poll_switch(&mut self, key: Key, now: Instant) {
        let Some(conn) = self.conns.get(key) else { return };
        let (Some(peer), slot) = (conn.peer, conn.slot) else { return };
        let Some(lane) = self.link(peer).and_then(|link| link.lane(slot)) else { return };
        if !lane.slot.is_switching() {
            return;
        }
        let Some(current) = lane.slot.current else { return };
        let whole = !lane.backlog.is_mid_packet();
        let drained =
            self.conns.get(current.key).is_none_or(crate::conn::Conn::is_drained) && whole;
        self.switch(peer, slot, drained, now);
    }

    pub(super) fn switch(&mut self, peer: PeerId, slot: u8, drained: bool, now: Instant) {
        let Some(lane) = self.link(peer).and_then(|link| link.lane(slot)) else { return };
        lane.slot.poll_switch(drained, now);
        if let (false, Some(current)) = (lane.slot.is_switching(), lane.slot.current) {
            self.activate(current.key);
        }
        self.reschedule_link(peer);
    }

    /// Counts an inner packet that the caller could not send.
    pub fn count_drop(&self, reason: DropReason) {
        self.local.drops.count(reason);
    }
}
