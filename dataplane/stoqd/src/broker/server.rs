//! The broker's side: takes requests, checks each against the policy, carries it out, and cleans up
//! when stoqd is gone. Runs in its own process, single-threaded; started by [`super::Broker`].

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use caps::{CapSet, Capability};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use stoq_port::PortError;
use stoq_port::socket::{self, SocketSpec};

use super::bypass::{self, Bypass};
use super::heir;
use super::message::{Reply, Request, UdpSocket};
use super::names;
use super::policy::Policy;
use super::privilege;
use super::routing;
use super::sys::Channel;
use crate::config::Prefix;
use crate::netlink::{LinkSettings, Netlink, Table};

/// What the broker keeps: to change links, addresses, routes and marks, and to attach an XDP program
/// (NET_ADMIN); to bind low ports; to load the program and change its maps (BPF), which computes with
/// pointers into packets (PERFMON); to open AF_XDP sockets (NET_RAW) and lock their memory (IPC_LOCK); to
/// read an identity that the control plane's user has written (DAC_READ_SEARCH), in force only then; and for
/// a process that takes over, which has to give up all of this as this one did (SETUID, SETGID, SETPCAP),
/// never in force here.
const KEPT: [Capability; 10] = [
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_IPC_LOCK,
    Capability::CAP_NET_RAW,
];

/// Those of them that are in force for a moment, or for another process, only.
const AT_REST: [Capability; 4] = [
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
];

/// Most routes at once: ten thousand peers with a few prefixes each.
const ROUTES_MAX: usize = 65_536;

/// The signal of stoqd's death. Not one that a service manager sends: SIGTERM to the whole group
/// must leave the broker alive until stoqd has drained.
const PARENT_DIED: Signal = Signal::SIGUSR2;

/// What an earlier process has left.
pub(super) struct Left {
    /// Queues of the device.
    pub tunnel: Vec<OwnedFd>,
    /// Routes, and whether each is kept beside the main table.
    pub routes: HashMap<Prefix, bool>,
    /// It runs still, and hands over.
    pub has_elder: bool,
}

/// Serves until stoqd is gone, then cleans up.
pub(super) fn serve(channel: Channel, policy: Policy, left: Left) {
    let parent = nix::unistd::getppid();
    let Ok(death) = watch_parent() else { return };
    // Without these the kernel refuses by itself what is not allowed; a broker that was started
    // without privilege has none to keep.
    let _ = prctl::set_name(c"stoqd-broker");
    let _ = privilege::keep_only(&KEPT);
    for capability in AT_REST {
        let _ = caps::drop(None, CapSet::Effective, capability);
    }
    let mut server = Server::new(policy, left);
    if server.routes.is_empty() {
        server.remove_stale();
    }
    // A parent that died before the signal was asked for has left this process to another.
    while nix::unistd::getppid() == parent && wait(&channel, &death) {
        let Ok((bytes, fds)) = channel.receive() else { break };
        let (reply, fds) = match serde_json::from_slice(&bytes) {
            Ok(request) => server.answer(request, fds),
            Err(error) => (refused(error), Vec::new()),
        };
        let Ok(bytes) = serde_json::to_vec(&reply) else { break };
        if channel.send(&bytes, &fds).is_err() {
            break;
        }
    }
    if !server.keeps_routes {
        server.clean_up();
    }
}

/// Blocks the signals that are meant for stoqd, and asks for one on its death.
fn watch_parent() -> nix::Result<SignalFd> {
    use Signal::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1};
    let mut blocked = SigSet::empty();
    for signal in [SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, PARENT_DIED] {
        blocked.add(signal);
    }
    blocked.thread_set_mask()?;
    prctl::set_pdeathsig(PARENT_DIED)?;
    let mut death = SigSet::empty();
    death.add(PARENT_DIED);
    SignalFd::new(&death)
}

/// Waits for a request; false when stoqd is gone.
fn wait(channel: &Channel, death: &SignalFd) -> bool {
    let mut fds = [
        PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        PollFd::new(death.as_fd(), PollFlags::POLLIN),
    ];
    let readable = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| r.contains(PollFlags::POLLIN));
    poll(&mut fds, PollTimeout::NONE).is_ok() && readable(&fds[0]) && !readable(&fds[1])
}

fn refused(reason: impl Display) -> Reply {
    Reply::Refused { reason: reason.to_string() }
}

/// The state of the broker.
pub(super) struct Server {
    pub(super) policy: Policy,
    /// Index of the device that it made.
    pub(super) device: Option<u32>,
    /// Its routes and their tables.
    pub(super) routes: HashMap<Prefix, Table>,
    /// Opened at the first use.
    netlink: Option<Netlink>,
    pub(super) bypass: Bypass,
    /// Queues of a device that another process made.
    pub(super) left: Vec<OwnedFd>,
    /// That process runs still.
    pub(super) has_elder: bool,
    /// Where this program was when it was started: what lies there later may be newer.
    program: io::Result<PathBuf>,
    /// The process that is to take over.
    heir: Option<Child>,
    /// Routes and rules are left to the next process.
    keeps_routes: bool,
}

pub(super) type Answer = Result<(Reply, Vec<OwnedFd>), String>;

impl Server {
    fn new(policy: Policy, left: Left) -> Self {
        let table = |prefix, beside| if beside { routing::table(prefix) } else { Table::MAIN };
        let routes = left.routes.into_iter().map(|(prefix, at)| (prefix, table(prefix, at)));
        Self {
            policy,
            device: None,
            routes: routes.collect(),
            netlink: None,
            bypass: Bypass::default(),
            left: left.tunnel,
            has_elder: left.has_elder,
            program: program(),
            heir: None,
            // Until it is this process' turn: one that never gets it must not take the elder's away.
            keeps_routes: left.has_elder,
        }
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) -> (Reply, Vec<OwnedFd>) {
        let done = |result: Result<(), String>| result.map(|()| (Reply::Done, Vec::new()));
        let answer = match request {
            Request::Reload => self.reload(),
            Request::Revert => {
                self.policy.revert();
                done(Ok(()))
            }
            Request::CreateTunnel { queues } => self.create_tunnel(queues),
            Request::SetMtu { mtu } => done(self.set_mtu(mtu)),
            Request::AddRoute { prefix, beside } => done(self.add_route(&prefix, beside)),
            Request::RemoveRoute { prefix } => done(self.remove_route(&prefix)),
            Request::OpenSocket { which } => self.open_socket(which),
            Request::OpenNames { address } => self.open_names(address),
            Request::OpenFile { which } => opened(self.policy.file(which)),
            Request::AttachXdp { connection_ids } => self.attach_xdp(connection_ids),
            Request::OpenXdpSocket { frames, frame_len } => {
                bypass::open_socket((frames, frame_len), fds)
            }
            Request::SteerXdp { queue } => done(self.steer_xdp(queue, fds)),
            Request::RefreshXdp => done(self.refresh_xdp()),
            Request::DetachXdp => done(self.detach_xdp()),
            Request::AddMirror => done(self.add_mirror()),
            Request::RemoveMirror => done(self.remove_mirror()),
            Request::XdpCounters => self.xdp_counters(),
            Request::StartHeir => self.start_heir(fds),
            Request::EndHeir => self.end_heir(),
            Request::KeepRoutes { keep } => {
                self.keeps_routes = keep;
                done(Ok(()))
            }
        };
        answer.unwrap_or_else(|reason| (refused(reason), Vec::new()))
    }

    pub(super) fn netlink(&mut self) -> Result<&mut Netlink, String> {
        if self.netlink.is_none() {
            self.netlink = Some(Netlink::open().map_err(text)?);
        }
        self.netlink.as_mut().ok_or_else(|| "expected a netlink socket, got none".to_owned())
    }

    fn device(&self) -> Result<u32, String> {
        let none = || "expected the device to be made first, got none; this is a bug".to_owned();
        self.device.ok_or_else(none)
    }

    fn reload(&mut self) -> Answer {
        self.policy.reload().map_err(text)?;
        opened(self.policy.path())
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), String> {
        let mtu = Some(self.policy.mtu(mtu)?);
        let index = self.device()?;
        let settings = LinkSettings { mtu, up: Some(true), ..LinkSettings::default() };
        self.netlink()?.set_link(index, settings).map_err(text)
    }

    fn add_route(&mut self, prefix: &str, beside: bool) -> Result<(), String> {
        let prefix = self.policy.route(prefix)?;
        let index = self.device()?;
        if self.routes.len() >= ROUTES_MAX {
            return Err(format!("expected at most {ROUTES_MAX} routes, got one more; use fewer"));
        }
        let mark = self.policy.mark;
        let table = if beside { routing::table(prefix) } else { Table::MAIN };
        let netlink = self.netlink()?;
        netlink.add_route(index, prefix, table).map_err(text)?;
        if beside {
            for rule in routing::rules(prefix, mark) {
                netlink.add_rule(rule).map_err(text)?;
            }
        }
        self.routes.insert(prefix, table);
        Ok(())
    }

    /// What was added may be removed, even if the configuration does not allow it any more.
    fn remove_route(&mut self, prefix: &str) -> Result<(), String> {
        let prefix: Prefix = prefix.parse().map_err(text)?;
        let index = self.device()?;
        let mark = self.policy.mark;
        let Some(table) = self.routes.remove(&prefix) else {
            return Err(format!("expected a route that the broker added, got {prefix}"));
        };
        let same_rules = |(other, at): (&Prefix, &Table)| {
            *at == table && other.address().is_ipv4() == prefix.address().is_ipv4()
        };
        let rules_unused = table != Table::MAIN && !self.routes.iter().any(same_rules);
        let netlink = self.netlink()?;
        netlink.remove_route(index, prefix, table).map_err(text)?;
        if rules_unused {
            for rule in routing::rules(prefix, mark) {
                netlink.remove_rule(rule).map_err(text)?;
            }
        }
        Ok(())
    }

    fn open_socket(&mut self, which: UdpSocket) -> Answer {
        let (bind, reuse_port) = self.policy.socket(which)?;
        let mark = Some(self.policy.mark);
        let spec = SocketSpec { reuse_port, mark, ..SocketSpec::new(bind) };
        let mut warnings = Vec::new();
        let opened = match socket::open(&spec) {
            Err(error @ PortError::Socket { step: "mark", .. }) => {
                warnings.push(format!(
                    "{error}; until then a route that covers a peer's endpoint stops the tunnel"
                ));
                socket::open(&SocketSpec { mark: None, ..spec })
            }
            other => other,
        };
        let opened = opened.map_err(text)?;
        self.bypass.note_port(opened.local.port());
        warnings.extend(opened.warnings.iter().map(ToString::to_string));
        Ok((Reply::Socket { local: opened.local, warnings }, vec![opened.fd]))
    }

    fn open_names(&self, address: IpAddr) -> Answer {
        let opened = names::open(self.policy.names(address)?)?;
        Ok((Reply::Names, opened))
    }

    /// One at a time: two would take over from one.
    fn start_heir(&mut self, mut fds: Vec<OwnedFd>) -> Answer {
        let elder = fds.pop().ok_or_else(|| "expected a channel beside it, got none".to_owned())?;
        if self.heir.as_mut().is_some_and(|heir| matches!(heir.try_wait(), Ok(None))) {
            return Err("expected no other hand-over, got one under way".to_owned());
        }
        let program = self.program.as_ref().map_err(text)?;
        let started = heir::start(program, self.policy.path(), &elder);
        let at = program.display();
        let child = started.map_err(|error| format!("expected to start {at}, got: {error}"))?;
        let pid = i32::try_from(child.id()).map_err(text)?;
        self.heir = Some(child);
        Ok((Reply::Heir { pid }, Vec::new()))
    }

    fn end_heir(&mut self) -> Answer {
        let none = || "expected a process that takes over, got none".to_owned();
        let mut heir = self.heir.take().ok_or_else(none)?;
        let how = heir::end(&mut heir).map_err(text)?;
        Ok((Reply::Ended { how: how.to_string() }, Vec::new()))
    }

    /// Rules that a killed run left behind would still be asked for every packet.
    pub(super) fn remove_stale(&mut self) {
        if self.policy.tunnel.is_some()
            && let Ok(netlink) = self.netlink()
        {
            let _ = netlink.remove_stale_rules(routing::PRIORITIES);
        }
    }

    fn clean_up(&mut self) {
        let routes: Vec<String> = self.routes.keys().map(Prefix::to_string).collect();
        for prefix in routes {
            // The device may be gone already, and its routes with it; rules are not.
            let _ = self.remove_route(&prefix);
        }
    }
}

/// The path that this program was started by, which may be a link to another version tomorrow, if it is a
/// whole one; else what the kernel says.
fn program() -> io::Result<PathBuf> {
    let named = std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
    named.map_or_else(std::env::current_exe, Ok)
}

/// A file of the configuration, for reading.
fn opened(path: &Path) -> Answer {
    let failed = |error: io::Error| {
        format!("expected to read {}, got: {error}; look at path and mode", path.display())
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_others(path).map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    Ok((Reply::File, vec![OwnedFd::from(file)]))
}

/// Opens a file that only another user may read. It has to belong to the owner of its directory: a link that
/// this owner puts there must not lead to somebody else's file.
fn open_others(path: &Path) -> io::Result<File> {
    let capability = Capability::CAP_DAC_READ_SEARCH;
    caps::raise(None, CapSet::Effective, capability).map_err(io::Error::other)?;
    let opened = File::open(path);
    let owner = path.parent().map_or(Ok(0), |at| Ok(std::fs::metadata(at)?.uid()));
    caps::drop(None, CapSet::Effective, capability).map_err(io::Error::other)?;
    let (file, owner): (File, u32) = (opened?, owner.map_err(|error: io::Error| error)?);
    let got = file.metadata()?.uid();
    if got != owner {
        let why = format!("it belongs to uid {got}, and its directory to uid {owner}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(file)
}

/// The error, and whether the capability for it lacks.
pub(super) fn lacking(error: impl Display) -> String {
    let has = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN);
    let why = if matches!(has, Ok(true)) { "" } else { "; stoqd lacks CAP_NET_ADMIN" };
    format!("{error}{why}")
}

pub(super) fn text(error: impl Display) -> String {
    error.to_string()
}
