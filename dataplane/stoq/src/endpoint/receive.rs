//! The way in: received UDP payloads to their connections, inner packets out of them.
//!
//! Packets of one connection come in bursts, so what can be done once for many is: finding the
//! connection, and after its packets (of [`RUN_MAX`] at most) taking the DATAGRAMs out, counting
//! what was not opened, and waking it.

use std::time::Instant;

use stoq_buffer::{PacketBuf, Slice};
use stoq_telemetry::DropReason;

use super::Endpoint;
use crate::cid::CID_LEN;
use crate::conn::Stage;
use crate::context::{self, Payload};
use crate::link::Key;
use crate::settings::V4_GAIN;
use crate::{Path, PeerId};

/// Packets of one connection, or DATAGRAMs in them, after which these are taken out: a GRO train,
/// and far below what quiche's queue holds, for it drops what comes beyond.
const RUN_MAX: u32 = 64;

/// What a peer sends to the site.
#[derive(Debug)]
pub enum Inner {
    /// An IP packet, as far as the peer says.
    Packet(PacketBuf),
    /// A part of a super-packet, and the slot that numbers it.
    Slice(u8, Slice),
}

impl Inner {
    /// Its length in bytes, without what only the link needs.
    fn len(&self) -> usize {
        match self {
            Self::Packet(packet) => packet.len(),
            Self::Slice(_, slice) => slice.body.len(),
        }
    }
}

/// A run of packets of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving {
    pub key: Key,
    /// The connection ID that its last packet bore.
    cid: [u8; CID_LEN],
    packets: u32,
    now: Instant,
}

impl Endpoint {
    /// Begins a burst of received packets: renews the budget of handshake work.
    pub fn begin_burst(&mut self) {
        self.handshake_packets_left = self.settings.handshake_packets_per_burst;
    }

    /// Takes a received UDP payload, which is opened in place. Returns the worker to hand it to
    /// when the packet is for a connection, or a slot, that another one owns.
    pub fn receive(&mut self, datagram: &mut [u8], path: Path, now: Instant) -> Option<u8> {
        // What no path to this host carries whole: peers probe up to their MTU and not beyond ours.
        if datagram.len() > usize::from(self.settings.udp_payload_max + V4_GAIN) {
            self.local.drops.count(DropReason::OuterOversized);
            return None;
        }
        let Some(dcid) = crate::cid::route(datagram) else {
            self.local.drops.count(DropReason::OuterMalformed);
            return None;
        };
        let known = match <[u8; CID_LEN]>::try_from(dcid) {
            Ok(cid) => self.find(cid, dcid).map(|key| (key, cid)),
            Err(_) => None,
        };
        match known {
            Some((key, cid)) => {
                self.begin_run(key, cid, now);
                self.receive_on(key, datagram, path, now);
                None
            }
            None => self.receive_stray(datagram, path, now),
        }
    }

    fn find(&self, cid: [u8; CID_LEN], dcid: &[u8]) -> Option<Key> {
        match &self.receiving {
            Some(run) if run.cid == cid => Some(run.key),
            _ => self.by_cid.get(&cid).or_else(|| self.by_initial.get(dcid)).copied(),
        }
    }

    fn begin_run(&mut self, key: Key, cid: [u8; CID_LEN], now: Instant) {
        if let Some(run) = self.receiving.as_mut().filter(|run| run.key == key) {
            run.cid = cid;
            return;
        }
        self.end_run();
        self.receiving = Some(Receiving { key, cid, packets: 0, now });
    }

    pub(super) fn receive_on(&mut self, key: Key, datagram: &mut [u8], path: Path, now: Instant) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let handshake = conn.stage == Stage::Handshake;
        if handshake {
            if self.handshake_packets_left == 0 {
                self.local.drops.count(DropReason::HandshakeBudget);
                return;
            }
            self.handshake_packets_left -= 1;
            // Whether it is opened or a Retry: somebody is there.
            conn.last_received = now;
        }
        conn.receive(datagram, path.remote);
        let is_full = conn.quic.dgram_recv_queue_len() >= RUN_MAX as usize;
        match self.receiving.as_mut().filter(|run| run.key == key) {
            Some(run) => {
                run.packets += 1;
                if handshake || is_full || run.packets >= RUN_MAX {
                    self.end_run();
                }
            }
            None => self.received(key, 1, now),
        }
    }

    /// Does what is left to do for the packets received last.
    pub(super) fn end_run(&mut self) {
        if let Some(run) = self.receiving.take() {
            self.received(run.key, run.packets, run.now);
        }
    }

    fn received(&mut self, key: Key, packets: u32, now: Instant) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let not_opened = conn.received(packets, now);
        if not_opened > 0 {
            self.local.drops.count_many(DropReason::NotOpened, not_opened.into());
        }
        self.take_datagrams(key, now);
        self.activate(key);
    }

    /// Empties the DATAGRAM queue of a connection into `inbound`.
    pub(super) fn take_datagrams(&mut self, key: Key, now: Instant) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(peer) = conn.peer else { return };
        let link = self.links.get_mut(peer.0 as usize).and_then(Option::as_mut);
        let Some(link) = link else { return };
        while let Some(datagram) = conn.next_datagram(now, &self.local.drops) {
            let inner = match context::parse(datagram) {
                Ok(Payload::Packet(packet)) => Ok(Some(Inner::Packet(packet))),
                Ok(Payload::Slice(slice)) => Ok(Some(Inner::Slice(conn.slot, slice))),
                Ok(Payload::Fragment(header, body)) => {
                    let reassembly = conn.reassembly.get_or_insert_default();
                    let whole = reassembly.push(header, body, now);
                    let given_up = reassembly.take_given_up();
                    self.local.drops.count_many(DropReason::FragmentTimeout, given_up);
                    whole
                        .map(|whole| whole.map(Inner::Packet))
                        .map_err(|_| DropReason::FragmentInvalid)
                }
                Err(error) => Err(error.reason()),
            };
            match inner {
                Ok(Some(inner)) => {
                    link.rx_bytes += inner.len() as u64;
                    link.rx_packets += 1;
                    self.inbound.push_back((peer, inner));
                }
                Ok(None) => {}
                Err(reason) => self.local.drops.count(reason),
            }
        }
        link.recovery.add(conn.take_recovery_counts());
    }

    /// What arrived next for the site, and the peer that sent it. Its content is unchecked.
    pub fn poll_inner(&mut self) -> Option<(PeerId, Inner)> {
        self.end_run();
        // Nothing is given up before what waits at the port was read: a late worker must not take the
        // packet that it has not read for lost.
        while let Some((key, now)) = self.overdue.pop() {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.give_up_late(now);
            }
            self.take_datagrams(key, now);
        }
        self.inbound.pop_front()
    }
}
