//! What traffic notices of what an operator does routinely: one TCP connection and an echo request each
//! millisecond, from the host behind A to the one behind B, while something is done to the nodes.
//!
//! A [`Trial`] owns both nodes and the traffic. The benchmark `continuity` and the end-to-end tests run it.

use crate::bed::{Bed, Family, Side};
use crate::measure::echo::{Answered, Echoes};
use crate::measure::iperf::{Carried, Load, Stream};
use crate::measure::ping;
use crate::node::{DEVICE, Deployment, LINK_UP, Node, NodeConfig};
use crate::process::Process;
use crate::service::Manager;
use crate::workspace::{self, Binaries};
use crate::{Error, Result, wait};
use nix::sys::signal::Signal;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

/// Most requests in a hundred that may be lost while things are done.
pub const LOST_PERCENT: f64 = 0.1;

/// The longest stall in milliseconds that may be noticed, on a host where no time without events shows a
/// longer one.
pub const STALL_MS: f64 = 200.0;

/// The longest stall in milliseconds that a restart may make.
pub const RESTART_STALL_MS: f64 = 1000.0;

/// How long something may take to happen on a machine that others use too.
const SOON: Duration = Duration::from_secs(30);

/// Answers that show, after each event, that traffic goes on: half a second of them.
const GOES_ON: u64 = 500;

/// Bytes that show that a TCP connection goes on: more than what was under way in the tunnel.
const STREAM_GOES_ON: u64 = 256 << 10;

/// What says how a node is.
const STATUS: &str = "stoqctl status --json";

/// What asks a node to hand over.
const UPGRADE: &str = "stoqctl upgrade";

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its file is read again (SIGHUP).
    Reload,
    /// `stoqctl pki issue` writes another certificate and key, which a reload takes up.
    Certificate,
    /// `stoqctl upgrade` has another process take over.
    Upgrade,
    /// The program is replaced by the other one of two builds, and `stoqctl upgrade` has it take over.
    OtherBuild,
    /// It is ended and started again, as a service manager does it that keeps descriptors meanwhile.
    Restart,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Reload, Self::Certificate, Self::Upgrade, Self::OtherBuild, Self::Restart];

    /// What is promised of it.
    #[must_use]
    pub const fn promise(self) -> Promise {
        match self {
            Self::Reload | Self::Certificate | Self::Upgrade | Self::OtherBuild => {
                Promise { lost_percent: LOST_PERCENT, stall_ms: STALL_MS }
            }
            // What comes while nobody is there is lost.
            Self::Restart => Promise { lost_percent: 100.0, stall_ms: RESTART_STALL_MS },
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reload => "reload",
            Self::Certificate => "certificate",
            Self::Upgrade => "upgrade",
            Self::OtherBuild => "other-build",
            Self::Restart => "restart",
        })
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        let known = Self::ALL.iter().find(|event| event.to_string() == word);
        let expected = "reload, certificate, upgrade, other-build or restart";
        known.copied().ok_or_else(|| format!("expected {expected}, got `{word}`"))
    }
}

/// What traffic may notice at most.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Requests lost, in percent.
    pub lost_percent: f64,
    /// The longest stall in milliseconds, on a host where no time without events shows a longer one.
    pub stall_ms: f64,
}

/// What traffic noticed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Noticed {
    /// Requests of a time in which nothing was done.
    pub quiet: Answered,
    /// Requests while things were done.
    pub meanwhile: Answered,
    /// The TCP connection, over both times. That it is here says that it was not lost.
    pub tcp: Carried,
}

impl Noticed {
    /// Requests lost while things were done, in percent.
    #[must_use]
    pub fn lost_percent(&self) -> f64 {
        self.meanwhile.lost_percent()
    }

    /// Whether it is within what is promised.
    #[must_use]
    pub fn keeps(&self, promise: Promise) -> bool {
        let bound = self.quiet.stall_ms.max(promise.stall_ms);
        self.lost_percent() <= promise.lost_percent && self.meanwhile.stall_ms <= bound
    }
}

impl fmt::Display for Noticed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quiet, meanwhile, tcp } = self;
        write!(
            f,
            "no TCP connection lost, {} of {} requests lost ({:.3} %), longest stall {:.1} ms \
             (with nothing done: {} of {} lost, {:.1} ms); TCP {:.0} Mbit/s, {} segments again, \
             longest silence {} ms",
            meanwhile.lost,
            meanwhile.sent,
            self.lost_percent(),
            meanwhile.stall_ms,
            quiet.lost,
            quiet.sent,
            quiet.stall_ms,
            tcp.mbps,
            tcp.retransmits,
            tcp.silence_ms
        )
    }
}

/// Two nodes with traffic through them.
#[derive(Debug)]
pub struct Trial<'bed> {
    deployment: &'bed Deployment<'bed>,
    configs: [NodeConfig; 2],
    managers: [Manager; 2],
    nodes: [Node; 2],
    restarted: bool,
    echoes: Echoes,
    stream: Stream,
    quiet: Answered,
    begin: Instant,
}

impl<'bed> Trial<'bed> {
    /// Starts A and B with these configurations, and the traffic; then nothing is done until `quiet`
    /// requests are answered.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start(
        deployment: &'bed Deployment<'bed>,
        configs: [NodeConfig; 2],
        load: Load,
        quiet: u64,
    ) -> Result<Self> {
        let bed: &Bed = deployment.bed;
        let (managers, nodes) = start_both(deployment, &configs)?;
        let hosts = (bed.a.site_host()?, bed.b.site_host()?);
        for family in Family::BOTH {
            ping::wait_for_answer(hosts.0, Side::B.host(family), LINK_UP)?;
        }
        let stream = Stream::start(hosts, Side::B.host(Family::V4), load, bed.folder())?;
        let echoes = Echoes::start(hosts.0, Side::B.host(Family::V6))?;
        // A stream that begins finds its speed: that is no quiet time.
        echoes.wait_for_more(GOES_ON, SOON)?;
        let begin = Instant::now();
        echoes.wait_for_more(quiet, SOON)?;
        let quiet = echoes.since(begin)?;
        let begin = Instant::now();
        let restarted = false;
        Ok(Self { deployment, configs, managers, nodes, restarted, echoes, stream, quiet, begin })
    }

    /// A node.
    pub fn node(&mut self, side: Side) -> &mut Node {
        &mut self.nodes[place(side)]
    }

    /// Has an event happen to a node, and waits until it has taken effect and traffic goes on.
    ///
    /// # Errors
    /// The step that failed.
    pub fn happen(&mut self, event: Event, side: Side) -> Result<()> {
        match event {
            Event::Reload => reload(self.node(side))?,
            Event::Certificate => self.swap_certificate(side)?,
            Event::Upgrade => self.upgrade(side)?,
            Event::OtherBuild => self.other_build(side)?,
            Event::Restart => self.restart(side)?,
        }
        self.goes_on()
    }

    /// Waits until traffic has gone on for a while.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it does not.
    pub fn goes_on(&self) -> Result<()> {
        let goal = self.stream.received()? + STREAM_GOES_ON;
        self.echoes.wait_for_more(GOES_ON, SOON)?;
        wait::until("the TCP connection going on", SOON, || match self.stream.received() {
            Ok(received) if received >= goal => Ok(()),
            received => Err(format!("{received:?} of {goal} bytes")),
        })
    }

    /// Asks for an upgrade that must be refused, and does something meanwhile. Waits until traffic has gone on
    /// for a while, and gives the reason that was told.
    ///
    /// # Errors
    /// An upgrade that was made, traffic that does not go on, or routes that are not as before.
    pub fn refuse(
        &self,
        side: Side,
        meanwhile: impl FnOnce(&Node) -> Result<()>,
    ) -> Result<String> {
        let (node, routes) = (&self.nodes[place(side)], self.routes(side)?);
        let (answer, done) = thread::scope(|scope| {
            let asked = scope.spawn(|| node.ctl(&["upgrade"]));
            let done = meanwhile(node);
            (asked.join(), done)
        });
        done?;
        let why = match answer {
            Ok(Err(Error::Command { output, .. })) => output,
            Ok(Err(error)) => return Err(error),
            other => return Err(unexpected(UPGRADE, "a refusal", &format!("{other:?}"))),
        };
        let now = self.routes(side)?;
        if now != routes {
            return Err(unexpected("ip route", &routes, &now));
        }
        self.goes_on()?;
        Ok(why)
    }

    /// The number of a node's tunnel device: one that was made anew has another.
    ///
    /// # Errors
    /// [`Error::Command`] when there is none.
    pub fn device(&self, side: Side) -> Result<String> {
        let told = self.ip(side, &format!("-oneline link show {DEVICE}"))?;
        Ok(told.split(':').next().unwrap_or_default().to_owned())
    }

    /// A node's routes through its tunnel device, of both families.
    fn routes(&self, side: Side) -> Result<String> {
        let of = |family| self.ip(side, &format!("{family} route show dev {DEVICE}"));
        Ok(of("-4")? + &of("-6")?)
    }

    fn ip(&self, side: Side, words: &str) -> Result<String> {
        self.deployment.bed.edge(side).namespace.ip(words)
    }

    /// Has another process take over on a node, and waits for the end of the one before.
    fn upgrade(&mut self, side: Side) -> Result<()> {
        let elder = self.node(side).upgrade()?;
        self.leave(side, elder)
    }

    /// Has the other build of two take over, in a deployment that has a program of its own.
    fn other_build(&mut self, side: Side) -> Result<()> {
        let builds = [Binaries::find()?.stoqd, workspace::other_stoqd()?];
        let running = self.node(side).program()?;
        let is_other = |build: &&PathBuf| fs::read(build).is_ok_and(|bytes| bytes != running);
        let next = builds.iter().find(is_other).ok_or_else(|| {
            unexpected(&builds[1].display().to_string(), "another build", "the same bytes")
        })?;
        self.deployment.replace_program(next)?;
        self.upgrade(side)?;
        if self.node(side).program()? == running {
            return Err(unexpected(UPGRADE, "the other build", "the same program"));
        }
        Ok(())
    }

    /// Has another process take over on A and on B at about the same time, and waits until traffic goes on.
    ///
    /// # Errors
    /// The step that failed.
    pub fn upgrade_both(&mut self) -> Result<()> {
        let elders =
            [(Side::A, self.node(Side::A).upgrade()?), (Side::B, self.node(Side::B).upgrade()?)];
        elders.into_iter().try_for_each(|(side, elder)| self.leave(side, elder))?;
        self.goes_on()
    }

    /// Waits for the end of a process that has handed over.
    fn leave(&mut self, side: Side, mut elder: Process) -> Result<()> {
        let status = elder.wait_exit(SOON)?;
        if !status.success() {
            return Err(elder.failed(&status.to_string()));
        }
        let pid = self.node(side).process.pid();
        let manager = &self.managers[place(side)];
        wait::until("MAINPID of the process that took over", SOON, || match manager.main_pid() {
            Some(known) if known == pid => Ok(()),
            known => Err(format!("{known:?} instead of {pid}")),
        })
    }

    /// Ends a node and starts it again, with what its service manager kept.
    fn restart(&mut self, side: Side) -> Result<()> {
        if !self.restarted {
            no_link_was_lost(&self.nodes)?;
        }
        self.restarted = true;
        let manager = &self.managers[place(side)];
        let node = &mut self.nodes[place(side)];
        node.process.signal(Signal::SIGTERM)?;
        let status = node.process.wait_exit(SOON)?;
        if !status.success() {
            return Err(node.process.failed(&status.to_string()));
        }
        *node = self.deployment.start_under(manager, side, &self.configs[place(side)])?;
        self.nodes.iter_mut().try_for_each(|node| node.wait_for_link("up", LINK_UP).map(drop))
    }

    fn swap_certificate(&mut self, side: Side) -> Result<()> {
        let mesh = &self.deployment.mesh;
        let before = serial(self.node(side))?;
        mesh.issue(side.node(), &mesh.identity(side))?;
        let node = self.node(side);
        reload(node)?;
        let now = serial(node)?;
        if now == before {
            return Err(unexpected(STATUS, "another certificate in use", &now));
        }
        Ok(())
    }

    /// What became so far of the requests since something was done first.
    ///
    /// # Errors
    /// [`Error::Timeout`] when nothing is answered any more.
    pub fn so_far(&self) -> Result<Answered> {
        self.echoes.since(self.begin)
    }

    /// Ends the traffic and says what it noticed.
    ///
    /// # Errors
    /// A TCP connection that was lost, a node that ended, or a link that went down without a restart.
    pub fn finish(mut self) -> Result<Noticed> {
        let meanwhile = self.so_far()?;
        let tcp = self.stream.finish()?;
        self.echoes.finish()?;
        for node in &mut self.nodes {
            if let Some(status) = node.process.try_exit() {
                return Err(node.process.failed(&status.to_string()));
            }
        }
        if !self.restarted {
            no_link_was_lost(&self.nodes)?;
        }
        Ok(Noticed { quiet: self.quiet, meanwhile, tcp })
    }
}

/// Has a node read its files again, and waits until it has.
///
/// # Errors
/// [`Error::Timeout`] with the log's end when it does not say so.
pub fn reload(node: &mut Node) -> Result<()> {
    let before = reloads(&node.process.log());
    node.process.signal(Signal::SIGHUP)?;
    wait::until("a reload", SOON, || {
        let log = node.process.log();
        let last = log.lines().last().unwrap_or_default().to_owned();
        if reloads(&log) > before { Ok(()) } else { Err(last) }
    })
}

fn reloads(log: &str) -> usize {
    log.lines().filter(|line| line.ends_with("reloaded")).count()
}

fn serial(node: &Node) -> Result<String> {
    let status = node.status()?;
    let serial = status["certificate"]["serial"].as_str();
    serial
        .map(str::to_owned)
        .ok_or_else(|| unexpected(STATUS, "a certificate's serial", &status.to_string()))
}

fn unexpected(what: &str, expected: &str, got: &str) -> Error {
    let [what, expected, got] = [what, expected, got].map(str::to_owned);
    Error::Output { what, expected, got }
}

/// Starts both nodes, each under a service manager, and waits for the link.
fn start_both(
    deployment: &Deployment,
    configs: &[NodeConfig; 2],
) -> Result<([Manager; 2], [Node; 2])> {
    let manager = |side: Side| {
        Manager::start(&deployment.bed.folder().join(format!("notify-{}.sock", side.node())))
    };
    let managers = [manager(Side::A)?, manager(Side::B)?];
    let start =
        |side: Side| deployment.start_under(&managers[place(side)], side, &configs[place(side)]);
    let mut nodes = [start(Side::A)?, start(Side::B)?];
    nodes.iter_mut().try_for_each(|node| node.wait_for_link("up", LINK_UP).map(drop))?;
    Ok((managers, nodes))
}

fn no_link_was_lost(nodes: &[Node]) -> Result<()> {
    let mut processes = nodes.iter().map(|node| &node.process);
    match processes.find(|process| process.log().contains("link down")) {
        Some(process) => Err(process.failed("a link that went down")),
        None => Ok(()),
    }
}

fn place(side: Side) -> usize {
    usize::from(side == Side::B)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised() {
        let answered = |lost, stall_ms| Answered { sent: 10_000, lost, stall_ms };
        let tcp = Carried { mbps: 20.0, retransmits: 0, silence_ms: 0 };
        let noticed = |quiet, meanwhile| Noticed { quiet, meanwhile, tcp };
        assert!(noticed(answered(0, 1.0), answered(10, 200.0)).keeps(Event::Reload.promise()));
        assert!(!noticed(answered(0, 1.0), answered(11, 1.0)).keeps(Event::Reload.promise()));
        assert!(!noticed(answered(0, 1.0), answered(0, 201.0)).keeps(Event::Reload.promise()));
        let slow = noticed(answered(0, 300.0), answered(0, 250.0));
        assert!(slow.keeps(Event::Reload.promise()), "the host stalls by itself");
        let restart = |stall_ms| noticed(answered(0, 1.0), answered(400, stall_ms));
        assert!(restart(1000.0).keeps(Event::Restart.promise()));
        assert!(!restart(1001.0).keeps(Event::Restart.promise()));
    }
}
