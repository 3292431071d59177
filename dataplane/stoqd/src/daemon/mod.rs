//! The daemon: puts broker, workers and servers together, and takes them apart again.
//!
//! Order of the start, and why: the configuration is checked before anything is changed; the broker
//! is forked before any thread exists; everything that needs privilege is asked of it; then this
//! process gives up its own for good; only then do threads start that see packets.

mod bypass;
mod choose;
mod handover;
mod identity;
mod network;
mod peering;
mod report;
mod servers;
mod shared;
mod signer;
mod state;
mod tiers;
mod trust;
mod watchdog;
mod workers;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

use self::bypass::Bypass;
use self::choose::{Choice, Way, choose};
use self::handover::{Elder, Relay, Run, inherit};
use self::identity::credentials;
use self::network::Network;
use self::peering::PeerNumbers;
use self::servers::Listeners;
use self::shared::{Held, Parts, Shared, certificates};
use self::state::State;
use self::workers::{Plan, Queues, Workers};
use crate::broker::{Broker, ConnectionIds, privilege};
use crate::config::Config;
use crate::control::PushedPeers;
use crate::inherit::Inherited;
use crate::logging::Level;
use crate::{logging, manager, worker};

/// Runs stoqd with this configuration until a signal ends it.
///
/// # Errors
/// What kept it from starting, or which part failed.
pub fn run(path: &Path, config: Config) -> Result<()> {
    let signals = block_signals()?;
    let level = logging::start(&config.log)?;
    let (inherited, elder) = inherit()?;
    let (shared, workers) = start(path, config, level, inherited, elder.as_ref())?;
    if let Err(error) = begin(&shared, elder) {
        shared.send_all(|| worker::Command::Drain);
        workers.join();
        return Err(error);
    }
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, node = shared.node(), port = shared.port_name(), "running");
    loop {
        match signals.wait().context("waiting for signals")? {
            Signal::SIGHUP => shared.reload_and_log(),
            signal => {
                tracing::info!(%signal, "draining");
                break;
            }
        }
    }
    let failed = end(&shared, workers);
    tracing::info!(uptime_s = shared.uptime_s(), "stopped");
    if failed {
        bail!("a worker failed; the reason is in the log above");
    }
    Ok(())
}

/// Serves: at once, or when the process before lets go.
fn begin(shared: &Arc<Shared>, elder: Option<Elder>) -> Result<()> {
    match elder {
        Some(elder) => elder.take_over(shared)?,
        None => shared.start_serving()?,
    }
    manager::ready(&shared.relay.estate);
    watchdog::start(Arc::clone(shared))
}

/// Leaves to the process that took over, or takes leave of the peers. Returns whether a worker failed.
fn end(shared: &Shared, workers: Workers) -> bool {
    if shared.end_hand_overs() {
        shared.send_all(|| worker::Command::HandOver(worker::Step::Leave));
        shared.wait_for_answers();
        return workers.join();
    }
    manager::stopping();
    shared.send_all(|| worker::Command::Drain);
    let failed = workers.join();
    if manager::is_there()
        && let Err(error) = shared.leave_will()
    {
        tracing::warn!("routes are made anew by the next process: {error:#}");
    }
    failed
}

/// Gives the workers their way past the kernel, if there is to be one.
fn start_bypass(
    config: &Config,
    broker: &Arc<Broker>,
    choice: Choice,
    ids: ConnectionIds,
    workers: &Workers,
) -> Result<Option<Bypass>> {
    let Some(Way { attachment, hops }) = choice.bypass else { return Ok(None) };
    let parts = bypass::Parts {
        broker: Arc::clone(broker),
        interface: config.transport.interface.clone().unwrap_or_default(),
        mark: config.transport.mark,
        ids,
        workers: workers.watched.iter().map(|worker| worker.handle.clone()).collect(),
        hops,
    };
    bypass::start(parts, attachment).map(Some)
}

/// Signals are taken by `run` alone; threads inherit the mask.
fn block_signals() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().context("blocking signals")?;
    Ok(signals)
}

fn start(
    path: &Path,
    config: Config,
    level: Level,
    mut inherited: Inherited,
    elder: Option<&Elder>,
) -> Result<(Arc<Shared>, Workers)> {
    let user = &config.node.user;
    privilege::make_directory(&config.transport.state, user)?;
    let broker = Broker::start(path, &config, &mut inherited)?;
    let policy = config.identity.policy;
    let own = credentials(&config, policy, &broker)?;
    let listeners = Listeners::bind(&config, &mut inherited)?;
    let network = Network::prepare(&broker, &config, elder)?;
    privilege::drop_for_good(user)?;
    // From here on: what is written is the daemon's user's.
    let state = State::load(&config.transport.state, elder.map(Elder::run));
    let mut pushed = PushedPeers::open(&config.transport.state)?;
    let queues = Queues::new(network.shares.len());
    let heads = queues.to_mesh.clone();
    let (keeper, logs, credentials) = trust::restore(&config, &own, &mut pushed, heads)?;
    let mut numbers = PeerNumbers::default();
    let peering = Arc::new(numbers.peering(&pushed.merged(&config).0, &config.services)?);
    let ids = state.connection_ids();
    let choice = choose(&config, &broker, &ids, network.shares.len(), elder)?;
    let (mut estate, group) = (network.estate()?, network.group()?);
    listeners.leave_to(&mut estate)?;
    let mtu = network.device_mtu();
    let run = Run { boot: state.boot, generation: state.generation, mtu };
    let reads = elder.is_none();
    let plan =
        Plan { config: &config, state: &state, credentials: &credentials, queues: &queues, reads };
    let workers = Workers::start(plan, network, &choice, &peering)?;
    let handles = workers.watched.iter().map(|worker| worker.handle.clone()).collect();
    signer::start(queues.proofs.clone(), handles, logs)?;
    let broker = Arc::new(broker);
    let bypass = start_bypass(&config, &broker, choice, ids, &workers)?;
    let relay = Relay::new(estate, group, run, listeners, elder.is_some());
    let parts = Parts { broker, level, bypass, relay };
    let certificates = certificates(&credentials);
    let held = Held { config, numbers, pushed, keeper, certificates, policy };
    let shared = Arc::new(Shared::new(held, parts, &workers));
    shared.send_mesh(&shared.held());
    shared.use_peers()?;
    trust::start(queues.mesh.clone(), Arc::clone(&shared))?;
    tiers::start(Arc::clone(&shared))?;
    for warning in shared.host_warnings() {
        tracing::warn!("{warning}");
    }
    Ok((shared, workers))
}
