//! STOQ, a secure transport on QUIC: the protocol, without I/O.
//!
//! ```text
//!   worker ──receive──▶ Endpoint ──▶ Conn (quiche) ──▶ inner packets
//!   worker ◀─transmit── Endpoint ◀── Conn ◀── Slot's FQ-CoDel queue ◀── inner packets
//! ```
//!
//! A worker of the daemon owns one [`Endpoint`], gives it the datagrams that its port received, and
//! asks it for those that are due. Time is always an argument; the exception is quiche itself, which
//! reads the clock for its own timers. `docs/protocol.md` describes what is on the wire.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub mod admission;
mod backlog;
mod blackhole;
pub mod buffers;
pub mod cid;
mod conn;
pub mod context;
pub mod control;
pub mod dial;
mod endpoint;
mod ends;
pub mod fragment;
mod governor;
mod link;
pub mod mesh;
mod profile;
pub mod queue;
pub mod random;
mod recovery;
pub mod settings;
pub mod slice;
pub mod stream;
pub mod task;
pub mod tls;
mod varint;

/// The endpoints joined by memory of `tests/`, for tests that also look inside.
#[cfg(test)]
#[path = "../tests/network/mod.rs"]
mod network;
#[cfg(test)]
extern crate self as stoq;

pub use endpoint::{
    ALWAYS_PASSES, Endpoint, Event, Inner, LinkSample, LinkState, LinkStatus, Local, OpenError,
    Peer, STREAMS_MAX, STREAMS_PER_PEER, Slicing, StreamEvent, StreamId, Undelivered,
};
pub use link::SIMULTANEOUS;
pub use profile::LinkProfile;
pub use recovery::Counts as RecoveryCounts;
pub use stream::{Broken, SERVICE_MAX, Service, ServiceError, StreamCode};

/// A configured peer, for the life of the daemon: it keeps its number over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// Which socket of the worker a packet uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// A listening socket, by its place in the configuration.
    Listen(u8),
    /// The worker's own source port.
    Dial,
}

/// The outer addresses of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where it was sent to.
    pub local: SocketAddr,
    /// Where it came from.
    pub remote: SocketAddr,
    /// The socket that it arrived on.
    pub via: Via,
}

/// A packet to send, which was written to the given buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Its length in bytes.
    pub len: usize,
    /// Where it goes.
    pub to: SocketAddr,
    /// The source address, or `None` where the kernel shall choose it.
    pub from: Option<IpAddr>,
    /// The socket to use.
    pub via: Via,
}
