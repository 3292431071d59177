//! Opens a worker's UDP sockets.
//!
//! One function, used by the daemon itself where it may, and by its privileged broker, which passes
//! the descriptor on. The socket is dual stack, reports the local address, the ECN bits and joined
//! packets, never fragments, and has a receive buffer fit for QUIC.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SetSockOpt, SockFlag, SockType, SockaddrStorage, bind, getsockname, getsockopt,
    setsockopt, socket, sockopt,
};

use crate::PortError;
use crate::sys::set_int;

/// Receive buffer of a socket in bytes, at the start: 25 ms at 2.5 Gbit/s, which covers a worker
/// that was not scheduled for a while. The kernel's default (208 KiB) holds less than 1 ms.
pub const RECEIVE_BUFFER: usize = 8 << 20;

/// What socket to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSpec {
    /// The address to bind. `[::]` is dual stack, and becomes `0.0.0.0` where IPv6 is off.
    pub bind: SocketAddr,
    /// Share the address with the sockets of the other workers.
    pub reuse_port: bool,
    /// Mark of all packets sent (SO_MARK; needs CAP_NET_ADMIN), so that routes can leave them out.
    pub mark: Option<u32>,
    /// Wanted receive buffer in bytes.
    pub receive_buffer: usize,
    /// Wanted send buffer in bytes; `None` keeps the kernel's default, which is small enough to
    /// hold a worker back before the queues below it fill.
    pub send_buffer: Option<usize>,
}

impl SocketSpec {
    /// A socket at `bind` with the usual buffers, not shared and without a mark.
    #[must_use]
    pub fn new(bind: SocketAddr) -> Self {
        let receive_buffer = RECEIVE_BUFFER;
        Self { bind, reuse_port: false, mark: None, receive_buffer, send_buffer: None }
    }
}

/// An open socket.
#[derive(Debug)]
pub struct Opened {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// The address that it is bound to, its port resolved.
    pub local: SocketAddr,
    /// What the kernel did not grant.
    pub warnings: Vec<SocketWarning>,
}

/// Something that was not granted, with what the operator can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketWarning {
    /// A socket buffer is smaller than wanted.
    Buffer {
        /// The sysctl that limits it.
        sysctl: &'static str,
        /// Bytes wanted.
        wanted: usize,
        /// Bytes granted.
        got: usize,
    },
    /// IPv6 is off on this host; the socket is for IPv4 only.
    Ipv4Only {
        /// The address that was bound instead.
        bound: SocketAddr,
    },
    /// The kernel does not know an option; what that means for the operator.
    Unsupported {
        /// Which option.
        option: &'static str,
        /// What is lost.
        loss: &'static str,
    },
}

impl fmt::Display for SocketWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer { sysctl, wanted, got } => write!(
                f,
                "the kernel granted {got} of {wanted} bytes of socket buffer; \
                 run: sysctl -w {sysctl}={wanted}"
            ),
            Self::Ipv4Only { bound } => write!(
                f,
                "IPv6 is off on this host, so {bound} is bound for IPv4 only; \
                 boot without ipv6.disable=1 to have both"
            ),
            Self::Unsupported { option, loss } => {
                write!(f, "the kernel does not know {option}: {loss}; use a newer kernel")
            }
        }
    }
}

/// Opens and binds a UDP socket, close-on-exec and blocking (the ports ask per call).
///
/// # Errors
/// When the address cannot be bound or the mark not be set; a refused buffer size or offload is
/// only a warning.
pub fn open(spec: &SocketSpec) -> Result<Opened, PortError> {
    let mut warnings = Vec::new();
    match open_at(spec, spec.bind, &mut warnings) {
        Err(PortError::Socket { source, .. }) if ipv6_is_off(spec.bind, &source) => {
            let bound = SocketAddr::from((Ipv4Addr::UNSPECIFIED, spec.bind.port()));
            warnings.clear();
            let (fd, local) = open_at(spec, bound, &mut warnings)?;
            warnings.push(SocketWarning::Ipv4Only { bound: local });
            Ok(Opened { fd, local, warnings })
        }
        result => result.map(|(fd, local)| Opened { fd, local, warnings }),
    }
}

fn ipv6_is_off(bind: SocketAddr, error: &io::Error) -> bool {
    let off = matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
    off && bind.is_ipv6() && bind.ip().is_unspecified()
}

fn open_at(
    spec: &SocketSpec,
    at: SocketAddr,
    warnings: &mut Vec<SocketWarning>,
) -> Result<(OwnedFd, SocketAddr), PortError> {
    let step = |step, advice| {
        move |source: nix::Error| PortError::Socket {
            bind: at,
            step,
            source: source.into(),
            advice,
        }
    };
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(step("socket", "raise the limit of open files"))?;
    if at.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &false)
            .map_err(step("dual stack", "use an IPv4 address"))?;
    }
    if spec.reuse_port {
        setsockopt(&fd, sockopt::ReusePort, &true)
            .map_err(step("reuseport", "run with one worker"))?;
    }
    if let Some(mark) = spec.mark {
        setsockopt(&fd, sockopt::Mark, &mark)
            .map_err(step("mark", "give the process CAP_NET_ADMIN"))?;
    }
    describe_packets(&fd, at, warnings)
        .map_err(step("packet options", "use a kernel from 5.15 on"))?;
    let (receive, send) = (spec.receive_buffer, spec.send_buffer);
    grow(&fd, receive, &RECEIVE, warnings)
        .map_err(step("receive buffer", "choose a smaller one"))?;
    if let Some(send) = send {
        grow(&fd, send, &SEND, warnings).map_err(step("send buffer", "choose a smaller one"))?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at)).map_err(step(
        "bind",
        "check that the address is this host's and no other process has it",
    ))?;
    let local = local_addr(&fd).map_err(step("getsockname", "report this"))?;
    Ok((fd, local))
}

/// Asks for the local address and ECN bits of each packet and for joined packets, and forbids
/// fragmentation without heeding the kernel's idea of the path's MTU: the protocol finds it itself
/// (RFC 9000 §14).
fn describe_packets(
    fd: &OwnedFd,
    at: SocketAddr,
    warnings: &mut Vec<SocketWarning>,
) -> nix::Result<()> {
    let int = |level, name, value| {
        set_int(fd.as_fd(), level, name, value)
            .map_err(|error| nix::Error::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)))
    };
    // A dual-stack socket needs the IPv4 options too, for its mapped addresses.
    setsockopt(fd, sockopt::IpRecvTos, &true)?;
    int(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    if at.is_ipv4() {
        setsockopt(fd, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(fd, sockopt::Ipv6RecvPacketInfo, &true)?;
        setsockopt(fd, sockopt::Ipv6RecvTClass, &true)?;
        setsockopt(fd, sockopt::Ipv6DontFrag, &true)?;
        int(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
    }
    if setsockopt(fd, sockopt::UdpGroSegment, &true).is_err() {
        let loss = "packets are received one by one";
        warnings.push(SocketWarning::Unsupported { option: "UDP_GRO", loss });
    }
    Ok(())
}

/// The ways to set one of the two buffers.
struct Buffer<F, P> {
    force: F,
    plain: P,
    sysctl: &'static str,
}

const RECEIVE: Buffer<sockopt::RcvBufForce, sockopt::RcvBuf> =
    Buffer { force: sockopt::RcvBufForce, plain: sockopt::RcvBuf, sysctl: "net.core.rmem_max" };

const SEND: Buffer<sockopt::SndBufForce, sockopt::SndBuf> =
    Buffer { force: sockopt::SndBufForce, plain: sockopt::SndBuf, sysctl: "net.core.wmem_max" };

/// Sets a buffer to `wanted` bytes, past the sysctl where that is allowed.
fn grow<F, P>(
    fd: &OwnedFd,
    wanted: usize,
    buffer: &Buffer<F, P>,
    warnings: &mut Vec<SocketWarning>,
) -> nix::Result<()>
where
    F: SetSockOpt<Val = usize> + Copy,
    P: SetSockOpt<Val = usize> + nix::sys::socket::GetSockOpt<Val = usize> + Copy,
{
    if setsockopt(fd, buffer.force, &wanted).is_err() {
        setsockopt(fd, buffer.plain, &wanted)?;
    }
    // The kernel doubles what it is asked for, to cover its own bookkeeping (man 7 socket).
    let got = getsockopt(fd, buffer.plain)? / 2;
    if got < wanted {
        warnings.push(SocketWarning::Buffer { sysctl: buffer.sysctl, wanted, got });
    }
    Ok(())
}

/// The address that a UDP socket is bound to.
pub(crate) fn local_addr(fd: &OwnedFd) -> nix::Result<SocketAddr> {
    let name: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    if let Some(v4) = name.as_sockaddr_in() {
        return Ok(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = name.as_sockaddr_in6().ok_or(nix::Error::EAFNOSUPPORT)?;
    Ok(SocketAddr::from((v6.ip(), v6.port())))
}
