//! Why a socket or a port could not be opened.

use std::io;
use std::net::SocketAddr;

use crate::{PortKind, UringReason};

/// Why a socket or a port could not be opened: what was asked, what the kernel said, what to do.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// A UDP socket could not be made or bound.
    #[error("expected to bind UDP {bind}, got \"{source}\" at {step}; {advice}")]
    Socket {
        /// The address that was to be bound.
        bind: SocketAddr,
        /// The call that failed.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// What the operator can do.
        advice: &'static str,
    },
    /// The steering program could not be attached.
    #[error(
        "expected to attach the steering program to the listening sockets, got \"{source}\"; \
         run with one worker, or on a kernel from 4.5 on"
    )]
    Steer {
        /// What the kernel said.
        source: io::Error,
    },
    /// The port can not be opened with these sockets.
    #[error("expected the {port} port to open its {what}, got \"{source}\"; {advice}")]
    Open {
        /// Which port.
        port: PortKind,
        /// The part that failed.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// What the operator can do.
        advice: &'static str,
    },
    /// io_uring can not be used on this host.
    #[error("expected io_uring for the uring port, got none: {0}")]
    Uring(#[from] UringReason),
    /// The xdp port stands on another one.
    #[error("expected uring or mio for a port on sockets, got xdp; this is a bug")]
    NotAlone,
    /// Every port failed its trial.
    #[error("expected a port to carry packets on loopback, got none; bring the interface lo up")]
    NothingWorks,
    /// The caller gave no socket, or more than a port serves.
    #[error("expected 1 to {most} sockets for one worker, got {got}; use fewer listen addresses")]
    SocketCount {
        /// How many there were.
        got: usize,
        /// The most that a port serves.
        most: usize,
    },
}
