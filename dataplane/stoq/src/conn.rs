//! One QUIC connection: its handshake, its control stream, and the sealing and opening of packets.
//! It knows its peer but not the link; the endpoint owns it and acts on what it reports.

mod datagrams;
mod path;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoq_buffer::PacketBuf;
use stoq_identity::{Identity, PeerIdentity, Role};
use stoq_telemetry::DropReason;

use crate::blackhole::BlackHole;
use crate::buffers::Buffers;
use crate::control::{ControlError, Decoder, Frame, Hello, Proof};
use crate::endpoint::StreamId;
use crate::ends::Ends;
use crate::fragment::Reassembler;
use crate::governor::Governor;
use crate::mesh::{Incoming, Mesh, Outgoing};
use crate::recovery::Recovery;
use crate::task::Binding;
use crate::{Path, PeerId, Transmit, tls};

/// The control stream: the first bidirectional stream of the dialler.
pub(crate) const CONTROL_STREAM: u64 = 0;

/// Control frames that wait for flow control at most; a peer that does not read is closed.
const OUTBOX_MAX: usize = 64 * 1024;

/// Bytes read from the control stream at a time.
const CONTROL_CHUNK: usize = 4096;

/// How long handshake and HELLO may take together.
pub(crate) const HANDSHAKE_LIFE: Duration = Duration::from_secs(5);

/// UDP payload that every QUIC path carries (RFC 9000 §14).
const PAYLOAD_MIN: usize = 1200;

/// Time that path MTU discovery gets: a binary search of probes that are lost three times each.
const PROBING: Duration = Duration::from_secs(3);

/// Error codes of CONNECTION_CLOSE frames of the application (`docs/protocol.md`, "Closing").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Code {
    /// The node leaves, or the connection is not needed any more.
    Done = 0,
    /// The node is no configured peer, or another one than was dialled.
    PeerUnknown = 1,
    /// The rules of the control stream were broken.
    ControlInvalid = 2,
    /// The other half of a simultaneous dial won, or another attempt did.
    Superseded = 3,
    /// The ALPN is missing.
    NoProtocol = 4,
    /// One end wants proofs of possession, the other does not.
    PolicyMismatch = 5,
    /// The proof of possession, or of the log, does not hold.
    ProofRefused = 6,
    /// The node is revoked.
    Revoked = 7,
}

/// Who started a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This node, for a slot of the link to a peer.
    Dialled { peer: PeerId, slot: u8, replaces: bool },
    /// The other node.
    Accepted,
}

impl Origin {
    /// The slot that it was dialled for; an acceptor learns it from HELLO.
    fn slot(self) -> u8 {
        match self {
            Self::Dialled { slot, .. } => slot,
            Self::Accepted => 0,
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Handshake,
    /// The peer has not proven its keys: nothing else of it is looked at.
    Proof,
    Hello,
    /// The peer has a newer set of revocations: nothing is carried before it is here.
    Behind,
    Ready,
    Closing,
}

/// What a connection reports.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The handshake is complete: both certificates were verified.
    Authenticated,
    /// A control frame arrived.
    Frame(Frame),
}

/// What a connection has of its own node.
pub(crate) struct Own {
    /// Number of the connection since the start.
    pub serial: u64,
    /// The identity of its handshake.
    pub identity: Arc<Identity>,
    /// The policy asks for proofs.
    pub proves: bool,
    /// Silence after which it sends a PING.
    pub keepalive: Duration,
}

pub(crate) struct Conn {
    /// In a box: it is most of a connection, and the table of connections moves them when it grows.
    pub quic: Box<quiche::Connection<Buffers>>,
    pub path: Path,
    pub origin: Origin,
    pub stage: Stage,
    pub peer: Option<PeerId>,
    pub slot: u8,
    pub serial: u64,
    pub identity: Arc<Identity>,
    /// The peer's certificate, verified; from the end of the handshake on.
    pub peer_identity: Option<Arc<PeerIdentity>>,
    /// Its DER, until the connection is ready: proofs are bound to it.
    pub peer_leaf: Arc<[u8]>,
    /// Ours, until it is sent.
    pub own_proof: Option<Proof>,
    /// The peer's, until the connection is ready.
    pub hello: Option<Hello>,
    /// What both ends can do, as they said.
    pub features: u64,
    /// Sequence of the peer's revocation set, as it said.
    pub peer_sequence: Option<u64>,
    pub incoming: Option<Incoming>,
    outgoing: Option<Outgoing>,
    proves: bool,
    proof_read: bool,
    /// In the endpoint's list of connections that may have something to send.
    pub is_active: bool,
    /// Received packets or timers may have moved handshake or control stream on.
    pub needs_progress: bool,
    /// The connection ID that the dialler made up, while the handshake lasts.
    pub initial_dcid: Option<Vec<u8>>,
    /// What quiche found wrong with a received packet, which closed the connection.
    pub fault: Option<quiche::Error>,
    /// How long an answer takes at the most, as far as is known.
    pub probe_timeout: Duration,
    pub timer: Option<Instant>,
    /// When the endpoint looks after it next.
    pub check_at: Instant,
    pub started: Instant,
    /// When this node, as the dialler, said HELLO.
    pub hello_at: Option<Instant>,
    pub last_received: Instant,
    /// Silence after which this end sends a PING.
    pub keepalive: Duration,
    /// When the oldest data was sent that nothing has been received after.
    pub unanswered_since: Option<Instant>,
    /// Datagrams came, and no PING has been sent since they ceased.
    pub may_be_cut_off: bool,
    /// Largest DATAGRAM payload now, context included.
    pub datagram_max: usize,
    /// Reassembles fragmented packets; made when the first fragment comes.
    pub reassembly: Option<Box<Reassembler>>,
    /// Application streams on it.
    pub streams: Vec<StreamId>,
    /// How many of them this node has opened.
    pub streams_opened: u64,
    pub ends: Ends,
    /// It was replaced, and is kept for its streams until then.
    pub retired: Option<Instant>,
    /// It is closed, and kept until then for what its streams have delivered.
    pub unread_until: Option<Instant>,
    black_hole: BlackHole,
    /// When path MTU discovery began, the last time.
    probing_since: Instant,
    decoder: Decoder,
    outbox: Vec<u8>,
    /// What to close with once nothing else is to be sent.
    farewell: Option<(Code, Vec<u8>)>,
    pub governor: Governor,
    /// There if both ends speak it.
    recovery: Option<Box<Recovery>>,
    received: usize,
}

impl Conn {
    pub fn new(
        quic: quiche::Connection<Buffers>,
        path: Path,
        origin: Origin,
        now: Instant,
        own: Own,
    ) -> Self {
        Self {
            quic: Box::new(quic),
            path,
            origin,
            stage: Stage::Handshake,
            peer: None,
            slot: origin.slot(),
            serial: own.serial,
            identity: own.identity,
            peer_identity: None,
            peer_leaf: Arc::default(),
            own_proof: None,
            hello: None,
            features: 0,
            peer_sequence: None,
            incoming: None,
            outgoing: None,
            proves: own.proves,
            proof_read: false,
            is_active: false,
            needs_progress: true,
            initial_dcid: None,
            fault: None,
            probe_timeout: Duration::from_millis(300),
            timer: None,
            check_at: now,
            started: now,
            hello_at: None,
            last_received: now,
            keepalive: own.keepalive,
            unanswered_since: None,
            may_be_cut_off: false,
            datagram_max: 0,
            reassembly: None,
            streams: Vec::new(),
            streams_opened: 0,
            ends: Ends::default(),
            retired: None,
            unread_until: None,
            black_hole: BlackHole::default(),
            probing_since: now,
            decoder: if own.proves { Decoder::proving() } else { Decoder::default() },
            outbox: Vec::new(),
            farewell: None,
            governor: Governor::default(),
            recovery: None,
            received: 0,
        }
    }

    pub fn dialled_here(&self) -> bool {
        matches!(self.origin, Origin::Dialled { .. })
    }

    /// Whether this is an unfinished attempt of ours to connect the slot.
    pub fn is_attempt(&self, peer: PeerId, slot: u8) -> bool {
        let same = matches!(self.origin,
            Origin::Dialled { peer: p, slot: s, .. } if p == peer && s == slot);
        same && self.is_unfinished()
    }

    /// Whether it is being made.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.stage, Stage::Handshake | Stage::Proof | Stage::Hello | Stage::Behind)
    }

    /// What the proofs of both ends are bound to; none before the handshake is complete.
    pub fn binding(&mut self) -> Option<Binding> {
        let own = self.identity.chain().first().map(|leaf| tls::fingerprint(leaf))?;
        let role = if self.dialled_here() { Role::Client } else { Role::Server };
        let exporter = tls::exporter((*self.quic).as_mut()).ok()?;
        Some(Binding { role, exporter, own, peer: tls::fingerprint(&self.peer_leaf) })
    }

    /// Sends the set of revocations to a peer whose own is older, once for each set.
    pub fn offer(&mut self, mesh: &Mesh) {
        let has_less = self.peer_sequence.is_some_and(|theirs| theirs < mesh.sequence);
        let sent = self.outgoing.as_ref().is_some_and(|sent| sent.sequence >= mesh.sequence);
        if has_less && !sent && !mesh.set.is_empty() {
            self.outgoing = Some(Outgoing::new(mesh));
            self.flush_outbox();
        }
    }

    /// Opens a packet in place. Errors close the connection inside quiche. Afterwards, or after
    /// several packets, tell [`Conn::received`].
    pub fn receive(&mut self, packet: &mut [u8], from: SocketAddr) {
        let info = quiche::RecvInfo { from, to: self.path.local };
        if let Err(error) = self.quic.recv(packet, info) {
            self.fault.get_or_insert(error);
        }
    }

    /// Takes note that so many datagrams were received. Returns how many of them held nothing for
    /// this connection.
    pub fn received(&mut self, datagrams: u32, now: Instant) -> u32 {
        let total = self.quic.stats().recv;
        let before = std::mem::replace(&mut self.received, total);
        // A datagram of a handshake may hold several packets.
        let opened = u32::try_from(total.saturating_sub(before)).unwrap_or(u32::MAX).min(datagrams);
        // Only what was opened counts: garbage must not make a dead path look alive.
        if opened > 0 {
            self.last_received = now;
            self.unanswered_since = None;
        }
        // A closed connection opens nothing any more, which is in order.
        if self.stage == Stage::Closing { 0 } else { datagrams - opened }
    }

    /// Moves handshake and control stream on; call until it returns `None`.
    ///
    /// # Errors
    /// With the reason to count, after which the connection is closing.
    pub fn progress(&mut self) -> Result<Option<Progress>, (DropReason, String)> {
        match self.stage {
            Stage::Handshake if self.quic.is_established() => {
                self.stage = if self.proves { Stage::Proof } else { Stage::Hello };
                self.authenticated().map(Some)
            }
            // A dialler has the first word; and behind a proof nothing is read before it was verified.
            Stage::Proof if self.proof_read || self.dialled_here() && self.hello_at.is_none() => {
                Ok(None)
            }
            Stage::Proof => {
                let frame = self.next_frame()?;
                self.proof_read = frame.is_some();
                Ok(frame.map(Progress::Frame))
            }
            Stage::Hello | Stage::Behind | Stage::Ready => {
                self.next_frame().map(|f| f.map(Progress::Frame))
            }
            Stage::Handshake | Stage::Closing => Ok(None),
        }
    }

    fn authenticated(&mut self) -> Result<Progress, (DropReason, String)> {
        if self.quic.application_proto() != tls::ALPN {
            let why = "expected ALPN stoq/1";
            self.close(Code::NoProtocol, why.as_bytes());
            return Err((DropReason::HandshakeFailed, why.to_owned()));
        }
        Ok(Progress::Authenticated)
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, (DropReason, String)> {
        let mut chunk = [0; CONTROL_CHUNK];
        loop {
            if let Some(frame) = self.decoder.next().map_err(|error| self.broken(&error))? {
                return Ok(Some(frame));
            }
            match self.quic.stream_recv(CONTROL_STREAM, &mut chunk) {
                Ok((len, _)) if len > 0 => {
                    self.decoder.push(&chunk[..len]).map_err(|error| self.broken(&error))?;
                }
                _ => return Ok(None),
            }
        }
    }

    fn broken(&mut self, error: &ControlError) -> (DropReason, String) {
        let (code, reason) = match error {
            ControlError::ProofMissing { .. } | ControlError::ProofUnexpected => {
                (Code::PolicyMismatch, DropReason::PolicyMismatch)
            }
            _ => (Code::ControlInvalid, DropReason::ControlInvalid),
        };
        let why = error.to_string();
        self.close(code, why.as_bytes());
        (reason, why)
    }

    /// Queues a control frame.
    pub fn send_frame(&mut self, frame: &Frame) {
        frame.encode(&mut self.outbox);
        self.flush_outbox();
        if self.outbox.len() > OUTBOX_MAX {
            self.close(Code::ControlInvalid, b"control stream is not read");
        }
    }

    fn flush_outbox(&mut self) {
        // Ends: a set has at most REVOCATIONS_MAX bytes, and each round sends some or stops.
        loop {
            if self.outbox.is_empty()
                && let Some(chunk) = self.outgoing.as_mut().and_then(Outgoing::next)
            {
                Frame::Revocations(chunk).encode(&mut self.outbox);
            }
            if self.outbox.is_empty() {
                return;
            }
            let sent = self.quic.stream_send(CONTROL_STREAM, &self.outbox, false);
            self.outbox.drain(..sent.unwrap_or(0));
            if !self.outbox.is_empty() {
                return;
            }
        }
    }

    /// Writes the next packet that is due to `out`. `next` gives the next DATAGRAM payload of at
    /// most so many bytes; it is asked only when the last one has left, so that packets wait in the
    /// fair queue and not in quiche. `backlogged` says whether it has one.
    pub fn transmit(
        &mut self,
        out: &mut [u8],
        now: Instant,
        backlogged: bool,
        next: impl FnOnce(usize) -> Option<PacketBuf>,
    ) -> Option<Transmit> {
        self.flush_outbox();
        let ends = self.ends.say(&mut self.quic);
        let mut waiting = self.quic.dgram_send_queue_len();
        let mut held = false;
        if waiting == 0 && !ends {
            let payload = self.next_payload(now, next);
            held = payload.is_none();
            let queued = payload.map(|payload| self.quic.dgram_send_buf(payload));
            waiting = usize::from(queued.is_some_and(|queued| queued.is_ok()));
        }
        let (len, info) = match self.send_or_close(out) {
            Ok(sent) => sent,
            Err(quiche::Error::Done) => {
                self.governor.rest(waiting > 0 || backlogged && held, now);
                return None;
            }
            Err(_) => {
                self.stage = Stage::Closing;
                let _already = self.quic.close(true, Code::ControlInvalid as u64, b"");
                return None;
            }
        };
        if waiting > self.quic.dgram_send_queue_len() {
            self.governor.sent(len);
            self.unanswered_since.get_or_insert(now);
        }
        let from = Some(info.from.ip()).filter(|ip| !ip.is_unspecified());
        Some(Transmit { len, to: info.to, from, via: self.path.via })
    }

    /// The next packet; the one that closes comes when quiche has nothing else. While a probe for the
    /// Handshake space is due, a quiche that is closed by the application sends acknowledgements in
    /// that space without end, and never the packet that closes.
    fn send_or_close(&mut self, out: &mut [u8]) -> quiche::Result<(usize, quiche::SendInfo)> {
        let sent = self.quic.send(out);
        if sent != Err(quiche::Error::Done) {
            return sent;
        }
        let Some((code, reason)) = self.farewell.take() else { return sent };
        // Closing twice is no error worth a word.
        let _already = self.quic.close(true, code as u64, &reason);
        self.quic.send(out)
    }

    /// Starts to close with an application error code: what waits is sent before.
    pub fn close(&mut self, code: Code, reason: &[u8]) {
        self.stage = Stage::Closing;
        self.farewell.get_or_insert_with(|| (code, reason.to_vec()));
    }
}
