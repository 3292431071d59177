//! The broker: the small process that alone keeps capabilities.
//!
//! ```text
//!   stoqd (workers, control)                     broker
//!   no capabilities, user `stoq`                 CAP_NET_ADMIN, CAP_NET_BIND_SERVICE,
//!        │                                       CAP_NET_RAW, CAP_BPF, CAP_PERFMON,
//!        │                                       CAP_IPC_LOCK, CAP_DAC_READ_SEARCH
//!        │   request, at most 16 KiB JSON             │
//!        ├───────────── SOCK_SEQPACKET ──────────────▶│ checks it against the policy,
//!        │◀──── reply, descriptors (SCM_RIGHTS) ──────┤ which it read from root's file itself
//! ```
//!
//! stoqd forks it before any thread starts, then drops its own privilege for good
//! ([`privilege`]). The broker serves the fixed list in [`Request`], on the device, addresses,
//! prefixes and files that the configuration names, and nothing else. It ends when stoqd does (the
//! socket closes, and a signal on the parent's death stands behind that), and takes its routes and
//! rules away; the device goes with its last descriptor.
//!
//! [`Broker`] is stoqd's end. The XDP program is the broker's: it is detached when the broker ends,
//! however that comes about, for nobody else holds it.

mod bypass;
mod heir;
mod message;
mod names;
mod policy;
pub mod privilege;
mod routing;
mod server;
mod sys;
mod tunnel;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::unistd::Pid;
use stoq_port::xdp::{Memory, MemoryShape};
use stoq_tunnel::device::Offloads;

pub use bypass::MIRROR;
pub use message::{ConfiguredFile, ConnectionIds, Request, UdpSocket};
pub use policy::Policy;
#[cfg(test)]
pub(crate) use sys::fork_with;
pub(crate) use sys::{Channel, listen_fds};

use crate::config::{Config, Prefix};
use crate::inherit::Inherited;
use message::Reply;

/// Why the broker did not do it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// There are threads already.
    #[error("expected to fork the broker before any thread starts, got {0} threads; this is a bug")]
    Threads(usize),
    /// It could not be started.
    #[error("expected to start the broker, got: {0}; look at the limit of processes")]
    Start(#[source] io::Error),
    /// It does not answer.
    #[error(
        "expected an answer of the broker, got: {0}; restart stoqd, and report what its log says"
    )]
    Gone(#[source] io::Error),
    /// It answered, but not to this request.
    #[error("expected the broker's answer to {0}, got another; this is a bug")]
    Answer(&'static str),
    /// It refused, or the kernel did.
    #[error("{0}")]
    Refused(String),
}

/// A tunnel device.
#[derive(Debug)]
pub struct TunnelDevice {
    /// One descriptor for each queue.
    pub queues: Vec<OwnedFd>,
    /// What the kernel granted.
    pub granted: Offloads,
}

/// An open UDP socket.
#[derive(Debug)]
pub struct OpenSocket {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// Where it is bound.
    pub local: SocketAddr,
    /// What was not granted, each with what the operator can do.
    pub warnings: Vec<String>,
}

/// The attached XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// Index of the interface.
    pub interface: u32,
    /// It runs in the driver, not behind the allocation of an skb.
    pub native: bool,
}

/// stoqd's end of the broker. One request at a time.
#[derive(Debug)]
pub struct Broker {
    state: Mutex<State>,
    pid: Pid,
    /// The configuration file.
    path: PathBuf,
}

#[derive(Debug)]
struct State {
    channel: sys::Channel,
    /// The routes that were asked for, and whether each is kept beside the main table.
    routes: HashMap<Prefix, bool>,
}

impl Broker {
    /// Forks the broker of a daemon that reads `path`, with the device and the routes that were left to it.
    /// To be called while there is one thread.
    ///
    /// # Errors
    /// When threads run already, or the process cannot be made.
    pub fn start(
        path: &Path,
        config: &Config,
        inherited: &mut Inherited,
    ) -> Result<Self, BrokerError> {
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads != 1 {
            return Err(BrokerError::Threads(threads));
        }
        Self::fork(Policy::new(path, config), inherited)
    }

    /// Forks a broker with this policy.
    fn fork(policy: Policy, inherited: &mut Inherited) -> Result<Self, BrokerError> {
        let path = policy.path().to_owned();
        let tunnel = std::mem::take(&mut inherited.tunnel);
        let routes = std::mem::take(&mut inherited.will.routes);
        let routes = routes.into_iter().filter_map(|(to, beside)| Some((to.parse().ok()?, beside)));
        let routes: HashMap<Prefix, bool> = routes.collect();
        let has_elder = inherited.has_elder;
        let left = server::Left { tunnel, routes: routes.clone(), has_elder };
        let served = sys::fork_with(|channel| server::serve(channel, policy, left));
        let (channel, pid) = served.map_err(BrokerError::Start)?;
        Ok(Self { state: Mutex::new(State { channel, routes }), pid, path })
    }

    /// The routes there are, and whether each is kept beside the main table.
    #[must_use]
    pub fn routes(&self) -> Vec<(String, bool)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.routes.iter().map(|(prefix, beside)| (prefix.to_string(), *beside)).collect()
    }

    /// Starts another stoqd, which is to take over, with its end of a channel to this one.
    ///
    /// # Errors
    /// When there is no such program, or the kernel refuses.
    pub fn start_heir(&self, elder: OwnedFd) -> Result<Pid, BrokerError> {
        match self.call_with(&Request::StartHeir, &[elder])?.0 {
            Reply::Heir { pid } => Ok(Pid::from_raw(pid)),
            _ => Err(BrokerError::Answer("start_heir")),
        }
    }

    /// Ends it, if it still runs. Returns how it ended, in words.
    ///
    /// # Errors
    /// When there is none.
    pub fn end_heir(&self) -> Result<String, BrokerError> {
        match self.call(&Request::EndHeir)?.0 {
            Reply::Ended { how } => Ok(how),
            _ => Err(BrokerError::Answer("end_heir")),
        }
    }

    /// Leaves routes and rules to the next process when this one ends, or does not.
    ///
    /// # Errors
    /// When the broker is gone.
    pub fn keep_routes(&self, keep: bool) -> Result<(), BrokerError> {
        self.call(&Request::KeepRoutes { keep }).map(drop)
    }

    /// The broker's process.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets the broker read the configuration file again, and reads it through its descriptor: the
    /// prefixes that may become routes and the identity's files are as in the file from now on.
    ///
    /// # Errors
    /// When the file is refused; then nothing has changed.
    pub fn reload(&self) -> Result<Config, BrokerError> {
        let file = self.call(&Request::Reload)?.1.pop().ok_or(BrokerError::Answer("reload"))?;
        let config = Config::load_open(&self.path, File::from(file));
        config.map_err(|error| BrokerError::Refused(error.to_string()))
    }

    /// Takes back the last reload, whose certificate or peers were refused.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn revert(&self) -> Result<(), BrokerError> {
        self.call(&Request::Revert).map(drop)
    }

    /// Makes the configured device with so many queues, its addresses and its super-packet limit.
    ///
    /// # Errors
    /// When the configuration has no `[tunnel]` or the kernel refuses.
    pub fn create_tunnel(&self, queues: u16) -> Result<TunnelDevice, BrokerError> {
        match self.call(&Request::CreateTunnel { queues })? {
            (Reply::Tunnel { granted, anew }, fds) if fds.len() == usize::from(queues) => {
                if anew {
                    self.state.lock().unwrap_or_else(PoisonError::into_inner).routes.clear();
                }
                Ok(TunnelDevice { queues: fds, granted: Offloads::from_bits(granted) })
            }
            _ => Err(BrokerError::Answer("create_tunnel")),
        }
    }

    /// Sets the device's MTU in bytes and brings it up.
    ///
    /// # Errors
    /// When the MTU is out of bounds, there is no device, or the kernel refuses.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), BrokerError> {
        self.call(&Request::SetMtu { mtu }).map(drop)
    }

    /// Opens one of the configured sockets. Each worker has its own of every one.
    ///
    /// # Errors
    /// When the configuration has no such socket or the kernel refuses.
    pub fn open_socket(&self, which: UdpSocket) -> Result<OpenSocket, BrokerError> {
        let (reply, mut fds) = self.call(&Request::OpenSocket { which })?;
        match (reply, fds.pop()) {
            (Reply::Socket { local, warnings }, Some(fd)) => Ok(OpenSocket { fd, local, warnings }),
            _ => Err(BrokerError::Answer("open_socket")),
        }
    }

    /// Opens a UDP and a TCP socket, in this order, on port 53 of an address of the device or of loopback.
    ///
    /// # Errors
    /// When it is another address or the kernel refuses.
    pub fn open_names(&self, address: IpAddr) -> Result<Vec<OwnedFd>, BrokerError> {
        match self.call(&Request::OpenNames { address })? {
            (Reply::Names, fds) if fds.len() == 2 => Ok(fds),
            _ => Err(BrokerError::Answer("open_names")),
        }
    }

    /// Opens one of the identity's files for reading, which the daemon's user need not be able to.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_file(&self, which: ConfiguredFile) -> Result<File, BrokerError> {
        match self.call(&Request::OpenFile { which })?.1.pop() {
            Some(fd) => Ok(File::from(fd)),
            None => Err(BrokerError::Answer("open_file")),
        }
    }

    /// Attaches the XDP program to the configured interface.
    ///
    /// # Errors
    /// When no interface is configured, another program has it, or the kernel refuses.
    pub fn attach_xdp(&self, connection_ids: ConnectionIds) -> Result<AttachedXdp, BrokerError> {
        match self.call(&Request::AttachXdp { connection_ids })?.0 {
            Reply::Attached { interface, native } => Ok(AttachedXdp { interface, native }),
            _ => Err(BrokerError::Answer("attach_xdp")),
        }
    }

    /// Opens an AF_XDP socket for this memory, to be bound to a queue.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open_xdp_socket(&self, memory: &Memory) -> Result<OwnedFd, BrokerError> {
        let MemoryShape { frames, frame_len } = memory.shape();
        let file = memory.as_fd().try_clone_to_owned().map_err(BrokerError::Gone)?;
        let request = Request::OpenXdpSocket { frames, frame_len };
        let fd = self.call_with(&request, &[file])?.1.pop();
        fd.ok_or(BrokerError::Answer("open_xdp_socket"))
    }

    /// Lets the program send the packets of a queue to this socket.
    ///
    /// # Errors
    /// When there is no program, or the kernel refuses.
    pub fn steer_xdp(&self, queue: u32, socket: OwnedFd) -> Result<(), BrokerError> {
        self.call_with(&Request::SteerXdp { queue }, &[socket]).map(drop)
    }

    /// Tells the program which addresses this host has now.
    ///
    /// # Errors
    /// When there is no program, or the kernel refuses.
    pub fn refresh_xdp(&self) -> Result<(), BrokerError> {
        self.call(&Request::RefreshXdp).map(drop)
    }

    /// Detaches the program, if there is one.
    ///
    /// # Errors
    /// When the broker is gone.
    pub fn detach_xdp(&self) -> Result<(), BrokerError> {
        self.call(&Request::DetachXdp).map(drop)
    }

    /// Makes [`MIRROR`] a neighbour on the configured interface, to be reached at our own address there.
    ///
    /// # Errors
    /// When there is no such interface, or it is no Ethernet, or has no IPv6.
    pub fn add_mirror(&self) -> Result<(), BrokerError> {
        self.call(&Request::AddMirror).map(drop)
    }

    /// Takes [`MIRROR`] away.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_mirror(&self) -> Result<(), BrokerError> {
        self.call(&Request::RemoveMirror).map(drop)
    }

    /// What became of the packets that the program saw, by verdict.
    ///
    /// # Errors
    /// When there is no program, or the kernel refuses.
    pub fn xdp_counters(&self) -> Result<Vec<(String, u64)>, BrokerError> {
        match self.call(&Request::XdpCounters)?.0 {
            Reply::Counters(counters) => Ok(counters),
            _ => Err(BrokerError::Answer("xdp_counters")),
        }
    }

    /// Makes the routes of the device be those to `wanted`: removes what is too much, then adds
    /// what lacks. A prefix that covers one of the `endpoints` is kept beside the main table, so
    /// that outer packets do not take it. Returns what could not be done; the rest is done.
    pub fn set_routes(&self, wanted: &[Prefix], endpoints: &[IpAddr]) -> Vec<BrokerError> {
        let beside = |prefix: &Prefix| endpoints.iter().any(|ip| prefix.contains(*ip));
        let wanted: HashMap<Prefix, bool> = wanted.iter().map(|p| (*p, beside(p))).collect();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = Vec::new();
        let differs = |(prefix, beside): &(&Prefix, &bool)| wanted.get(prefix) != Some(*beside);
        let old: Vec<Prefix> = state.routes.iter().filter(differs).map(|(p, _)| *p).collect();
        for prefix in old {
            match call(&state.channel, &Request::RemoveRoute { prefix: prefix.to_string() }, &[]) {
                Ok(_) => drop(state.routes.remove(&prefix)),
                Err(error) => failed.push(error),
            }
        }
        for (prefix, beside) in wanted {
            if state.routes.contains_key(&prefix) {
                continue;
            }
            match call(
                &state.channel,
                &Request::AddRoute { prefix: prefix.to_string(), beside },
                &[],
            ) {
                Ok(_) => drop(state.routes.insert(prefix, beside)),
                Err(error) => failed.push(error),
            }
        }
        failed
    }

    fn call(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), BrokerError> {
        self.call_with(request, &[])
    }

    fn call_with(
        &self,
        request: &Request,
        fds: &[OwnedFd],
    ) -> Result<(Reply, Vec<OwnedFd>), BrokerError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        call(&state.channel, request, fds)
    }
}

fn call(
    channel: &sys::Channel,
    request: &Request,
    fds: &[OwnedFd],
) -> Result<(Reply, Vec<OwnedFd>), BrokerError> {
    let bytes = serde_json::to_vec(request).map_err(io::Error::other).map_err(BrokerError::Gone)?;
    channel.send(&bytes, fds).map_err(BrokerError::Gone)?;
    let (answer, fds) = channel.receive().map_err(BrokerError::Gone)?;
    let reply = serde_json::from_slice(&answer).map_err(io::Error::other);
    match reply.map_err(BrokerError::Gone)? {
        Reply::Refused { reason } => Err(BrokerError::Refused(reason)),
        reply => Ok((reply, fds)),
    }
}

#[cfg(test)]
mod tests;
