//! The sockets on which the control plane answers for the mesh's names: port 53 needs a privilege, and the
//! broker is who has it. Bound here, listening, and given away.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

/// The port of DNS (RFC 1035 §4.2).
const PORT: u16 = 53;

/// Connections that the kernel holds until they are taken: a burst of every peer that is allowed in.
const BACKLOG: i32 = 64;

/// A UDP and a TCP socket on port 53 of this address, in this order. The address need not exist yet: the
/// tunnel's device may come up later.
pub(super) fn open(address: IpAddr) -> Result<Vec<OwnedFd>, String> {
    let address = SocketAddr::new(address, PORT);
    let failed = |protocol: &str, error: nix::Error| {
        let advice = "stop the other server there, or choose another address";
        format!("expected to bind {protocol} {address}, got: {error}; {advice}")
    };
    let udp = bound(address, SockType::Datagram).map_err(|error| failed("UDP", error))?;
    let tcp = bound(address, SockType::Stream).map_err(|error| failed("TCP", error))?;
    let backlog = Backlog::new(BACKLOG).map_err(|error| failed("TCP", error))?;
    listen(&tcp, backlog).map_err(|error| failed("TCP", error))?;
    Ok(vec![udp, tcp])
}

fn bound(address: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    // One flag of the socket, whichever its family.
    setsockopt(&fd, sockopt::IpFreebind, &true)?;
    if kind == SockType::Stream {
        // Connections of the server before this one may linger.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}
