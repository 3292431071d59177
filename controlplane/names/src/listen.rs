//! The sockets on which names are asked, and who asks there.
//!
//! Owns how they are bound. A port below 1024 needs `CAP_NET_BIND_SERVICE`; a daemon without it is
//! given its sockets by one that has it ([`Listener::from_sockets`]).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::PORT;

/// Connections that the kernel holds until they are taken: a burst of every peer that is allowed in.
const BACKLOG: i32 = 64;

/// Who asks at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The mesh's nodes and what is behind them, at a tunnel address: the mesh's names only.
    Peers,
    /// This host, at a loopback address: everything.
    Host,
}

/// Why there is no listener.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The kernel did not bind a socket.
    #[error(
        "expected to bind {protocol} {address}, got: {source}; a port below 1024 needs \
         CAP_NET_BIND_SERVICE, and no other server on that address"
    )]
    Bind {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A socket that was given has no address, or cannot be made non-blocking.
    #[error("expected a bound socket of a DNS server, got: {0}")]
    Socket(#[from] io::Error),
    /// The two sockets are not the same server.
    #[error("expected UDP and TCP on one address, got {udp} and {tcp}; mend the socket unit")]
    Apart {
        /// Address of the UDP socket.
        udp: SocketAddr,
        /// Address of the TCP socket.
        tcp: SocketAddr,
    },
    /// Any address, on which who asks cannot be told by the address, nor which one to answer from.
    #[error("expected one address, got {0}; name the tunnel address or the loopback address")]
    Any(SocketAddr),
    /// A loopback audience on an address that others can reach.
    #[error("expected a loopback address for this host's own queries, got {0}")]
    Reachable(SocketAddr),
}

/// A pair of sockets, UDP and TCP on one address.
#[derive(Debug)]
pub struct Listener {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
    pub(crate) audience: Audience,
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Binds port 53 of an address. A tunnel address need not exist yet: the tunnel's device may come
    /// up later.
    ///
    /// # Errors
    /// When the kernel does not bind it, and when the address does not fit the audience.
    pub fn bind(address: IpAddr, audience: Audience) -> Result<Self, ListenError> {
        let address = SocketAddr::new(address, PORT);
        let failed = |protocol| move |source| ListenError::Bind { protocol, address, source };
        let udp = socket(address, Type::DGRAM, Protocol::UDP).map_err(failed("UDP"))?;
        let tcp = socket(address, Type::STREAM, Protocol::TCP).map_err(failed("TCP"))?;
        tcp.listen(BACKLOG).map_err(failed("TCP"))?;
        Self::from_sockets(udp.into(), tcp.into(), audience)
    }

    /// Takes sockets that are bound already, to any port.
    ///
    /// # Errors
    /// When they are not on one address, or the address does not fit the audience.
    pub fn from_sockets(
        udp: UdpSocket,
        tcp: TcpListener,
        audience: Audience,
    ) -> Result<Self, ListenError> {
        let (address, other) = (udp.local_addr()?, tcp.local_addr()?);
        if address != other {
            return Err(ListenError::Apart { udp: address, tcp: other });
        }
        if address.ip().is_unspecified() {
            return Err(ListenError::Any(address));
        }
        if audience == Audience::Host && !address.ip().is_loopback() {
            return Err(ListenError::Reachable(address));
        }
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Self { udp, tcp, audience, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections of the server before this one may linger.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(address: &str) -> (UdpSocket, TcpListener) {
        let tcp = TcpListener::bind(format!("{address}:0")).unwrap();
        (UdpSocket::bind(tcp.local_addr().unwrap()).unwrap(), tcp)
    }

    #[test]
    fn an_audience_is_where_it_can_be_told_apart() {
        let (udp, tcp) = pair("127.0.0.1");
        assert!(Listener::from_sockets(udp, tcp, Audience::Host).is_ok());
        let (udp, tcp) = pair("0.0.0.0");
        let refused = Listener::from_sockets(udp, tcp, Audience::Peers);
        assert!(matches!(refused, Err(ListenError::Any(_))));
        let (udp, _) = pair("127.0.0.1");
        let (_, tcp) = pair("127.0.0.2");
        let refused = Listener::from_sockets(udp, tcp, Audience::Host);
        assert!(matches!(refused, Err(ListenError::Apart { .. })));
    }

    #[test]
    fn the_host_is_served_on_loopback_only() {
        // An address that this host need not have: it is bound all the same.
        let bound = socket("[fd00:53::1]:5300".parse().unwrap(), Type::DGRAM, Protocol::UDP);
        let tcp = socket("[fd00:53::1]:5300".parse().unwrap(), Type::STREAM, Protocol::TCP);
        let (Ok(udp), Ok(tcp)) = (bound, tcp) else {
            println!("skipped: this host has no IPv6");
            return;
        };
        tcp.listen(1).unwrap();
        let refused = Listener::from_sockets(udp.into(), tcp.into(), Audience::Host);
        assert!(matches!(refused, Err(ListenError::Reachable(_))));
    }
}
