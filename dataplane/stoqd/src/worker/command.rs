//! How the rest of the daemon speaks to a worker: a bounded channel of commands, a bounded ring of
//! packets that reached the wrong worker, and an eventfd that wakes it for either.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use crossbeam::queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use stoq::control::TierNote;
use stoq::mesh::Mesh;
use stoq::task::Done;
use stoq::tls::Credentials;
use stoq::{Event, LinkProfile, LinkSample, LinkStatus, Path, Peer, PeerId, Transmit, Via};
use stoq_identity::Span;
use stoq_port::xdp::Lane;
use stoq_port::{RxMeta, Socket, TxMeta};
use stoq_tunnel::forward::Table;

use super::{Meters, Offer, PROOFS_MAX, StageFigures, Step, Tap, Wanted, Worker};

/// Commands that wait for a worker at most: it takes them within microseconds, so a full channel
/// means that it hangs, and the sender is told.
const COMMANDS_MAX: usize = 64;

/// Packets on their way to another worker at most: what arrives in four milliseconds at 2.5 Gbit/s, the
/// time for which a worker may not be scheduled on a core that others use too.
const STRAYS_MAX: usize = 1024;

/// The peers, and which addresses are behind them; replaced as a whole.
#[derive(Debug, Default)]
pub struct Peering {
    /// Every peer.
    pub peers: Vec<Peer>,
    /// Their networks.
    pub table: Arc<Table<PeerId>>,
    /// What they may open streams to.
    pub offers: Vec<Offer>,
}

/// What a worker can be told.
pub enum Command {
    /// Use these peers from now on.
    Peers(Arc<Peering>),
    /// Use this certificate from now on, for the connections there are as well.
    Credentials(Credentials),
    /// Trust these issuers from now on, for new connections.
    Issuers(Credentials),
    /// The mesh's state from now on.
    Mesh(Arc<Mesh>),
    /// Tell how it goes.
    Report(Sender<Report>),
    /// Tell what the links did since this was asked last.
    Samples(Sender<Vec<LinkSample>>),
    /// Use these parameters from now on.
    Tuned(Arc<Tuned>),
    /// Open a stream for a program of this host.
    Stream(Box<Wanted>),
    /// Copy packets out; ends when the tap is full or its reader is gone.
    Tap(Tap),
    /// Use these lanes past the kernel from now on, or none.
    Plug(Vec<Lane>),
    /// Do this of a hand-over to another process of this node.
    HandOver(Step),
    /// Take leave of all peers and end.
    Drain,
}

/// What follows from the tiers of links.
#[derive(Debug)]
pub struct Tuned {
    /// The links whose parameters changed, with what the peer is told.
    pub links: Vec<(PeerId, LinkProfile, TierNote)>,
    /// Super-packets read from the tunnel device in one turn, at least 1.
    pub read_burst: usize,
    /// UDP packets sent in one turn, at least 1.
    pub transmit_burst: usize,
}

/// How a worker is doing.
#[derive(Debug)]
pub struct Report {
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// QUIC connections in its table.
    pub connections: usize,
    /// Handshakes under way.
    pub handshakes: usize,
    /// Retry packets sent since the start.
    pub retries: u64,
    /// Streams now.
    pub streams: usize,
    /// Where its time goes.
    pub stages: Vec<StageFigures>,
    /// Its share of every link.
    pub links: Vec<LinkStatus>,
    /// The highest sequence of a revocation set that a connected peer has named.
    pub newest_sequence: Option<(PeerId, u64)>,
}

/// A UDP packet that reached a worker which does not own its connection.
pub struct Stray {
    datagram: Vec<u8>,
    path: Path,
}

/// A worker's end of its mailbox.
pub struct Inbox {
    commands: Receiver<Command>,
    /// What became of tasks.
    done: Receiver<Done>,
    strays: Arc<ArrayQueue<Stray>>,
    /// Readable when there is something.
    pub(super) wake: Arc<EventFd>,
    /// The rings of all workers, by index.
    others: Vec<(Arc<ArrayQueue<Stray>>, Arc<EventFd>)>,
    /// The workers that were handed packets since they were last woken: a bit for each of at most 64.
    to_wake: u64,
    pub(super) meters: Arc<Meters>,
}

/// The daemon's end.
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
    done: Sender<Done>,
    wake: Arc<EventFd>,
    /// What the worker counts.
    pub meters: Arc<Meters>,
}

/// A worker that takes no commands.
#[derive(Debug, thiserror::Error)]
#[error("expected the worker to take a command, but {0} wait already: it hangs; restart stoqd")]
pub struct Stuck(usize);

impl Handle {
    /// Gives the worker a command.
    ///
    /// # Errors
    /// When it hangs or has ended.
    pub fn send(&self, command: Command) -> Result<(), Stuck> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Stuck(COMMANDS_MAX),
            TrySendError::Disconnected(_) => Stuck(0),
        })?;
        wake(&self.wake);
        Ok(())
    }

    /// Tells the worker what became of a task of its.
    pub fn answer(&self, done: Done) {
        // It fits: a worker has no more tasks out than the channel holds. One that ended needs none.
        let _ended = self.done.try_send(done);
        wake(&self.wake);
    }
}

fn wake(eventfd: &EventFd) {
    // The counter can only overflow after 2^64 wake-ups without a sleep.
    let _woken = eventfd.write(1);
}

/// Mailboxes for `count` workers that know each other's rings.
///
/// # Errors
/// When the kernel has no eventfd left.
pub fn mailboxes(count: usize) -> nix::Result<Vec<(Handle, Inbox)>> {
    let mut rings = Vec::with_capacity(count);
    for _ in 0..count {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let eventfd = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        rings.push((Arc::new(ArrayQueue::new(STRAYS_MAX)), eventfd));
    }
    let mailbox = |(strays, wake): &(Arc<ArrayQueue<Stray>>, Arc<EventFd>)| {
        let (sender, commands) = bounded(COMMANDS_MAX);
        let (to_done, done) = bounded(PROOFS_MAX);
        let meters = Arc::new(Meters::default());
        let handle = Handle {
            commands: sender,
            done: to_done,
            wake: Arc::clone(wake),
            meters: Arc::clone(&meters),
        };
        let (strays, wake) = (Arc::clone(strays), Arc::clone(wake));
        let others = rings.clone();
        (handle, Inbox { commands, done, strays, wake, others, to_wake: 0, meters })
    };
    Ok(rings.iter().map(mailbox).collect())
}

impl Inbox {
    /// Hands a packet to the worker that owns its connection; false when that one's ring is full. It is
    /// woken by [`Inbox::wake_others`].
    pub(super) fn hand_over(&mut self, owner: u8, datagram: &[u8], path: Path) -> bool {
        let Some((ring, _)) = self.others.get(usize::from(owner)) else { return false };
        self.meters.hand_over();
        self.to_wake |= 1_u64.checked_shl(owner.into()).unwrap_or(0);
        ring.push(Stray { datagram: datagram.to_vec(), path }).is_ok()
    }

    /// Wakes the workers that were handed packets: once for a burst, for it is a system call.
    pub(super) fn wake_others(&mut self) {
        while self.to_wake != 0 {
            let owner = self.to_wake.trailing_zeros() as usize;
            self.to_wake &= self.to_wake - 1;
            if let Some((_, eventfd)) = self.others.get(owner) {
                wake(eventfd);
            }
        }
    }

    /// Whether something waits: a worker that never sleeps is not woken.
    pub(super) fn has_mail(&self) -> bool {
        !self.strays.is_empty() || !self.commands.is_empty() || !self.done.is_empty()
    }
}

impl Worker {
    pub(super) fn take_commands(&mut self) {
        // Clears the eventfd; an empty one is no error.
        let _woken = self.inbox.wake.read();
        let now = Instant::now();
        while let Some(mut stray) = self.inbox.strays.pop() {
            // A packet goes to another worker once: it is not passed on again.
            self.endpoint.receive(&mut stray.datagram, stray.path, now);
        }
        while let Ok(done) = self.inbox.done.try_recv() {
            self.desk.returned();
            self.endpoint.done(done, now);
        }
        while let Ok(command) = self.inbox.commands.try_recv() {
            self.obey(command, now);
        }
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Peers(peering) => {
                self.endpoint.set_peers(&peering.peers, now);
                self.forwarder.replace(Arc::clone(&peering.table));
                self.peering = peering;
            }
            Command::Credentials(credentials) => match self.endpoint.set_credentials(credentials) {
                Ok(()) => self.endpoint.replace_all(now),
                Err(error) => tracing::error!("the new certificate was refused: {error}"),
            },
            Command::Issuers(credentials) => {
                if let Err(error) = self.endpoint.set_credentials(credentials) {
                    tracing::error!("the mesh's issuers were refused: {error}");
                }
            }
            Command::Mesh(mesh) => self.endpoint.set_mesh(mesh, now),
            Command::Report(reply) => {
                let report = Report {
                    core: self.core,
                    connections: self.endpoint.connection_count(),
                    handshakes: self.endpoint.handshake_count(),
                    retries: self.endpoint.retries_sent(),
                    streams: self.endpoint.stream_count(),
                    stages: self.stages.figures(),
                    links: self.endpoint.links(),
                    newest_sequence: self.endpoint.newest_sequence(),
                };
                // Whoever asked may have gone.
                let _gone = reply.try_send(report);
            }
            // Whoever asked may have gone.
            Command::Samples(reply) => drop(reply.try_send(self.endpoint.take_samples(now))),
            Command::Tuned(tuned) => self.tune(&tuned, now),
            Command::Stream(wanted) => self.open_stream(*wanted, now),
            Command::Tap(tap) => self.tap = Some(tap),
            Command::Plug(lanes) => {
                if let Err(error) = self.port.plug(lanes) {
                    tracing::error!("packets go through the kernel: {error}");
                }
            }
            Command::HandOver(step) => self.hand_over(step, now),
            Command::Drain => {
                self.endpoint.drain(now);
                self.stopping = true;
            }
        }
    }

    fn tune(&mut self, tuned: &Tuned, now: Instant) {
        self.read_burst = tuned.read_burst.max(1);
        self.transmit_burst = tuned.transmit_burst.max(1);
        for (peer, profile, note) in &tuned.links {
            self.endpoint.set_profile(*peer, *profile, now);
            self.endpoint.tell_tier(*peer, *note);
        }
    }

    /// Has others do what takes too long here.
    pub(super) fn hand_out_tasks(&mut self) {
        while self.desk.has_room() {
            let Some(task) = self.endpoint.poll_task() else { break };
            if let Some(reason) = self.desk.hand_out(task) {
                self.drops.count(reason);
            }
        }
    }

    pub(super) fn report_events(&mut self) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Up { peer, endpoint } => {
                    tracing::info!(peer = self.name(peer), %endpoint, "link up");
                }
                Event::Down { peer } => tracing::warn!(peer = self.name(peer), "link down"),
                Event::Outlived { peer, expired_for } => tracing::warn!(
                    peer = self.name(peer),
                    "the peer's certificate expired {} ago and is taken all the same \
                     (identity.outlive_issuer_s): bring an issuer back",
                    Span(expired_for)
                ),
                Event::Refused { remote, why } => {
                    if self.log_budget.take(Instant::now()) {
                        tracing::warn!(%remote, "handshake refused: {why}");
                    }
                }
            }
        }
    }

    pub(super) fn name(&self, peer: PeerId) -> &str {
        // Numbers are mostly given in the order of the list, which may have thousands.
        let peers = &self.peering.peers;
        let expected = peers.get(peer.0 as usize).filter(|known| known.id == peer);
        let known = expected.or_else(|| peers.iter().find(|known| known.id == peer));
        known.map_or("(removed)", |known| &known.name)
    }
}

pub(super) fn to_meta(transmit: &Transmit) -> TxMeta {
    let socket = match transmit.via {
        Via::Listen(place) => Socket::Listen(place),
        Via::Dial => Socket::Dial,
    };
    TxMeta { to: transmit.to, from: transmit.from, socket }
}

pub(super) fn to_path(meta: &RxMeta) -> Path {
    let via = match meta.socket {
        Socket::Listen(place) => Via::Listen(place),
        Socket::Dial => Via::Dial,
    };
    Path { local: meta.to, remote: meta.from, via }
}
