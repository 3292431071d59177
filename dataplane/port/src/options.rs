//! Which port, and what it may use of the kernel's help.
//!
//! Filled in by the daemon from its configuration; every offload can be forced off, and each falls
//! back by itself when the kernel refuses it.

use std::fmt;

/// A way to move UDP packets in bursts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortKind {
    /// AF_XDP, past the kernel's network stack.
    Xdp,
    /// io_uring: multishot receive into a ring of buffers, sends as queue entries.
    Uring,
    /// Plain sockets and readiness; works everywhere and without privilege.
    Mio,
}

impl PortKind {
    /// The name in the configuration and in `stoqctl status`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Uring => "uring",
            Self::Mio => "mio",
        }
    }
}

impl fmt::Display for PortKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Who makes the send calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The worker itself, in [`Port::flush`](crate::Port::flush).
    Inline,
    /// A thread of its own: sending costs the worker a queue entry instead of the kernel's whole
    /// transmit path.
    Thread,
}

/// What a port may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOptions {
    /// Send trains of equal datagrams in one call (UDP_SEGMENT).
    pub gso: bool,
    /// Receive trains of equal datagrams in one call (UDP_GRO).
    pub gro: bool,
    /// `uring` only: one receive entry stays armed for many packets, into a ring of buffers.
    pub multishot: bool,
    /// Who makes the send calls.
    pub sender: Sender,
    /// The core that the sender thread is pinned to; `None` leaves it to the scheduler.
    pub sender_core: Option<usize>,
}

impl Default for PortOptions {
    fn default() -> Self {
        Self { gso: true, gro: true, multishot: true, sender: Sender::Thread, sender_core: None }
    }
}
