//! The elder's part: starts the heir, gives it what it needs, and takes everything back if it fails.

use std::collections::HashSet;
use std::io;
use std::num::NonZeroU8;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stoq_control::{ErrorCode, Refusal};
use stoq_port::PortError;
use stoq_port::steer::{self, Between};

use super::super::report::LinksUp;
use super::super::shared::{Shared, refused};
use super::{ASK_AFTER, Built, LIMIT, ToElder, ToHeir, receive, send};
use crate::broker::{BrokerError, Channel};
use crate::inherit::{Kind, Living, VERSION, Will};
use crate::manager;
use crate::worker::{Command, Step};

/// How long a worker may take to leave the device: it answers within 50 ms, but may not run at once.
const YIELD_PATIENCE: Duration = Duration::from_millis(500);

/// How often workers are asked which links there are before a hand-over is given up; each has half a second.
const ASKED_MAX: usize = 4;

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
    /// A worker of this process is stuck, or has failed.
    #[error("expected every worker to answer, got one that does not; look at the load of its core")]
    Worker,
    /// This process was told to end.
    #[error("expected a process that goes on, but it was told to end")]
    Ending,
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

/// Ends this process when the one that took over has ended before: it is no child of the service manager,
/// which would not notice as long as this one lives. That one learns by the closing of the channel that this
/// process has ended.
fn watch(channel: Channel) {
    let wait = move || {
        // It says nothing more: what wakes this is its end.
        while matches!(channel.wait(u16::MAX), Ok(false)) {}
        tracing::error!("the process that took over has ended; this one ends with it");
        std::process::exit(1);
    };
    if let Err(error) = std::thread::Builder::new().name("heir".into()).spawn(wait) {
        tracing::warn!("the end of the process that took over will not be noticed: {error}");
    }
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
        let (channel, theirs) = Channel::pair().map_err(HandOverError::Prepare)?;
        let pid = self.broker().start_heir(theirs)?;
        self.set_bypass_aside(true);
        match self.lead(&channel) {
            Ok(version) => {
                watch(channel);
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
        let links = self.links_known()?;
        let (kinds, fds) = self.estate(&links).map_err(HandOverError::Prepare)?;
        send(channel, &ToHeir::Will(kinds), &fds).map_err(silent("take what it is given"))?;
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
        self.yield_device()?;
        self.stop_serving();
        self.broker().keep_routes(true)?;
        send(channel, &ToHeir::Go, &[]).map_err(silent("carry the traffic"))?;
        let task = "carry the traffic";
        loop {
            match receive(channel).map_err(silent(task))?.0 {
                ToElder::Serving { version } => return Ok(version),
                // From before it was told.
                ToElder::Built(_) => {}
                ToElder::Workers(_) => return Err(HandOverError::Disorder { task }),
            }
        }
    }

    /// The links there are. What a busy worker has must not pass for lost.
    fn links_known(&self) -> Result<LinksUp, HandOverError> {
        let mut asked = (0..ASKED_MAX).map(|_| self.links_up());
        asked.find(|up| up.silent == 0).ok_or(HandOverError::Worker)
    }

    /// What the heir is given.
    fn estate(&self, links: &LinksUp) -> io::Result<(Vec<Kind>, Vec<OwnedFd>)> {
        let boot = self.relay.run.boot;
        let boot = (boot.started_ns, boot.random);
        let links = links.wholly.union(&links.partly).cloned().collect();
        let (bypass, generation) = (self.has_bypass(), self.relay.run.generation);
        let living = Some(Living { boot, links, bypass, generation });
        let will = Will { version: VERSION, routes: self.broker().routes(), living };
        let (mut kinds, mut fds) = (vec![Kind::Will], vec![will.to_fd()?]);
        for (kind, fd) in self.relay.estate.iter() {
            kinds.push(kind);
            fds.push(fd.try_clone_to_owned()?);
        }
        Ok((kinds, fds))
    }

    /// Waits until the heir has every link that this process has.
    fn wait_for_links(&self, channel: &Channel) -> Result<(), HandOverError> {
        let begun = Instant::now();
        let mut asked = false;
        loop {
            let task = "build its links";
            let ToElder::Built(mut built) = receive(channel).map_err(silent(task))?.0 else {
                return Err(HandOverError::Disorder { task });
            };
            if self.is_ending() {
                return Err(HandOverError::Ending);
            }
            self.excuse(&mut built);
            if built.is_complete() {
                return Ok(());
            }
            if begun.elapsed() >= LIMIT {
                return Err(HandOverError::Links([built.none, built.partly].concat()));
            }
            if begun.elapsed() >= ASK_AFTER && !std::mem::replace(&mut asked, true) {
                self.ask_peers_of(&built);
            }
        }
    }

    /// What was lost here meanwhile is not the heir's fault.
    fn excuse(&self, built: &mut Built) {
        if built.is_complete() {
            return;
        }
        let here = self.links_up();
        if here.silent == 0 {
            built.none.retain(|name| here.has(name));
            built.partly.retain(|name| here.wholly.contains(name));
        }
    }

    /// Has the peers dial that the heir has no link to.
    fn ask_peers_of(&self, built: &Built) {
        let missing: HashSet<&String> = built.none.iter().chain(&built.partly).collect();
        let names = self.peer_names().into_iter();
        let peers: Arc<[_]> =
            names.filter(|(_, name)| missing.contains(name)).map(|(id, _)| id).collect();
        self.send_all(|| Command::HandOver(Step::Ask(Some(Arc::clone(&peers)))));
    }

    /// Has the workers leave the device, and waits until what they read from it has arrived. Two processes
    /// that read it at once would mix up flows.
    fn yield_device(&self) -> Result<(), HandOverError> {
        let (reply, settled) = bounded(self.workers.len());
        self.send_all(|| Command::HandOver(Step::Yield(reply.clone())));
        let by = Instant::now() + YIELD_PATIENCE;
        for _ in &self.workers {
            settled.recv_deadline(by).map_err(|_| HandOverError::Worker)?;
        }
        Ok(())
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
                    let elder = self.relay.run.generation;
                    steer::attach_between(socket, Between { elder, workers, heirs })?;
                }
                None => steer::attach(socket, workers)?,
            }
        }
        Ok(())
    }
}
