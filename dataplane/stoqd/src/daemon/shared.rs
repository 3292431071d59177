//! What the main thread and the control thread both act on: configuration, peers, routes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam::channel::{Receiver, bounded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stoq::PeerId;
use stoq::tls::Credentials;
use stoq_control::{CapturePoint, Certificate, ErrorCode, Refusal, Right, Snapshot, Status};
use stoq_identity::Policy;
use stoq_port::PortKind;
use stoq_port::probe::Selection;
use stoq_tuning::tier::LinkTier;
use stoq_tunnel::forward::Prefix;

use super::bypass::{Bypass, State};
use super::handover::{Relay, Upgraded};
use super::identity::described;
use super::peering::PeerNumbers;
use super::workers::{Watched, Workers};
use crate::broker::Broker;
use crate::config::{Config, Routes};
use crate::control::{Known, Operations, PushedPeers, permits};
use crate::logging::Level;
use crate::mesh::Keeper;
use crate::netlink::forwarding_warnings;
use crate::worker::{Command, Copied, Point, StreamRefused, Tap, Wanted};

/// Copied packets that wait for the reader of a capture at most: a burst of every worker.
const CAPTURE_QUEUE: usize = 4096;

/// How long a worker may take to say what became of a stream: longer than it gives the peer.
const STREAM_ANSWER: Duration = Duration::from_secs(7);

/// The daemon without its threads.
pub(super) struct Shared {
    broker: Arc<Broker>,
    level: Level,
    bypass: Option<Bypass>,
    pub(super) workers: Vec<Watched>,
    selection: Selection,
    /// The port on sockets and its mode: what is left when the way past the kernel is lost.
    beneath: (PortKind, String),
    pub(super) started: Instant,
    held: Mutex<Held>,
    /// Which worker is asked first for the next stream.
    streams: AtomicUsize,
    /// What is held for the process after this one.
    pub(super) relay: Relay,
    /// The tier of each link that has carried something: no more of them than numbers of peers.
    tiers: Mutex<HashMap<PeerId, LinkTier>>,
}

/// What the daemon has made before.
pub(super) struct Parts {
    pub broker: Arc<Broker>,
    pub level: Level,
    /// The way past the kernel, if packets take it.
    pub bypass: Option<Bypass>,
    pub relay: Relay,
}

/// What changes while it runs.
pub(super) struct Held {
    pub config: Config,
    pub numbers: PeerNumbers,
    pub pushed: PushedPeers,
    pub keeper: Keeper,
    /// The certificates in use: this node's, and the roots.
    pub certificates: Vec<Vec<u8>>,
    /// `identity.policy` of the start.
    pub policy: Policy,
}

impl Shared {
    pub fn new(held: Held, parts: Parts, workers: &Workers) -> Self {
        let Parts { broker, level, bypass, relay } = parts;
        Self {
            broker,
            level,
            bypass,
            relay,
            workers: workers.watched.clone(),
            selection: workers.selection.clone(),
            beneath: workers.beneath.clone(),
            started: Instant::now(),
            held: Mutex::new(held),
            streams: AtomicUsize::new(0),
            tiers: Mutex::default(),
        }
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Whether packets may go past the kernel.
    pub(super) fn has_bypass(&self) -> bool {
        self.bypass.is_some()
    }

    /// Leaves the way past the kernel to another process, or takes it again.
    pub(super) fn set_bypass_aside(&self, aside: bool) {
        if let Some(bypass) = &self.bypass {
            bypass.set_aside(aside);
        }
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tiers(&self) -> MutexGuard<'_, HashMap<PeerId, LinkTier>> {
        self.tiers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn node(&self) -> String {
        self.held().config.node.name.clone()
    }

    pub fn port_name(&self) -> &'static str {
        self.selection.selected.label()
    }

    /// The port, as it works now.
    pub fn port(&self) -> Selection {
        let mut selection = self.selection.clone();
        let state = self.bypass.as_ref().map(Bypass::state);
        match state {
            None => {}
            Some(State::Active(mode)) => selection.mode = mode,
            Some(State::Beneath(reason)) => {
                selection.passed_over.insert(0, (selection.selected, reason));
                (selection.selected, selection.mode) = self.beneath.clone();
            }
        }
        selection
    }

    /// What became of the packets that the XDP program saw, by verdict; nothing without one.
    pub fn xdp_counters(&self) -> Vec<(String, u64)> {
        let active = self.bypass.as_ref().map(Bypass::state);
        if !matches!(active, Some(State::Active(_))) {
            return Vec::new();
        }
        self.broker.xdp_counters().unwrap_or_default()
    }

    pub fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// What the operator should mend on this host.
    pub fn host_warnings(&self) -> Vec<String> {
        let held = self.held();
        if held.config.tunnel.is_none() {
            return Vec::new();
        }
        let (peers, _) = held.pushed.merged(&held.config);
        let peers = || peers.iter().map(|known| &known.peer);
        let endpoints: Vec<_> = peers().flat_map(|p| &p.endpoints).map(|e| e.ip()).collect();
        let covers = |prefix: &Prefix| endpoints.iter().any(|ip| prefix.contains(*ip));
        forwarding_warnings(peers().flat_map(|peer| &peer.allowed_ips).any(covers))
    }

    pub fn snapshot_number(&self) -> Option<u64> {
        self.held().pushed.number()
    }

    /// The names of the peers in force, by number.
    pub fn peer_names(&self) -> Vec<(stoq::PeerId, String)> {
        let mut held = self.held();
        let (peers, _) = held.pushed.merged(&held.config);
        let peers = peers.into_iter().map(|known| known.peer);
        peers.map(|peer| (held.numbers.of(&peer.name), peer.name)).collect()
    }

    /// Gives every worker a command.
    pub fn send_all(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            if let Err(error) = worker.handle.send(command()) {
                tracing::error!("{error}");
            }
        }
    }

    /// Makes workers and kernel know the peers in force.
    pub fn use_peers(&self) -> Result<()> {
        let mut held = self.held();
        self.use_peers_of(&mut held)
    }

    pub(super) fn use_peers_of(&self, held: &mut Held) -> Result<()> {
        let (peers, left_out) = held.pushed.merged(&held.config);
        for what in left_out {
            tracing::warn!("pushed but left out: {what}");
        }
        let peering = Arc::new(held.numbers.peering(&peers, &held.config.services)?);
        self.install_routes(&held.config, &peers);
        self.send_all(|| Command::Peers(Arc::clone(&peering)));
        Ok(())
    }

    /// Makes the kernel's routes those of the peers' networks.
    fn install_routes(&self, config: &Config, peers: &[Known]) {
        let Some(tunnel) = &config.tunnel else { return };
        if !self.is_in_charge() {
            return;
        }
        let peers = if tunnel.routes == Routes::Off { &[] } else { peers };
        let peers = || peers.iter().map(|known| &known.peer);
        let prefixes: Vec<Prefix> = peers().flat_map(|p| p.allowed_ips.clone()).collect();
        let endpoints: Vec<_> = peers().flat_map(|p| &p.endpoints).map(|e| e.ip()).collect();
        for error in self.broker.set_routes(&prefixes, &endpoints) {
            tracing::error!("a route is missing: {error}");
        }
    }

    pub fn reload_and_log(&self) {
        match self.reload_now() {
            Ok(_) => tracing::info!("reloaded"),
            Err(error) => tracing::error!("reload refused, nothing changed: {error:#}"),
        }
    }

    /// Reads file and identity again. Returns the keys that need a restart.
    fn reload_now(&self) -> Result<Vec<String>> {
        self.may_change().map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let mut held = self.held();
        let read = self.broker.reload()?;
        let changed = Config::diff(&held.config, &read);
        let config = held.config.reloaded(read);
        let before = std::mem::replace(&mut held.config, config);
        if let Err(error) = self.take_up(&mut held) {
            held.config = before;
            self.broker.revert().context("taking the reload back")?;
            return Err(error);
        }
        self.level.set(held.config.log.level).context("setting the log level")?;
        let (peers, services) = (held.config.peers.len(), held.config.services.len());
        tracing::debug!(peers, services, "the file was read");
        for key in &changed {
            tracing::warn!("{key} changed, which takes effect at the next restart only");
        }
        if matches!(self.bypass.as_ref().map(Bypass::state), Some(State::Active(_)))
            && let Err(error) = self.broker.refresh_xdp()
        {
            tracing::error!("the XDP program keeps its old rules: {error}");
        }
        let grace = Duration::from_secs(held.config.identity.log_grace_s.into());
        held.keeper.set_grace(grace);
        self.use_outlive(&mut held)?;
        self.use_peers_of(&mut held)?;
        Ok(changed.into_iter().map(str::to_owned).collect())
    }

    /// Uses of another configuration what may be refused; if it is, nothing has changed.
    fn take_up(&self, held: &mut Held) -> Result<()> {
        let (peers, _) = held.pushed.merged(&held.config);
        held.numbers.peering(&peers, &held.config.services)?;
        self.renew(held).map(drop)
    }
}

impl Shared {
    /// Asks this worker for a stream.
    fn ask_for_stream(&self, worker: &Watched, wanted: Wanted) -> Result<(), StreamRefused> {
        let (reply, answer) = bounded(1);
        let wanted = Wanted { reply, ..wanted };
        let sent = worker.handle.send(Command::Stream(Box::new(wanted)));
        sent.map_err(|_| StreamRefused::Local)?;
        answer.recv_timeout(STREAM_ANSWER).unwrap_or(Err(StreamRefused::NoAnswer))
    }
}

/// What tells one identity from another: its certificate, then the roots that it trusts.
pub(super) fn certificates(credentials: &Credentials) -> Vec<Vec<u8>> {
    let identity = &credentials.identity;
    identity.chain().iter().chain(identity.roots()).map(|one| one.to_vec()).collect()
}

pub(super) fn refused(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::Refused, error.to_string())
}

impl Operations for Shared {
    fn may(&self, uid: u32, right: Right) -> bool {
        permits(&self.held().config.control, uid, right)
    }

    fn status(&self) -> Status {
        self.status_now()
    }

    fn reload(&self) -> Result<(Vec<String>, Vec<String>), Refusal> {
        let changed = self.reload_now().map_err(|error| refused(format!("{error:#}")))?;
        Ok((changed, Vec::new()))
    }

    fn drain(&self) -> Result<(), Refusal> {
        // The way of every end: the main thread drains.
        kill(Pid::this(), Signal::SIGTERM).map_err(refused)
    }

    fn upgrade(&self) -> Result<(u32, String), Refusal> {
        let Upgraded { pid, version } = self.hand_over()?;
        Ok((pid.as_raw().unsigned_abs(), version))
    }

    fn push(&self, snapshot: Snapshot) -> Result<Vec<String>, Refusal> {
        self.may_change()?;
        self.push_now(snapshot)
    }

    fn identity(&self, certificate: &Path, key: &Path) -> Result<Certificate, Refusal> {
        self.may_change()?;
        let mut held = self.held();
        let files = &held.config.identity;
        if [certificate, key] != [files.certificate.as_path(), files.key.as_path()] {
            let expected = [&files.certificate, &files.key].map(|path| path.display());
            return Err(refused(format!(
                "expected the configured files {} and {}, got {} and {}; write the identity there",
                expected[0],
                expected[1],
                certificate.display(),
                key.display()
            )));
        }
        let renewed = self.renew(&mut held).map_err(|error| refused(format!("{error:#}")))?;
        Ok(described(&renewed))
    }

    fn names(&self, address: IpAddr) -> Result<Vec<OwnedFd>, Refusal> {
        self.broker.open_names(address).map_err(refused)
    }

    fn capture(&self, point: CapturePoint) -> Result<Receiver<Copied>, Refusal> {
        let point = match point {
            CapturePoint::Tunnel => Point::Tunnel,
            CapturePoint::Wire => Point::Wire,
        };
        let (to, copies) = bounded(CAPTURE_QUEUE);
        self.send_all(|| Command::Tap(Tap::new(point, to.clone())));
        Ok(copies)
    }

    fn stream(
        &self,
        peer: &str,
        service: &str,
        socket: &UnixStream,
        greeting: &[u8],
    ) -> Result<(), Refusal> {
        let service: stoq::Service = service.parse().map_err(refused)?;
        let known = self.peer_names().into_iter().find(|(_, name)| name == peer);
        let (peer, _) = known.ok_or_else(|| {
            refused(format!("expected a configured peer, got `{peer}`; see `stoqctl status`"))
        })?;
        let first = self.streams.fetch_add(1, Ordering::Relaxed) % self.workers.len().max(1);
        let (before, from) = self.workers.split_at(first);
        let mut why = StreamRefused::Local;
        for worker in from.iter().chain(before) {
            let socket = socket.try_clone().map_err(refused)?;
            let (greeting, service) = (greeting.to_vec(), service.clone());
            // Replaced by the one that is waited for.
            let (reply, _) = bounded(1);
            let wanted = Wanted { peer, service, socket, greeting, reply };
            match self.ask_for_stream(worker, wanted) {
                Ok(()) => return Ok(()),
                // Another worker may have a connection, or room.
                Err(refusal @ StreamRefused::Open(_)) => why = refusal,
                Err(refusal) => return Err(refused(refusal)),
            }
        }
        Err(refused(why))
    }
}
