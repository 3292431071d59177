//! Links, addresses, routes and rules of the kernel, by rtnetlink (RFC 3549).
//!
//! Synchronous and bounded: one socket, one request at a time, each answered or timed out. Owned by
//! the broker, which alone may change anything; the daemon uses a socket of its own to look up
//! routes and MTUs, which needs no privilege. It asks for what is needed here and nothing else.

mod forwarding;
mod interface;
mod link;
mod monitor;
mod neighbour;
mod route;
mod rule;

use std::io::{self, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::{self, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

pub use forwarding::{forwarding_warnings, forwards};
pub use interface::Interface;
pub use link::LinkSettings;
pub use monitor::{Change, Monitor};
pub use neighbour::Neighbour;
pub use route::{PROTOCOL, Path, Table};
pub use rule::Rule;

/// How long the kernel may take for an answer: it answers within the system call, so this only ends
/// a wait that would never end.
const TIMEOUT_S: i64 = 2;

/// Largest datagram of the kernel: dumps come in pieces of at most 32 KiB (netlink(7)).
const DATAGRAM_MAX: usize = 32 << 10;

/// Most messages of one answer: rules of a host with thousands of them.
const ANSWER_MAX: usize = 8192;

/// Why the kernel did not do it.
#[derive(Debug, thiserror::Error)]
#[error("expected the kernel to {task}, got: {source}; {advice}")]
pub struct NetlinkError {
    /// What was asked.
    pub task: String,
    /// What the kernel said.
    pub source: io::Error,
    /// What to do.
    pub advice: &'static str,
}

impl NetlinkError {
    fn new(task: String, source: io::Error) -> Self {
        let advice = match source.raw_os_error() {
            Some(libc_error::EPERM) => "give stoqd CAP_NET_ADMIN",
            Some(libc_error::EACCES) => {
                "look whether disable_ipv6 is set, or give it CAP_NET_ADMIN"
            }
            Some(libc_error::EEXIST) => "remove what is there, or choose another",
            Some(libc_error::ENODEV) => "look whether the interface is still there",
            Some(libc_error::EOPNOTSUPP | libc_error::EINVAL) => "use a newer kernel",
            _ => "look at the kernel's log",
        };
        Self { task, source, advice }
    }

    fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }
}

/// The error numbers that are told apart, as `nix` names them.
mod libc_error {
    use nix::errno::Errno;

    pub const EPERM: i32 = Errno::EPERM as i32;
    pub const EACCES: i32 = Errno::EACCES as i32;
    pub const EEXIST: i32 = Errno::EEXIST as i32;
    pub const ENODEV: i32 = Errno::ENODEV as i32;
    pub const ENOENT: i32 = Errno::ENOENT as i32;
    pub const ESRCH: i32 = Errno::ESRCH as i32;
    pub const EADDRNOTAVAIL: i32 = Errno::EADDRNOTAVAIL as i32;
    pub const EOPNOTSUPP: i32 = Errno::EOPNOTSUPP as i32;
    pub const EINVAL: i32 = Errno::EINVAL as i32;
}

/// What kind of answer a request has.
#[derive(Clone, Copy)]
enum Ask {
    /// Change something: an acknowledgement.
    Change,
    /// Make something that must not be there yet: an acknowledgement.
    Create,
    /// Make or replace: an acknowledgement.
    Replace,
    /// One object.
    Get,
    /// All objects.
    Dump,
}

impl Ask {
    fn flags(self) -> u16 {
        NLM_F_REQUEST
            | match self {
                Self::Change => NLM_F_ACK,
                Self::Create => NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
                Self::Replace => NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
                Self::Get => 0,
                Self::Dump => NLM_F_DUMP,
            }
    }
}

/// A socket to the kernel's routing.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one; needs no privilege.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::open_socket()
            .map(|socket| Self { socket, sequence: 0 })
            .map_err(|source| NetlinkError::new("open a netlink socket".to_owned(), source))
    }

    fn open_socket() -> io::Result<OwnedFd> {
        let kind = SockType::Raw;
        let family = socket::AddressFamily::Netlink;
        let protocol = SockProtocol::NetlinkRoute;
        let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        socket::connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(TIMEOUT_S))?;
        Ok(fd)
    }

    /// Sends one request and collects its answer; `task` completes "expected the kernel to ...".
    fn request(
        &mut self,
        ask: Ask,
        message: RouteNetlinkMessage,
        task: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(ask, message).map_err(|source| NetlinkError::new(task(), source))
    }

    fn exchange(
        &mut self,
        ask: Ask,
        message: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = ask.flags();
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let fd = self.socket.as_raw_fd();
        socket::sendmsg::<()>(fd, &[IoSlice::new(&bytes)], &[], MsgFlags::empty(), None)?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        while answer.len() < ANSWER_MAX {
            let mut iov = [IoSliceMut::new(&mut buffer)];
            let received = socket::recvmsg::<()>(fd, &mut iov, None, MsgFlags::empty())?;
            if received.flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(io::Error::other("an answer was larger than 32 KiB"));
            }
            let length = received.bytes;
            if self.take(ask, &buffer[..length], &mut answer)? {
                return Ok(answer);
            }
        }
        Err(io::Error::other(format!("an answer had more than {ANSWER_MAX} messages")))
    }

    /// Takes the messages of one datagram; returns whether the answer is complete.
    fn take(
        &self,
        ask: Ask,
        datagram: &[u8],
        answer: &mut Vec<RouteNetlinkMessage>,
    ) -> io::Result<bool> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(io::Error::other)?;
            // Messages are padded to 4 bytes (netlink(7)).
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            rest = rest.get(length..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Overrun(_) => return Err(io::Error::other("messages were lost")),
                NetlinkPayload::InnerMessage(inner) => answer.push(inner),
                _ => {}
            }
            if matches!(ask, Ask::Get) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The kernel's number of an address's family.
fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// `Ok` when the error says that what should go is gone already.
fn gone_is_fine(
    result: Result<Vec<RouteNetlinkMessage>, NetlinkError>,
) -> Result<(), NetlinkError> {
    const GONE: [i32; 4] =
        [libc_error::ENOENT, libc_error::ESRCH, libc_error::ENODEV, libc_error::EADDRNOTAVAIL];
    match result {
        Err(error) if !GONE.iter().any(|errno| error.is(*errno)) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
