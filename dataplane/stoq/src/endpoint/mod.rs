//! All that one worker knows of STOQ: its connections, found by connection ID, and its share of
//! every link. The worker feeds it datagrams and time, and empties what it wants to say.
//!
//! | to the endpoint | from the endpoint |
//! |---|---|
//! | [`Endpoint::begin_burst`], [`Endpoint::receive`] | [`Endpoint::poll_inner`] |
//! | [`Endpoint::enqueue`], [`Endpoint::enqueue_slice`] | [`Endpoint::poll_transmit`] |
//! | [`Endpoint::handle_timeout`] | [`Endpoint::poll_timeout`], [`Endpoint::poll_event`] |
//! | [`Endpoint::done`], [`Endpoint::set_mesh`] | [`Endpoint::poll_task`] |
//! | [`Endpoint::set_profile`], [`Endpoint::tell_tier`] | [`Endpoint::take_samples`] |
//! | [`Endpoint::open_stream`], [`Endpoint::stream_send`] | [`Endpoint::poll_stream`], [`Endpoint::stream_recv`] |

mod accept;
mod handover;
mod lane;
mod maintain;
mod mesh;
mod peers;
mod prove;
mod receive;
mod status;
mod streams;
mod tier;
mod transmit;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use stoq_identity::NodeId;
use stoq_telemetry::Drops;

use self::handover::Role;
use self::lane::Link;
pub use self::receive::Inner;
use self::receive::Receiving;
pub use self::status::{LinkState, LinkStatus};
use self::streams::Streams;
pub use self::streams::{OpenError, STREAMS_MAX, STREAMS_PER_PEER, StreamEvent, StreamId};
pub use self::tier::LinkSample;
pub use self::transmit::{ALWAYS_PASSES, Slicing, Undelivered};
use crate::admission::{Budget, RetryTokens};
use crate::cid::{CID_LEN, CidKeys};
use crate::conn::Conn;
use crate::control::BootId;
use crate::link::Key;
use crate::mesh::Mesh;
use crate::random;
use crate::settings::Settings;
use crate::task::Task;
use crate::tls::{self, Credentials, Refusal, TlsError};
use crate::{Path, PeerId};

/// Events that wait for the worker at most; it takes them after every burst.
const EVENTS_MAX: usize = 1024;

/// Answers to packets of no connection (Retry, version negotiation, stateless reset) that wait for
/// transmission at most; more are not worth the work.
const REPLIES_MAX: usize = 64;

/// Stateless resets and version negotiations: at once, and for each second.
const STRAY_BURST: u32 = 32;
const STRAY_PER_SECOND: u32 = 256;

/// Retry packets at once and for each second: one costs some 10 µs, so a flood of first packets takes a
/// few hundredths of a core and no more. Whoever gets none repeats its packet.
const RETRY_BURST: u32 = 512;
const RETRY_PER_SECOND: u32 = 4096;

/// What an endpoint is, for the life of the process.
pub struct Local {
    /// Our name in our mesh.
    pub node: NodeId,
    /// This run of the process.
    pub boot: BootId,
    /// Index of the worker that owns this endpoint.
    pub worker: u8,
    /// Number of workers of this node, at least one.
    pub workers: u8,
    /// This run's number in connection IDs.
    pub generation: u16,
    /// Keys of connection IDs and stateless resets, shared by all workers.
    pub cid_keys: CidKeys,
    /// Largest packet that the tunnel device takes, told to peers.
    pub tunnel_mtu: u16,
    /// What this node can do beyond the least, told to peers: bits of [`crate::control::feature`].
    pub features: u64,
    /// Where drops are counted.
    pub drops: Arc<Drops>,
}

/// A peer from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number for the life of the process.
    pub id: PeerId,
    /// Its name in the mesh, which its certificate must bear.
    pub name: String,
    /// Where it can be dialled; empty for a peer that only dials us.
    pub endpoints: Vec<SocketAddr>,
    /// Fingerprint of the keys that its certificate must have, if its member record names them.
    pub keys: Option<[u8; 32]>,
}

/// What the worker may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first connection to the peer carries traffic.
    Up {
        /// The peer.
        peer: PeerId,
        /// Its address.
        endpoint: SocketAddr,
    },
    /// The last connection to the peer is gone.
    Down {
        /// The peer.
        peer: PeerId,
    },
    /// The peer's certificate has expired, and is taken all the same: [`Verifier::outlive`].
    ///
    /// [`Verifier::outlive`]: stoq_identity::Verifier::outlive
    Outlived {
        /// The peer.
        peer: PeerId,
        /// For how long.
        expired_for: Duration,
    },
    /// A handshake was refused.
    Refused {
        /// The other side.
        remote: SocketAddr,
        /// Why, for the log.
        why: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Conn(Key),
    Link(PeerId),
}

/// STOQ for one worker.
pub struct Endpoint {
    local: Local,
    settings: Settings,
    credentials: Credentials,
    quic: quiche::Config,
    refusal: Refusal,
    conns: Slab<Conn>,
    by_cid: HashMap<[u8; CID_LEN], Key>,
    /// Handshakes by the connection ID that their dialler made up.
    by_initial: HashMap<Vec<u8>, Key>,
    links: Vec<Option<Link>>,
    names: HashMap<String, PeerId>,
    active: VecDeque<Key>,
    sent_in_turn: usize,
    timers: BTreeSet<(Instant, Timer)>,
    replies: VecDeque<(Vec<u8>, Path)>,
    /// The connection whose packets are being received.
    receiving: Option<Receiving>,
    inbound: VecDeque<(PeerId, Inner)>,
    /// Connections whose timer has expired, and when, since packets were asked for last.
    overdue: Vec<(Key, Instant)>,
    events: VecDeque<Event>,
    /// At most two for each connection that is being made, and a few about the mesh.
    tasks: VecDeque<Task>,
    mesh: Arc<Mesh>,
    /// Connections made since the start.
    serial: u64,
    streams: Streams,
    tokens: RetryTokens,
    stray_budget: Budget,
    retry_budget: Budget,
    handshake_packets_left: u32,
    retries_sent: u64,
    draining: Option<Instant>,
    role: Role,
    /// The widest stream window that a link has asked for: an acceptor does not know yet whose
    /// connection it makes.
    widest: u32,
    /// When samples were taken last.
    sampled: Instant,
}

impl Endpoint {
    /// An endpoint without peers.
    ///
    /// # Errors
    /// When TLS refuses our certificate or the settings.
    pub fn new(
        local: Local,
        settings: Settings,
        credentials: Credentials,
        now: Instant,
    ) -> Result<Self, TlsError> {
        let refusal = Refusal::default();
        let quic = tls::configure(&credentials, &settings, &refusal)?;
        let retry_key = random::bytes()?;
        Ok(Self {
            handshake_packets_left: settings.handshake_packets_per_burst,
            local,
            settings,
            credentials,
            quic,
            refusal,
            conns: Slab::new(),
            by_cid: HashMap::new(),
            by_initial: HashMap::new(),
            links: Vec::new(),
            names: HashMap::new(),
            active: VecDeque::new(),
            sent_in_turn: 0,
            timers: BTreeSet::new(),
            replies: VecDeque::new(),
            receiving: None,
            inbound: VecDeque::new(),
            overdue: Vec::new(),
            events: VecDeque::new(),
            tasks: VecDeque::new(),
            mesh: Arc::default(),
            serial: 0,
            streams: Streams::default(),
            tokens: RetryTokens::new(retry_key, now),
            stray_budget: Budget::new(STRAY_BURST, STRAY_PER_SECOND, now),
            retry_budget: Budget::new(RETRY_BURST, RETRY_PER_SECOND, now),
            retries_sent: 0,
            draining: None,
            role: Role::Serving,
            widest: tls::STREAM_WINDOW_MAX,
            sampled: now,
        })
    }

    /// What happened to links and handshakes.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }

    fn activate(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.needs_progress = true;
        if !conn.is_active {
            conn.is_active = true;
            self.active.push_back(key);
        }
    }

    fn link(&mut self, peer: PeerId) -> Option<&mut Link> {
        self.links.get_mut(peer.0 as usize)?.as_mut()
    }
}
