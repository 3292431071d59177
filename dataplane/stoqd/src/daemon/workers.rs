//! The worker threads.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use crossbeam::channel::{Sender as Reply, bounded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stoq::Local;
use stoq::settings::Settings;
use stoq::tls::Credentials;
use stoq_port::{PortKind, PortOptions, Sender, Socket};
use stoq_telemetry::Drops;

use super::network::{Network, Share};
use super::state::{State, random};
use crate::config::{Config, PortChoice, SenderChoice};
use crate::worker::{Command, Handle, Setup, Worker, WorkerError, mailboxes};

/// The running workers.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    pub handles: Vec<Handle>,
    pub drops: Vec<Arc<Drops>>,
    pub port: PortKind,
}

impl Workers {
    /// Starts a thread for each share, and waits until each has opened its port.
    pub fn start(
        config: &Config,
        network: Network,
        state: &State,
        credentials: &Credentials,
        failed: Arc<AtomicBool>,
    ) -> Result<Self> {
        let count = network.shares.len();
        steer(&network)?;
        let (port, options) = choose_port(config);
        let mut plan = Plan { config, state, credentials, port, options, secret: random(), network };
        let mut workers =
            Self { threads: Vec::new(), handles: Vec::new(), drops: Vec::new(), port };
        let shares = std::mem::take(&mut plan.network.shares);
        let boxes = mailboxes(count).context("making mailboxes")?;
        for (index, (share, (handle, inbox))) in shares.into_iter().zip(boxes).enumerate() {
            let drops = Arc::new(Drops::default());
            let local = plan.local(index, count, &drops);
            let setup = plan.setup(index, local, share, inbox);
            let (ready, opened) = bounded(1);
            let failed = Arc::clone(&failed);
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            let thread = thread.spawn(move || carry(setup, &ready, &failed));
            workers.threads.push(thread.context("starting a worker")?);
            opened.recv().context("a worker ended while it started")??;
            workers.handles.push(handle);
            workers.drops.push(drops);
        }
        Ok(workers)
    }

    /// Gives each worker a command.
    pub fn send(&self, command: impl Fn() -> Command) {
        for handle in &self.handles {
            if let Err(error) = handle.send(command()) {
                tracing::error!("{error}");
            }
        }
    }

    /// Waits until all have ended.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
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
    if let Err(error) = worker.run() {
        tracing::error!("{error}");
        failed.store(true, Ordering::Relaxed);
        // Ends the daemon in order; a service manager starts it again.
        let _ended = kill(Pid::this(), Signal::SIGTERM);
    }
}

struct Plan<'a> {
    config: &'a Config,
    state: &'a State,
    credentials: &'a Credentials,
    port: PortKind,
    options: PortOptions,
    secret: [u8; 16],
    network: Network,
}

impl Plan<'_> {
    fn local(&self, index: usize, count: usize, drops: &Arc<Drops>) -> Local {
        Local {
            node: self.credentials.identity.id().clone(),
            boot: self.state.boot,
            worker: u8::try_from(index).unwrap_or(u8::MAX),
            workers: u8::try_from(count).unwrap_or(u8::MAX),
            generation: self.state.generation,
            cid_keys: self.state.keys.clone(),
            tunnel_mtu: self.network.tunnel_mtu,
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
        let limits = &self.config.limits;
        let workers = usize::from(local.workers.max(1));
        let settings = Settings {
            connections_max: (limits.connections as usize).div_ceil(workers),
            handshake_packets_per_burst: limits.handshakes_per_poll,
            udp_payload_max: self.network.udp_payload_max,
            ..Settings::default()
        };
        let cores = self.config.transport.cores.as_deref().unwrap_or_default();
        Setup {
            local,
            settings,
            credentials: self.credentials.clone(),
            port: self.port,
            port_options: self.options.clone(),
            sockets: share.sockets,
            device: share.queue,
            addresses: self.network.addresses.clone(),
            core: cores.get(index).copied(),
            flow_secret: self.secret,
            inbox,
        }
    }
}

/// Steers packets to the worker that their connection ID names. Without it (an old kernel) workers
/// hand packets over to each other.
fn steer(network: &Network) -> Result<()> {
    let count = u8::try_from(network.shares.len()).ok().and_then(NonZeroU8::new);
    let (Some(count), Some(first)) = (count, network.shares.first()) else { return Ok(()) };
    if count.get() == 1 {
        return Ok(());
    }
    let listening = first.sockets.iter().filter(|(socket, _)| matches!(socket, Socket::Listen(_)));
    for (_, fd) in listening {
        if let Err(error) = stoq_port::steer::attach(fd, count) {
            tracing::warn!("{error}; workers hand packets over to each other instead");
        }
    }
    Ok(())
}

fn choose_port(config: &Config) -> (PortKind, PortOptions) {
    let transport = &config.transport;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sender = match transport.sender {
        SenderChoice::Inline => Sender::Inline,
        SenderChoice::Thread => Sender::Thread,
        SenderChoice::Auto if cores > 1 => Sender::Thread,
        SenderChoice::Auto => Sender::Inline,
    };
    let options = PortOptions {
        gso: transport.gso,
        gro: transport.gro,
        multishot: transport.multishot,
        sender,
        sender_core: None,
    };
    let port = match transport.port {
        PortChoice::Xdp => PortKind::Xdp,
        PortChoice::Uring => PortKind::Uring,
        PortChoice::Mio | PortChoice::Auto => PortKind::Mio,
    };
    (port, options)
}
