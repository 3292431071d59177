//! A worker: one pinned thread that owns its sockets, its connections, its queue of the tunnel
//! device and its buffers, and runs every packet to completion.
//!
//! ```text
//!            ┌──────────────────────── one turn ────────────────────────┐
//!   port ──▶ receive ──▶ endpoint ──▶ source check ──▶ coalescer ──▶ TUN queue
//!   port ◀── transmit ◀── endpoint ◀── segments ◀── forwarding table ◀── TUN queue
//! ```
//!
//! It shares nothing on that path: no lock, and in the steady state no allocation but quiche's own
//! (one for each datagram received, and those of its books about packets in flight). Commands come
//! over a bounded channel, packets for its connections that reached another worker over a bounded
//! ring; both wake it by an eventfd. It sleeps in its port when nothing is left to do.

mod command;
mod desk;
mod handover;
mod inbound;
mod meters;
mod outbound;
mod stages;
mod streams;
mod tap;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoq::PeerId;
use stoq::admission::Budget;
use stoq::settings::Settings;
use stoq::tls::Credentials;
use stoq::{Endpoint, Local};
use stoq_identity::NodeId;
use stoq_port::xdp::NextHops;
use stoq_port::{Port, PortKind, PortOptions, Socket};
use stoq_telemetry::Drops;
use stoq_tunnel::assemble::Assembler;
use stoq_tunnel::coalesce::Coalescer;
use stoq_tunnel::device::{Offloads, Queue, SuperBuf};
use stoq_tunnel::forward::Forwarder;
use stoq_tunnel::icmp::Answerer;
use stoq_tunnel::packet::FlowHasher;

pub use self::command::{Command, Handle, Inbox, Peering, Report, Stray, Tuned, mailboxes};
pub use self::desk::{Desk, Errand, MESH_QUEUE, PROOFS_MAX};
use self::handover::Reading;
pub use self::handover::Step;
pub use self::meters::Meters;
use self::outbound::OwnAddresses;
pub use self::outbound::enqueue_slices;
use self::stages::Stages;
pub use self::stages::{Stage, StageFigures};
use self::streams::Streams;
pub use self::streams::{Offer, StreamRefused, Users, Wanted};
pub use self::tap::{Copied, Point, Tap};

/// Longest sleep: how old a heartbeat may become on an idle worker.
const NAP: Duration = Duration::from_millis(500);

/// Packets sent in one turn at most until the tiers of links say otherwise, so that receiving is never
/// kept waiting longer than some 200 µs.
const TRANSMIT_BURST: usize = 256;

/// Refused handshakes that are logged, at once and for each second; all are counted.
const REFUSALS_LOGGED: u32 = 20;
const REFUSALS_LOGGED_PER_S: u32 = 1;

const DEVICE: stoq_port::WatchToken = 0;
const INBOX: stoq_port::WatchToken = 1;
const STREAMS: stoq_port::WatchToken = 2;

/// What a worker is made of; gathered by the daemon before its thread starts.
pub struct Setup {
    /// Who we are, for the endpoint.
    pub local: Local,
    /// Limits and timers of the endpoint.
    pub settings: Settings,
    /// Certificate and verifier.
    pub credentials: Credentials,
    /// The kind of port on its sockets.
    pub port: PortKind,
    /// With next hops, packets go past the kernel on top of that port.
    pub hops: Option<Arc<NextHops>>,
    /// What it may use.
    pub port_options: PortOptions,
    /// Bound sockets.
    pub sockets: Vec<(Socket, OwnedFd)>,
    /// Its queue of the tunnel device, with the granted offloads.
    pub device: Option<(OwnedFd, Offloads)>,
    /// Whether the device is read from the start; otherwise from [`Step::Serve`] on.
    pub reads: bool,
    /// Whether received packets are joined before they are written to it.
    pub joins: bool,
    /// Our addresses in the tunnel: the senders of ICMP errors.
    pub addresses: Vec<IpAddr>,
    /// The core to be pinned to.
    pub core: Option<usize>,
    /// Secret of the flow hash.
    pub flow_secret: [u8; 16],
    /// Commands and stray packets.
    pub inbox: Inbox,
    /// Where work goes that takes too long for a worker.
    pub desk: Desk,
}

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The port cannot be opened.
    #[error(transparent)]
    Port(#[from] stoq_port::PortError),
    /// TLS refuses our identity.
    #[error(transparent)]
    Tls(#[from] stoq::tls::TlsError),
    /// Port or device failed while running.
    #[error("the {part} failed: {source}; stoqd must be restarted")]
    Io {
        /// Which one.
        part: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The core does not exist or is not allowed.
    #[error("expected to run on core {core}, which the kernel refused; see `cores` in [transport]")]
    Core {
        /// The core.
        core: usize,
    },
}

fn failed(part: &'static str) -> impl Fn(std::io::Error) -> WorkerError {
    move |source| WorkerError::Io { part, source }
}

/// The tunnel device as one worker has it.
struct Device {
    queue: Queue,
    buffer: Box<SuperBuf>,
    coalescer: Coalescer,
    assembler: Assembler,
}

impl Device {
    fn new(fd: OwnedFd, granted: Offloads, joins: bool) -> Self {
        Self {
            queue: Queue::from_fd(fd, granted),
            buffer: Box::default(),
            coalescer: Coalescer::new(if joins { granted } else { Offloads::NONE }),
            assembler: Assembler::default(),
        }
    }
}

/// A running worker.
pub struct Worker {
    node: NodeId,
    endpoint: Endpoint,
    desk: Desk,
    port: Box<dyn Port>,
    device: Option<Device>,
    peering: Arc<Peering>,
    forwarder: Forwarder<PeerId>,
    hasher: FlowHasher,
    icmp: Answerer,
    addresses: OwnAddresses,
    drops: Arc<Drops>,
    inbox: Inbox,
    tap: Option<Tap>,
    streams: Streams,
    stages: Stages,
    core: Option<usize>,
    /// Refused handshakes that may still be logged: strangers must not fill the log.
    log_budget: Budget,
    /// Super-packets read from the device in one turn.
    read_burst: usize,
    /// Packets sent in one turn.
    transmit_burst: usize,
    /// The port had no room for the last packet.
    blocked: bool,
    /// Who reads the device.
    reading: Reading,
    /// Taking leave: ends once all peers were told.
    stopping: bool,
}

impl Worker {
    /// Opens the port and pins the calling thread.
    ///
    /// # Errors
    /// When the port, TLS or the core is refused.
    pub fn new(setup: Setup) -> Result<Self, WorkerError> {
        if let Some(core) = setup.core
            && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
        {
            return Err(WorkerError::Core { core });
        }
        let drops = Arc::clone(&setup.local.drops);
        let (sockets, options) = (setup.sockets, &setup.port_options);
        let port = match setup.hops {
            None => stoq_port::open(setup.port, sockets, options, Arc::clone(&drops))?,
            Some(hops) => {
                stoq_port::open_xdp(setup.port, sockets, options, hops, Arc::clone(&drops))?
            }
        };
        let now = Instant::now();
        let node = setup.local.node.clone();
        let endpoint = Endpoint::new(setup.local, setup.settings, setup.credentials, now)?;
        let device = setup.device.map(|(fd, granted)| Device::new(fd, granted, setup.joins));
        let mut worker = Self {
            node,
            endpoint,
            desk: setup.desk,
            port,
            device,
            peering: Arc::default(),
            hasher: FlowHasher::new(&setup.flow_secret),
            forwarder: Forwarder::new(Arc::default()),
            icmp: Answerer::new(now),
            addresses: OwnAddresses::new(&setup.addresses),
            drops,
            inbox: setup.inbox,
            tap: None,
            streams: Streams::new().map_err(failed("watch on streams"))?,
            stages: Stages::new(now),
            core: setup.core,
            log_budget: Budget::new(REFUSALS_LOGGED, REFUSALS_LOGGED_PER_S, now),
            read_burst: outbound::READ_BURST,
            transmit_burst: TRANSMIT_BURST,
            blocked: false,
            reading: Reading::Other,
            stopping: false,
        };
        if setup.reads {
            worker.read_from_now_on()?;
        }
        worker.watch()?;
        Ok(worker)
    }

    fn watch(&mut self) -> Result<(), WorkerError> {
        self.port.watch(self.streams.as_fd(), STREAMS).map_err(failed("port"))?;
        self.port.watch(self.inbox.wake.as_fd(), INBOX).map_err(failed("port"))
    }

    /// Carries packets until it is told to stop.
    ///
    /// # Errors
    /// When port or device fail for good.
    pub fn run(mut self) -> Result<(), WorkerError> {
        self.take_commands();
        loop {
            let now = Instant::now();
            if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
                self.endpoint.handle_timeout(now);
            }
            if self.inbox.has_mail() {
                self.take_commands();
            }
            self.stages.begin();
            let received = self.receive(now)?;
            let read = self.read_device(now)?;
            let sent = self.transmit(now)?;
            let moved = self.carry_streams(now);
            self.inbox.meters.turn(received, sent);
            self.report_events();
            self.hand_out_tasks();
            self.answer_when_settled(now);
            if self.stopping && self.endpoint.is_drained() {
                return Ok(());
            }
            let idle = received == 0 && read == 0 && sent == 0 && moved == 0;
            // The end of a stream, for instance, is something to send without a byte moved.
            if self.blocked || idle && !self.endpoint.may_transmit() {
                self.sleep()?;
            }
        }
    }

    fn sleep(&mut self) -> Result<(), WorkerError> {
        let assembler = self.device.as_ref().and_then(|device| device.assembler.timeout());
        let first = [self.endpoint.poll_timeout(), assembler].into_iter().flatten().min();
        let until_timer = first.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = until_timer.unwrap_or(NAP).min(NAP);
        let timeout = self.reading.nap().map_or(timeout, |nap| nap.min(timeout));
        let ready = self.port.wait(Some(timeout)).map_err(failed("port"))?;
        if ready.0 & 1 << INBOX != 0 {
            self.take_commands();
        }
        Ok(())
    }

    /// Seals what is due straight into the port's transmit buffers.
    fn transmit(&mut self, now: Instant) -> Result<usize, WorkerError> {
        let mut sent = 0;
        self.blocked = false;
        while sent < self.transmit_burst {
            let Some(slot) = self.port.slot() else {
                self.blocked = true;
                break;
            };
            let Some(transmit) = self.endpoint.poll_transmit(slot, now) else { break };
            if let Some(tap) = &self.tap {
                tap.sent(&slot[..transmit.len], &transmit);
            }
            self.port.commit(transmit.len, &command::to_meta(&transmit));
            sent += 1;
        }
        self.stages.end(Stage::Seal, sent);
        self.port.flush().map_err(failed("port"))?;
        self.stages.end(Stage::Flush, sent);
        Ok(sent)
    }
}
