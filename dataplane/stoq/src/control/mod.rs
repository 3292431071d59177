//! The control stream: the frames with which two nodes agree on a connection and take leave of it.
//!
//! Each end writes its half of the dialler's bidirectional stream 0. A frame is `type varint,
//! length varint, body`; one of an unknown type is skipped, so that later versions may add to it,
//! and a known one that breaks its rules ends the connection. HELLO comes first, once.
//!
//! Owns the layouts and the incremental [`Decoder`]. Called by the connection, which decides what a
//! frame means.

mod decode;
mod encode;

use stoq_identity::{NameError, NodeId};
use thiserror::Error;

pub use decode::{Decoder, MAX_BUFFERED_LEN};

/// The version of the protocol that HELLO names.
pub const PROTOCOL_VERSION: u64 = 1;

/// Largest body of a frame in bytes. HELLO takes at most 175; the rest leaves room for frames to come, and
/// keeps the memory that one peer can claim small.
pub const MAX_FRAME_LEN: usize = 16 * 1024;

/// Least tunnel MTU that a node may name: every IPv6 link carries as much (RFC 8200 §5).
pub const MIN_TUNNEL_MTU: u16 = 1280;

/// Features that both ends must name to use; bits that are not named here are ignored.
pub mod feature {
    /// Datagram context 2: a super-packet's header is sent once. Reserved.
    pub const SLICED: u64 = 1 << 0;
    /// Datagram context 3: recovery packets. Reserved.
    pub const RECOVERY: u64 = 1 << 1;
}

/// Frame types on the wire.
mod kind {
    pub const HELLO: u64 = 0x01;
    pub const GOAWAY: u64 = 0x02;
    pub const TUNNEL_MTU: u64 = 0x03;
}

/// One run of a node's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BootId {
    /// Wall-clock time of the start in nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// Random, to tell apart two starts that a clock set back gives one time.
    pub random: u128,
}

impl BootId {
    /// Whether connections of the run `other` of the same node are void: it started earlier, or at
    /// the same time with a smaller random part.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.started_ns, self.random) > (other.started_ns, other.random)
    }
}

/// Why a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing carries the slot now.
    First,
    /// It takes the slot over from the connection of this number, which drains.
    Replace {
        /// Number of the connection that is replaced.
        connection: u32,
    },
}

/// The first frame in each direction: who speaks, and what the connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender, as in its certificate.
    pub node: NodeId,
    /// The run of the sender's process.
    pub boot: BootId,
    /// Features that the sender can use: bits of [`feature`].
    pub features: u64,
    /// The sender's workers, 1 to 255.
    pub workers: u8,
    /// The sender's worker that owns this connection, below `workers`.
    pub worker: u8,
    /// The slot of the link that this connection is for; the acceptor repeats the dialler's.
    pub slot: u8,
    /// Number of the connection in its slot, rising; the acceptor repeats the dialler's.
    pub connection: u32,
    /// Why the connection was made; the acceptor repeats the dialler's.
    pub purpose: Purpose,
    /// Largest inner packet that the sender's tunnel device takes, in bytes.
    pub tunnel_mtu: u16,
}

/// Why a node takes leave of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoawayReason {
    /// The node stops; there is nothing to dial for now.
    Shutdown,
    /// The node's process is replaced: dial again at once, the new one answers.
    Restart,
    /// The acceptor asks the dialler to replace this connection, make before break.
    Replace,
    /// A reason that this version does not know: dial again with backoff.
    Unknown(u8),
}

/// A node takes leave of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goaway {
    /// Why.
    pub reason: GoawayReason,
    /// How long the sender still takes packets on it, in milliseconds.
    pub drain_ms: u32,
}

/// A frame of the control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who speaks; first, and once.
    Hello(Hello),
    /// The sender takes leave of this connection.
    Goaway(Goaway),
    /// The sender's tunnel device takes inner packets of at most this many bytes from now on.
    TunnelMtu(u16),
}

/// How a peer broke the rules of the control stream. Each ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    /// A frame is longer than [`MAX_FRAME_LEN`].
    #[error(
        "expected a control frame of at most {MAX_FRAME_LEN} bytes, got {got}: close the connection"
    )]
    TooLong {
        /// The length that it named.
        got: u64,
    },
    /// The first frame is no HELLO.
    #[error("expected HELLO as the first control frame, got type {got:#x}: close the connection")]
    HelloMissing {
        /// Its type.
        got: u64,
    },
    /// A second HELLO.
    #[error("expected one HELLO in a connection, got a second: close the connection")]
    HelloRepeated,
    /// The peer speaks another version.
    #[error("expected protocol version {PROTOCOL_VERSION}, got {got}: upgrade the older node")]
    Version {
        /// The version that it named.
        got: u64,
    },
    /// The body ends early or has bytes left over.
    #[error(
        "expected the body of {frame} to have the layout of version 1, got {len} bytes: close the connection"
    )]
    Layout {
        /// Name of the frame.
        frame: &'static str,
        /// Length of its body.
        len: usize,
    },
    /// A field has a value that the rules exclude.
    #[error("expected {field} of {frame} within its bounds, got {got}: close the connection")]
    Value {
        /// Name of the frame.
        frame: &'static str,
        /// Name of the field.
        field: &'static str,
        /// What it held.
        got: u64,
    },
    /// A name is not valid UTF-8.
    #[error("expected names in HELLO to be UTF-8, got other bytes: close the connection")]
    NameEncoding,
    /// A name breaks the rules of names.
    #[error("in HELLO: {0}")]
    Name(#[from] NameError),
    /// More was pushed than the decoder holds: the caller read on without asking for frames.
    #[error(
        "expected at most {MAX_BUFFERED_LEN} bytes between two frames, got {got}: take the frames first"
    )]
    Backlog {
        /// Bytes that would have been held.
        got: usize,
    },
}

#[cfg(test)]
mod tests;
