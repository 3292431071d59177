//! The daemon: puts broker, workers and servers together, and takes them apart again.
//!
//! Order of the start, and why: the configuration is checked before anything is changed; the broker
//! is forked before any thread exists; everything that needs privilege is asked of it; then this
//! process gives up its own for good; only then do threads start that see packets.

mod identity;
mod network;
mod peering;
mod state;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use stoq_telemetry::Drops;
use stoq_tunnel::forward::Prefix;

use self::identity::credentials;
use self::network::Network;
use self::peering::PeerNumbers;
use self::state::State;
use self::workers::Workers;
use crate::broker::{Broker, privilege};
use crate::config::{Config, Routes};
use crate::worker::Command;

/// A running stoqd.
pub struct Daemon {
    path: PathBuf,
    config: Config,
    broker: Broker,
    workers: Workers,
    numbers: PeerNumbers,
    started: Instant,
}

/// Runs stoqd with this configuration until a signal ends it.
///
/// # Errors
/// What kept it from starting, or which part failed.
pub fn run(path: &Path, config: Config) -> Result<()> {
    let signals = block_signals()?;
    let (mut daemon, failed) = Daemon::start(path, config)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = daemon.config.node.name, "running");
    loop {
        match signals.wait().context("waiting for signals")? {
            Signal::SIGHUP => daemon.reload(),
            signal => {
                tracing::info!(%signal, "draining");
                break;
            }
        }
    }
    daemon.stop();
    if failed.load(Ordering::Relaxed) {
        bail!("a worker failed; the reason is in the log above");
    }
    Ok(())
}

/// Signals are taken by `run` alone; threads inherit the mask.
fn block_signals() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().context("blocking signals")?;
    Ok(signals)
}

impl Daemon {
    fn start(path: &Path, config: Config) -> Result<(Self, Arc<AtomicBool>)> {
        let credentials = credentials(&config)?;
        let user = &config.node.user;
        privilege::make_directory(&config.transport.state, user)?;
        let state = State::load(&config.transport.state);
        let broker = Broker::start(path, &config)?;
        let network = Network::prepare(&broker, &config)?;
        privilege::drop_for_good(user)?;
        let mut numbers = PeerNumbers::default();
        let peering = Arc::new(numbers.peering(&config.peers)?);
        let failed = Arc::new(AtomicBool::new(false));
        let workers =
            Workers::start(&config, network, &state, &credentials, Arc::clone(&failed))?;
        workers.send(|| Command::Peers(Arc::clone(&peering)));
        let daemon = Self {
            path: path.to_owned(),
            config,
            broker,
            workers,
            numbers,
            started: Instant::now(),
        };
        daemon.install_routes();
        Ok((daemon, failed))
    }

    /// Makes the kernel's routes those of the peers' networks.
    fn install_routes(&self) {
        let Some(tunnel) = &self.config.tunnel else { return };
        if tunnel.routes == Routes::Off {
            return;
        }
        let peers = &self.config.peers;
        let prefixes: Vec<Prefix> = peers.iter().flat_map(|p| p.allowed_ips.clone()).collect();
        let endpoints: Vec<_> = peers.iter().flat_map(|p| &p.endpoints).map(|e| e.ip()).collect();
        for error in self.broker.set_routes(&prefixes, &endpoints) {
            tracing::error!("a route is missing: {error}");
        }
    }

    /// Reads file and identity again. What cannot be used is reported, and the old stays in force.
    fn reload(&mut self) {
        match self.try_reload() {
            Ok(()) => tracing::info!("reloaded"),
            Err(error) => tracing::error!("reload refused, nothing changed: {error:#}"),
        }
    }

    fn try_reload(&mut self) -> Result<()> {
        let config = Config::load(&self.path)?;
        let credentials = credentials(&config)?;
        let peering = Arc::new(self.numbers.peering(&config.peers)?);
        self.broker.reload()?;
        for key in Config::diff(&self.config, &config) {
            tracing::warn!("{key} changed, which takes effect at the next restart only");
        }
        self.config = config;
        self.install_routes();
        self.workers.send(|| Command::Peers(Arc::clone(&peering)));
        self.workers.send(|| Command::Credentials(credentials.clone()));
        Ok(())
    }

    fn stop(self) {
        self.workers.send(|| Command::Drain);
        self.workers.join();
        let uptime_s = self.started.elapsed().as_secs();
        tracing::info!(uptime_s, "stopped");
    }
}

/// Drop counters of all workers, for the servers.
pub type AllDrops = Vec<Arc<Drops>>;
