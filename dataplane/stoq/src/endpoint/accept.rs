//! Packets that belong to no connection: new handshakes, and what is answered or dropped.

use std::sync::Arc;
use std::time::Instant;

use stoq_telemetry::DropReason;

use super::prove::proves;
use super::{Endpoint, REPLIES_MAX};
use crate::Path;
use crate::buffers::Buffers;
use crate::cid::{self, CID_LEN, Cid, CidInfo, RESET_LEN};
use crate::conn::{Conn, Origin, Own, Stage};
use crate::link::Key;
use crate::random;
use crate::settings::{INITIAL_RTT, V4_GAIN};
use crate::tls;

/// Least UDP payload with a client's Initial packet (RFC 9000 §14.1).
const INITIAL_MIN: usize = 1200;

/// By which part of it the keepalives of connections differ.
const KEEPALIVE_SPREAD: f32 = 0.25;

/// Draws of a connection ID before giving up: each collides with a chance below 2^-18 while the
/// table is full.
const DRAWS_MAX: usize = 8;

impl Endpoint {
    /// Takes a packet whose connection ID is in no table. Returns the worker it belongs to.
    pub(super) fn receive_stray(
        &mut self,
        datagram: &mut [u8],
        path: Path,
        now: Instant,
    ) -> Option<u8> {
        let long = datagram.first().is_some_and(|first| first & 0x80 != 0);
        let verdict = if long {
            self.receive_long(datagram, path, now)
        } else {
            self.receive_short(datagram, path, now)
        };
        match verdict {
            Ok(hand_over) => hand_over,
            Err(reason) => {
                self.local.drops.count(reason);
                None
            }
        }
    }

    fn receive_short(
        &mut self,
        datagram: &[u8],
        path: Path,
        now: Instant,
    ) -> Result<Option<u8>, DropReason> {
        let dcid = crate::cid::route(datagram).ok_or(DropReason::OuterMalformed)?;
        let cid = self.local.cid_keys.parse(dcid).map_err(|_| DropReason::CidForged)?;
        let old = match self.local.cid_keys.check(dcid, self.local.generation) {
            Ok(CidInfo::Current { worker }) if worker != self.local.worker => {
                return Ok(Some(worker));
            }
            Ok(CidInfo::Current { .. }) => DropReason::CidUnknown,
            _ => DropReason::CidOldGeneration,
        };
        if datagram.len() > RESET_LEN && self.stray_budget.take(now) {
            self.send_reset(&cid, path);
        }
        Err(old)
    }

    /// A stateless reset (RFC 9000 §10.3): random bytes that end with the token of the ID.
    fn send_reset(&mut self, cid: &Cid, path: Path) {
        let Some(token) = self.local.cid_keys.reset_token(cid) else { return };
        let Ok(mut packet) = random::bytes::<RESET_LEN>() else { return };
        packet[0] = packet[0] & 0x3f | 0x40;
        packet[RESET_LEN - token.len()..].copy_from_slice(&token);
        self.reply(packet.to_vec(), path);
    }

    fn reply(&mut self, packet: Vec<u8>, path: Path) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back((packet, path));
        }
    }

    fn receive_long(
        &mut self,
        datagram: &mut [u8],
        path: Path,
        now: Instant,
    ) -> Result<Option<u8>, DropReason> {
        let header = quiche::Header::from_slice(datagram, CID_LEN)
            .map_err(|_| DropReason::OuterMalformed)?;
        if let Some(worker) = self.other_worker(&header.dcid) {
            // The answer to a handshake that another worker began, or goes on with.
            return Ok(Some(worker));
        }
        if datagram.len() < INITIAL_MIN {
            return Err(DropReason::OuterMalformed);
        }
        if !quiche::version_is_supported(header.version) {
            self.negotiate_version(&header, path, now);
            return Err(DropReason::VersionUnknown);
        }
        if header.ty != quiche::Type::Initial {
            return Err(DropReason::CidUnknown);
        }
        let dcid: [u8; CID_LEN] =
            header.dcid.as_ref().try_into().map_err(|_| DropReason::OuterMalformed)?;
        if !cid::is_made_up(&dcid) {
            // A late packet of a handshake that this node gave up: the other side's answer, or its
            // repetition. No keys would open it, and each would begin a handshake that fails.
            return Err(DropReason::CidUnknown);
        }
        let owner = dcid[1] % self.local.workers.max(1);
        if owner != self.local.worker {
            return Ok(Some(owner));
        }
        self.admit_handshake()?;
        match self.validate_address(&header, path, now)? {
            Validation::Retry => {}
            Validation::Accept { odcid } => {
                let key = self.accept(&header, odcid.as_deref(), path, now)?;
                self.receive_on(key, datagram, path, now);
            }
        }
        Ok(None)
    }

    /// The other worker that has issued a connection ID in this run, if one has.
    fn other_worker(&self, dcid: &[u8]) -> Option<u8> {
        match self.local.cid_keys.check(dcid, self.local.generation) {
            Ok(CidInfo::Current { worker }) if worker != self.local.worker => Some(worker),
            _ => None,
        }
    }

    fn admit_handshake(&self) -> Result<(), DropReason> {
        let closed = self.draining.is_some() || !self.role.makes_connections();
        if closed || self.conns.len() >= self.settings.connections_max {
            return Err(DropReason::ConnectionLimit);
        }
        // Half of the work is kept for handshakes under way: one of which every second packet was dropped
        // would have cost much and come to nothing, while a first packet cost nothing yet.
        if self.handshake_packets_left <= self.settings.handshake_packets_per_burst / 2 {
            return Err(DropReason::HandshakeBudget);
        }
        Ok(())
    }

    fn negotiate_version(&mut self, header: &quiche::Header<'_>, path: Path, now: Instant) {
        let mut packet = vec![0; INITIAL_MIN];
        if !self.stray_budget.take(now) {
            return;
        }
        if let Ok(len) = quiche::negotiate_version(&header.scid, &header.dcid, &mut packet) {
            packet.truncate(len);
            self.reply(packet, path);
        }
    }

    /// Under load a client must show that it receives at its address before anything is kept.
    fn validate_address(
        &mut self,
        header: &quiche::Header<'_>,
        path: Path,
        now: Instant,
    ) -> Result<Validation, DropReason> {
        let token = header.token.as_deref().unwrap_or_default();
        if !token.is_empty() {
            let odcid = self.tokens.check(path.remote, token, now);
            let odcid = odcid.map_err(|_| DropReason::RetryInvalid)?.to_vec();
            return Ok(Validation::Accept { odcid: Some(odcid) });
        }
        let handshakes = self.by_initial.len();
        if handshakes < self.settings.retry_above {
            return Ok(Validation::Accept { odcid: None });
        }
        if !self.retry_budget.take(now) {
            return Err(DropReason::HandshakeBudget);
        }
        // The client repeats this ID: it must lead to this worker again.
        let random = random::bytes().map_err(|_| DropReason::HandshakeFailed)?;
        let scid = cid::initial_dcid(header.dcid[1], random);
        let token = self.tokens.issue(path.remote, &header.dcid, now);
        let token = token.map_err(|_| DropReason::HandshakeFailed)?;
        let mut packet = vec![0; INITIAL_MIN];
        let scid = quiche::ConnectionId::from_ref(&scid);
        let (client, odcid) = (&header.scid, &header.dcid);
        let len = quiche::retry(client, odcid, &scid, &token, header.version, &mut packet)
            .map_err(|_| DropReason::HandshakeFailed)?;
        packet.truncate(len);
        self.reply(packet, path);
        self.retries_sent += 1;
        Ok(Validation::Retry)
    }

    fn accept(
        &mut self,
        header: &quiche::Header<'_>,
        odcid: Option<&[u8]>,
        path: Path,
        now: Instant,
    ) -> Result<Key, DropReason> {
        let cid = self.new_cid().ok_or(DropReason::ConnectionLimit)?;
        self.prepare_config(Some(&cid), path.remote.is_ipv4());
        let scid = quiche::ConnectionId::from_ref(cid.as_bytes());
        let odcid = odcid.map(quiche::ConnectionId::from_ref);
        let quic = match &odcid {
            Some(odcid) => {
                let cids = quiche::RetryConnectionIds {
                    original_destination_cid: odcid,
                    retry_source_cid: &header.dcid,
                };
                quiche::accept_with_retry(&scid, cids, path.local, path.remote, &mut self.quic)
            }
            None => quiche::accept_with_buf_factory(
                &scid,
                None,
                path.local,
                path.remote,
                &mut self.quic,
            ),
        };
        let quic = quic.map_err(|_| DropReason::HandshakeFailed)?;
        let mut conn = self.new_conn(quic, path, Origin::Accepted, now);
        debug_assert_eq!(conn.stage, Stage::Handshake);
        conn.initial_dcid = Some(header.dcid.to_vec());
        let key = self.conns.insert(conn);
        self.by_cid.insert(*cid.as_bytes(), key);
        self.by_initial.insert(header.dcid.to_vec(), key);
        Ok(key)
    }

    pub(super) fn new_conn(
        &mut self,
        quic: quiche::Connection<Buffers>,
        path: Path,
        origin: Origin,
        now: Instant,
    ) -> Conn {
        self.serial += 1;
        let proves = proves(self.credentials.policy);
        let identity = Arc::clone(&self.credentials.identity);
        // Each a little earlier than the longest: links that were made, or heard of something, at the same
        // time must not ask at the same time ever after.
        let keepalive = self.settings.keepalive.mul_f32(1.0 - KEEPALIVE_SPREAD * fastrand::f32());
        let serial = self.serial;
        Conn::new(quic, path, origin, now, Own { serial, identity, proves, keepalive })
    }

    /// A connection ID that is in no table yet.
    pub(super) fn new_cid(&self) -> Option<Cid> {
        for _ in 0..DRAWS_MAX {
            let nonce = u32::from_be_bytes(random::bytes().ok()?);
            let cid = self.local.cid_keys.issue(self.local.worker, self.local.generation, nonce);
            if !self.by_cid.contains_key(cid.as_bytes()) {
                return Some(cid);
            }
        }
        None
    }

    /// Sets what differs between connections: the reset token of an acceptor's ID, how large a
    /// packet may become, and what is known of the path, which is nothing yet.
    pub(super) fn prepare_config(&mut self, accepted: Option<&Cid>, ipv4: bool) {
        let token = accepted.and_then(|cid| self.local.cid_keys.reset_token(cid));
        self.quic.set_stateless_reset_token(token.map(u128::from_be_bytes));
        let gain = if ipv4 { V4_GAIN } else { 0 };
        let max = self.settings.udp_payload_max + gain;
        self.quic.set_max_send_udp_payload_size(usize::from(max));
        self.quic.set_initial_congestion_window_packets(self.settings.initial_window_packets);
        self.quic.set_initial_rtt(INITIAL_RTT);
        tls::set_stream_window(&mut self.quic, self.widest);
    }
}

enum Validation {
    /// A Retry was sent; nothing is kept.
    Retry,
    /// Go on; after a Retry with the first ID that the client had made up.
    Accept { odcid: Option<Vec<u8>> },
}
