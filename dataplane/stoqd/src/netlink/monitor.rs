//! Tells when interfaces, addresses, routes, rules or neighbours change. Read by the thread that
//! keeps the data path's next hops true; needs no privilege.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};

use super::interface::Interface;
use super::{DATAGRAM_MAX, NetlinkError};

/// The groups that are listened to (rtnetlink.h): links, neighbours, addresses, routes and rules of
/// both families. Group n is bit n - 1.
const GROUPS: u32 = bits(&[1, 3, 5, 7, 8, 9, 11, 19]);

const fn bits(groups: &[u32]) -> u32 {
    let mut bits = 0;
    let mut at = 0;
    while at < groups.len() {
        bits |= 1 << (groups[at] - 1);
        at += 1;
    }
    bits
}

/// Datagrams taken at one call: a storm of changes must not keep the caller from acting on them.
const DATAGRAMS_MAX: usize = 64;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An interface is new, or something of it is.
    Link(Interface),
    /// An interface is gone.
    Gone(u32),
    /// An address came or went.
    Address,
    /// A route, rule or neighbour came, went or changed.
    Way,
    /// Changes were lost: anything may be different.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub struct Monitor(OwnedFd);

impl Monitor {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let failed =
            |errno: Errno| NetlinkError::new("open a netlink monitor".into(), errno.into());
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let family = socket::AddressFamily::Netlink;
        let protocol = SockProtocol::NetlinkRoute;
        let fd = socket::socket(family, SockType::Raw, flags, protocol).map_err(failed)?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).map_err(failed)?;
        Ok(Self(fd))
    }

    /// The changes since the last call, or the first of them. Never blocks.
    ///
    /// # Errors
    /// When the kernel does not tell any more.
    pub fn changes(&self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        for _ in 0..DATAGRAMS_MAX {
            let mut iov = [IoSliceMut::new(&mut buffer)];
            let received =
                socket::recvmsg::<()>(self.0.as_raw_fd(), &mut iov, None, MsgFlags::empty());
            let length = match received {
                Ok(received) => received.bytes,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => {
                    changes.push(Change::Unknown);
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            take(&buffer[..length], &mut changes);
        }
        Ok(changes)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes the messages of one datagram; one that cannot be read may be anything.
fn take(datagram: &[u8], changes: &mut Vec<Change>) {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else {
            return changes.push(Change::Unknown);
        };
        // Messages are padded to 4 bytes (netlink(7)).
        let length = (message.header.length as usize).next_multiple_of(4).max(16);
        rest = rest.get(length..).unwrap_or_default();
        changes.extend(change(&message.payload));
    }
}

fn change(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
    use RouteNetlinkMessage::{
        DelAddress, DelLink, DelNeighbour, DelRoute, DelRule, NewAddress, NewLink, NewNeighbour,
        NewRoute, NewRule,
    };
    let NetlinkPayload::InnerMessage(message) = payload else { return None };
    match message {
        NewLink(link) => Some(Change::Link(Interface::of(link))),
        DelLink(link) => Some(Change::Gone(link.header.index)),
        NewAddress(_) | DelAddress(_) => Some(Change::Address),
        NewRoute(_) | DelRoute(_) | NewRule(_) | DelRule(_) | NewNeighbour(_) | DelNeighbour(_) => {
            Some(Change::Way)
        }
        _ => None,
    }
}
