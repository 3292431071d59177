//! The elder's part: starts the heir, gives it what it needs, and takes everything back if it fails.

use std::collections::HashSet;
use std::io;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stoq_control::{ErrorCode, Refusal};
use stoq_port::PortError;
use stoq_port::steer::{self, Between};

use super::super::shared::{Shared, refused};
use super::{ASK_AFTER, LIMIT, ToElder, ToHeir, receive, send};
use crate::broker::{BrokerError, Channel};
use crate::inherit::{Kind, Living, VERSION, Will};
use crate::manager;
use crate::worker::{Command, Step};

/// How long a worker may take to leave the device: it answers within 50 ms, but may not run at once.
const YIELD_PATIENCE: Duration = Duration::from_millis(500);

/// Who carries the traffic now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Upgraded {
    /// Its process.
    pub pid: Pid,
    /// Its version.
    pub version: String,
}

/// Why the heir did not take over.
#[derive(Debug, thiserror::Error)]
enum HandOverError {
    /// The broker did not start it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Nothing could be prepared for it.
    #[error(
        "expected to prepare a hand-over, got: {0}; look at the limits of descriptors and memory"
    )]
    Prepare(#[source] io::Error),
    /// Its packets cannot be told from this one's.
    #[error(transparent)]
    Steer(#[from] PortError),
    /// It ended, or does not speak.
    #[error("expected the new process to {task}, got: {source}; its log says more")]
    Silent { task: &'static str, source: io::Error },
    /// It said something else.
    #[error(
        "expected the new process to {task}, got another message; install one version of stoqd"
    )]
    Disorder { task: &'static str },
    /// It has not all links.
    #[error(
        "expected all links within {} s, but the new process has none to {}; look at its log, and at \
         these peers'", LIMIT.as_secs(), .0.join(", ")
    )]
    Links(Vec<String>),
}

fn silent(task: &'static str) -> impl Fn(io::Error) -> HandOverError {
    move |source| HandOverError::Silent { task, source }
}

impl Shared {
    /// Hands over to another stoqd, started from the path of this one. Returns when it carries the traffic;
    /// this process ends soon after.
    ///
    /// # Errors
    /// Why this one goes on.
    pub(in super::super) fn hand_over(&self) -> Result<Upgraded, Refusal> {
        self.begin_hand_over()?;
        tracing::info!("handing over to a new process");
        let upgraded = self.hand_over_now();
        match upgraded {
            Ok(upgraded) => {
                tracing::info!(pid = %upgraded.pid, version = upgraded.version, "handed over");
                manager::main_is(upgraded.pid);
                self.end_hand_over(true);
                // The way of every end: the main thread leaves.
                kill(Pid::this(), Signal::SIGTERM).map_err(refused)?;
                Ok(upgraded)
            }
            Err(error) => {
                self.end_hand_over(false);
                let how = self.broker().end_heir().map(|how| format!(" (it ended: {how})"));
                let why = format!("{error}{}; this process goes on", how.unwrap_or_default());
                tracing::error!("not handed over: {why}");
                Err(Refusal::new(ErrorCode::Refused, why))
            }
        }
    }

    fn hand_over_now(&self) -> Result<Upgraded, HandOverError> {
        self.set_bypass_aside(true);
        let (channel, theirs) = Channel::pair().map_err(HandOverError::Prepare)?;
        let pid = self.broker().start_heir(theirs)?;
        match self.lead(&channel) {
            Ok(version) => {
                // The heir learns by its closing that this process has ended.
                self.relay.keep(channel);
                Ok(Upgraded { pid, version })
            }
            Err(error) => {
                // It sees that the channel is closed, and takes leave of the peers.
                drop(channel);
                self.take_back();
                Err(error)
            }
        }
    }

    /// Leads the heir through all steps. Returns its version.
    fn lead(&self, channel: &Channel) -> Result<String, HandOverError> {
        let links = self.links_up();
        self.give(channel, &links).map_err(HandOverError::Prepare)?;
        let task = "say how many workers it has";
        let ToElder::Workers(heirs) = receive(channel).map_err(silent(task))?.0 else {
            return Err(HandOverError::Disorder { task });
        };
        let heirs = NonZeroU8::new(heirs).ok_or(HandOverError::Disorder { task })?;
        self.steer(Some(heirs))?;
        let step = |step: Step| self.send_all(|| Command::HandOver(step.clone()));
        step(Step::Aside(true));
        step(Step::Ask(None));
        send(channel, &ToHeir::Steered, &[]).map_err(silent("open its sockets"))?;
        self.wait_for_links(channel)?;
        self.yield_device();
        self.stop_serving();
        self.broker().keep_routes(true)?;
        send(channel, &ToHeir::Go, &[]).map_err(silent("carry the traffic"))?;
        let task = "carry the traffic";
        loop {
            match receive(channel).map_err(silent(task))?.0 {
                ToElder::Serving { version } => return Ok(version),
                // From before it was told.
                ToElder::Missing(_) => {}
                ToElder::Workers(_) => return Err(HandOverError::Disorder { task }),
            }
        }
    }

    fn give(&self, channel: &Channel, links: &HashSet<String>) -> io::Result<()> {
        let boot = (self.relay.boot.started_ns, self.relay.boot.random);
        let (links, bypass) = (links.iter().cloned().collect(), self.has_bypass());
        let routes = self.broker().routes();
        let will = Will { version: VERSION, routes, living: Some(Living { boot, links, bypass }) };
        let (mut kinds, mut fds) = (vec![Kind::Will], vec![will.to_fd()?]);
        for (kind, fd) in self.relay.estate.iter() {
            kinds.push(kind);
            fds.push(fd.try_clone_to_owned()?);
        }
        send(channel, &ToHeir::Will(kinds), &fds)
    }

    /// Waits until the heir has every link that this process has.
    fn wait_for_links(&self, channel: &Channel) -> Result<(), HandOverError> {
        let begun = Instant::now();
        let mut asked = false;
        loop {
            let task = "build its links";
            let ToElder::Missing(mut missing) = receive(channel).map_err(silent(task))?.0 else {
                return Err(HandOverError::Disorder { task });
            };
            if !missing.is_empty() {
                // What was lost here meanwhile is not the heir's fault.
                let here = self.links_up();
                missing.retain(|name| here.contains(name));
            }
            if missing.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= LIMIT {
                return Err(HandOverError::Links(missing));
            }
            if begun.elapsed() >= ASK_AFTER && !std::mem::replace(&mut asked, true) {
                let names = self.peer_names().into_iter();
                let peers = names.filter(|(_, name)| missing.contains(name)).map(|(id, _)| id);
                let peers: Arc<[_]> = peers.collect();
                self.send_all(|| Command::HandOver(Step::Ask(Some(Arc::clone(&peers)))));
            }
        }
    }

    /// Has the workers leave the device, and waits until what they read from it has arrived.
    fn yield_device(&self) {
        let (reply, settled) = bounded(self.workers.len());
        self.send_all(|| Command::HandOver(Step::Yield(reply.clone())));
        let by = Instant::now() + YIELD_PATIENCE;
        for _ in &self.workers {
            if settled.recv_deadline(by).is_err() {
                tracing::warn!("a worker did not say that its packets have arrived");
                return;
            }
        }
    }

    /// After a hand-over that failed.
    fn take_back(&self) {
        if let Err(error) = self.steer(None) {
            tracing::error!("{error}");
        }
        if let Err(error) = self.broker().keep_routes(false) {
            tracing::error!("{error}");
        }
        self.send_all(|| Command::HandOver(Step::Serve));
        self.send_all(|| Command::HandOver(Step::Aside(false)));
        self.serve_again();
        self.set_bypass_aside(false);
    }

    /// Steers the packets of the listening sockets: among this process's workers, or to a heir as well.
    pub(super) fn steer(&self, heirs: Option<NonZeroU8>) -> Result<(), PortError> {
        let workers = u8::try_from(self.workers.len()).ok().and_then(NonZeroU8::new);
        let Some(workers) = workers else { return Ok(()) };
        for socket in &self.relay.group {
            match heirs {
                Some(heirs) => {
                    let elder = self.relay.generation;
                    steer::attach_between(socket, Between { elder, workers, heirs })?;
                }
                None => steer::attach(socket, workers)?,
            }
        }
        Ok(())
    }
}
