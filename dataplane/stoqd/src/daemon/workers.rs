//! The worker threads.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use crossbeam::channel::{Receiver, Sender, Sender as Reply, bounded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stoq::Local;
use stoq::control::feature;
use stoq::settings::Settings;
use stoq::tls::Credentials;
use stoq_port::probe::Selection;
use stoq_port::xdp::NextHops;
use stoq_port::{PortKind, PortOptions, Socket};
use stoq_telemetry::Drops;
use stoq_tunnel::device::Offloads;

use super::choose::Choice;
use super::network::{Network, Share};
use super::state::{State, random};
use crate::config::{Config, Recovery};
use crate::worker::{
    Command, Desk, Errand, Handle, MESH_QUEUE, PROOFS_MAX, Peering, Setup, Worker, WorkerError,
    mailboxes,
};

/// What the rest of the daemon has of a worker.
#[derive(Clone)]
pub(super) struct Watched {
    pub handle: Handle,
    pub drops: Arc<Drops>,
}

/// The running workers.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    failed: Arc<AtomicBool>,
    pub watched: Vec<Watched>,
    pub selection: Selection,
    /// The port on sockets and its mode.
    pub beneath: (PortKind, String),
}

/// The queues from workers to the threads beside them.
pub(super) struct Queues {
    to_proofs: Sender<Errand>,
    /// Proofs to be signed and verified.
    pub proofs: Receiver<Errand>,
    pub to_mesh: Sender<Errand>,
    /// What peers say of the mesh.
    pub mesh: Receiver<Errand>,
}

impl Queues {
    /// Those of so many workers.
    pub fn new(workers: usize) -> Self {
        let (to_proofs, proofs) = bounded(workers * PROOFS_MAX);
        let (to_mesh, mesh) = bounded(MESH_QUEUE);
        Self { to_proofs, proofs, to_mesh, mesh }
    }
}

/// What all workers are made from.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub config: &'a Config,
    pub state: &'a State,
    pub credentials: &'a Credentials,
    pub queues: &'a Queues,
    /// Whether the tunnel device is read from the start.
    pub reads: bool,
}

impl Workers {
    /// Starts a thread for each share, and waits until each has opened its port.
    pub fn start(
        parts: Plan<'_>,
        network: Network,
        choice: &Choice,
        peering: &Arc<Peering>,
    ) -> Result<Self> {
        let count = network.shares.len();
        if parts.reads {
            steer(&network);
        }
        let (port, options, selection) =
            (choice.sockets.0, choice.options.clone(), choice.selection.clone());
        let hops = choice.bypass.as_ref().map(|way| Arc::clone(&way.hops));
        let secret = random();
        let mut plan = Drawn { parts, port, hops, options, secret, network };
        let failed = Arc::default();
        let beneath = choice.sockets.clone();
        let mut workers =
            Self { threads: Vec::new(), failed, watched: Vec::new(), selection, beneath };
        let shares = std::mem::take(&mut plan.network.shares);
        let boxes = mailboxes(count).context("making mailboxes")?;
        for (index, (share, (handle, inbox))) in shares.into_iter().zip(boxes).enumerate() {
            let drops = Arc::new(Drops::default());
            let local = plan.local(index, count, &drops);
            let setup = plan.setup(index, local, share, inbox);
            // Before the first packet: nobody may be refused for not being known yet.
            handle.send(Command::Peers(Arc::clone(peering)))?;
            let (ready, opened) = bounded(1);
            let failed = Arc::clone(&workers.failed);
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            let thread = thread.spawn(move || carry(setup, &ready, &failed));
            workers.threads.push(thread.context("starting a worker")?);
            opened.recv().context("a worker ended while it started")??;
            workers.watched.push(Watched { handle, drops });
        }
        Ok(workers)
    }

    /// Waits until all have ended. Returns whether one failed.
    pub fn join(self) -> bool {
        let mut panicked = false;
        for thread in self.threads {
            panicked |= thread.join().is_err();
        }
        panicked || self.failed.load(Ordering::Relaxed)
    }
}

/// A worker's thread: tells whether it could start, then carries packets to the end.
fn carry(setup: Setup, ready: &Reply<Result<(), WorkerError>>, failed: &AtomicBool) {
    let worker = match Worker::new(setup) {
        Ok(worker) => worker,
        Err(error) => {
            // The starter waits for exactly this.
            let _starter = ready.send(Err(error));
            return;
        }
    };
    let _starter = ready.send(Ok(()));
    let mut end = End { failed, in_order: false };
    match worker.run() {
        Ok(()) => end.in_order = true,
        Err(error) => tracing::error!("{error}"),
    }
}

/// The end of a worker, by a panic too.
struct End<'a> {
    failed: &'a AtomicBool,
    in_order: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if !self.in_order {
            self.failed.store(true, Ordering::Relaxed);
            // Ends the daemon in order; a service manager starts it again.
            let _ended = kill(Pid::this(), Signal::SIGTERM);
        }
    }
}

struct Drawn<'a> {
    parts: Plan<'a>,
    port: PortKind,
    hops: Option<Arc<NextHops>>,
    options: PortOptions,
    secret: [u8; 16],
    network: Network,
}

impl Drawn<'_> {
    /// Slices become super-packets for the device, so it has to take all kinds of them.
    fn features(&self) -> u64 {
        let offload = self.parts.config.tunnel.as_ref().map(|tunnel| tunnel.offload);
        let wanted = offload.is_some_and(|offload| offload.slice && offload.gro);
        let takes = self.network.granted == Some(Offloads::ALL);
        if wanted && takes { feature::SLICED } else { 0 }
    }

    fn local(&self, index: usize, count: usize, drops: &Arc<Drops>) -> Local {
        Local {
            node: self.parts.credentials.identity.id().clone(),
            boot: self.parts.state.boot,
            worker: u8::try_from(index).unwrap_or(u8::MAX),
            workers: u8::try_from(count).unwrap_or(u8::MAX),
            generation: self.parts.state.generation,
            cid_keys: self.parts.state.keys.clone(),
            tunnel_mtu: self.network.tunnel_mtu,
            features: self.features(),
            drops: Arc::clone(drops),
        }
    }

    fn setup(
        &self,
        index: usize,
        local: Local,
        share: Share,
        inbox: crate::worker::Inbox,
    ) -> Setup {
        let limits = &self.parts.config.limits;
        let workers = usize::from(local.workers.max(1));
        let settings = Settings {
            connections_max: (limits.connections as usize).div_ceil(workers),
            handshake_packets_per_burst: limits.handshakes_per_poll,
            udp_payload_max: self.network.udp_payload_max,
            recovery: self.parts.config.transport.recovery == Recovery::Auto,
            ..Settings::default()
        };
        let Queues { to_proofs, to_mesh, .. } = self.parts.queues;
        let desk = Desk::new(local.worker, to_proofs.clone(), to_mesh.clone());
        Setup {
            desk,
            local,
            settings,
            credentials: self.parts.credentials.clone(),
            port: self.port,
            hops: self.hops.clone(),
            port_options: self.options.clone(),
            sockets: share.sockets,
            device: share.queue,
            reads: self.parts.reads,
            joins: self.parts.config.tunnel.as_ref().is_some_and(|tunnel| tunnel.offload.gro),
            addresses: self.network.addresses.clone(),
            core: self.network.cores.pinned.get(index).copied(),
            flow_secret: self.secret,
            inbox,
        }
    }
}

/// Steers packets to the worker that their connection ID names. Without it (an old kernel) workers
/// hand packets over to each other.
fn steer(network: &Network) {
    let count = u8::try_from(network.shares.len()).ok().and_then(NonZeroU8::new);
    let (Some(count), Some(first)) = (count, network.shares.first()) else { return };
    if count.get() == 1 {
        return;
    }
    let listening = first.sockets.iter().filter(|(socket, _)| matches!(socket, Socket::Listen(_)));
    for (_, fd) in listening {
        if let Err(error) = stoq_port::steer::attach(fd, count) {
            tracing::warn!("{error}; workers hand packets over to each other instead");
        }
    }
}
