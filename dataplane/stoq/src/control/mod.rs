//! The control stream: the frames with which two nodes agree on a connection and take leave of it.
//!
//! Each end writes its half of the dialler's bidirectional stream 0. A frame is `type varint,
//! length varint, body`; one of an unknown type is skipped, so that later versions may add to it,
//! and a known one that breaks its rules ends the connection. HELLO comes once, and first, but for PROOF
//! where the policy asks for it.
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

/// Largest body of a frame in bytes. HELLO takes at most 175, PROOF 6 KiB; the rest leaves room for frames
/// to come, and keeps the memory that one peer can claim small.
pub const MAX_FRAME_LEN: usize = 16 * 1024;

/// Least tunnel MTU that a node may name: every IPv6 link carries as much (RFC 8200 §5).
pub const MIN_TUNNEL_MTU: u16 = 1280;

/// Longest signature in PROOF: a hybrid one has some 1.4 KiB; the rest is room for another algorithm.
pub const SIGNATURE_LEN_MAX: usize = 8 * 1024;

/// Longest proof of a log in PROOF: a signed head of 1.5 KiB and a path of 40 hashes are below 3 KiB.
pub const LOG_PROOF_LEN_MAX: usize = 6 * 1024;

/// Most tree heads in STATE: one for each issuer, and a mesh has a few.
pub const HEADS_MAX: usize = 8;

/// Longest signed tree head: a hybrid one has some 1.5 KiB, and so many have to fit a frame.
pub const HEAD_LEN_MAX: usize = 1900;

/// Largest set of revocations in bytes: 1 MiB of signed entries, some 8000, and its issuer's certificate.
pub const REVOCATIONS_MAX: usize = (1 << 20) + (32 << 10);

/// Bytes of the set in one REVOCATIONS frame of ours: a few packets, so that other frames pass between.
pub const CHUNK_LEN: usize = 4096;

/// Highest number of a tier: `floor`, `100M`, `1G`, `2.5G` and `10G`, from 0.
pub const TIER_MAX: u8 = 4;

/// Highest rate and link speed in TIER, in Mbit/s: what the fastest Ethernet has.
pub const MBPS_MAX: u32 = 1_600_000;

/// Features that both ends must name to use; bits that are not named here are ignored.
pub mod feature {
    /// Datagram context 2: a super-packet's headers are sent once ([`crate::slice`]).
    pub const SLICED: u64 = 1 << 0;
    /// Datagram context 3: what is lost is sent again.
    pub const RECOVERY: u64 = 1 << 1;
}

/// Frame types on the wire.
mod kind {
    pub const HELLO: u64 = 0x01;
    pub const GOAWAY: u64 = 0x02;
    pub const TUNNEL_MTU: u64 = 0x03;
    pub const PROOF: u64 = 0x04;
    pub const STATE: u64 = 0x05;
    pub const REVOCATIONS: u64 = 0x06;
    pub const TIER: u64 = 0x07;
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

/// The sender holds both keys of its certificate, and the certificate is in its issuer's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Signature of the possession body; 1 to [`SIGNATURE_LEN_MAX`] bytes.
    pub signature: Vec<u8>,
    /// Proof that the certificate is in its log; empty if there is none, at most
    /// [`LOG_PROOF_LEN_MAX`] bytes.
    pub log: Vec<u8>,
}

/// What the sender knows of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Sequence of its revocation set; 0 if it has none.
    pub revocations: u64,
    /// Number of its bundle; 0 if it has none.
    pub bundle: u64,
    /// The newest signed head of each log, as it was shown to the sender: at most [`HEADS_MAX`], of 1 to
    /// [`HEAD_LEN_MAX`] bytes. Two that contradict each other prove that the log lies to somebody.
    pub heads: Vec<Vec<u8>>,
}

/// A piece of a signed revocation set. Pieces come in order, without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The set's sequence, as the sender read it in the set.
    pub sequence: u64,
    /// Length of the whole set, 1 to [`REVOCATIONS_MAX`] bytes.
    pub total: u32,
    /// Where this piece begins.
    pub offset: u32,
    /// The piece: at least one byte, and within the set.
    pub bytes: Vec<u8>,
}

/// What the sender has measured of the direction in which it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierNote {
    /// Number of its tier, at most [`TIER_MAX`]; `None` while nothing is measured.
    pub tier: Option<u8>,
    /// The rate that it rests on, in Mbit/s of UDP payload, at most [`MBPS_MAX`].
    pub rate_mbps: u32,
    /// Speed of the sender's interface in Mbit/s, at most [`MBPS_MAX`]; 0 if it is not known.
    pub link_speed_mbps: u32,
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
    /// The sender holds its keys; before HELLO, if the policy asks for it.
    Proof(Proof),
    /// What the sender knows of the mesh; after HELLO, and again when it knows more.
    State(State),
    /// A piece of the sender's revocation set, which the receiver lacks.
    Revocations(Chunk),
    /// The tier of what the sender sends; again when it changes.
    Tier(TierNote),
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
    /// The first frame is no PROOF, under a policy that asks for it.
    #[error(
        "expected PROOF as the first control frame, got type {got:#x}: this node's [identity] policy is \
         hybrid; set the same policy on every node of the mesh"
    )]
    ProofMissing {
        /// Its type.
        got: u64,
    },
    /// PROOF, under a policy without it.
    #[error(
        "expected no PROOF, got one: this node's [identity] policy is classical; set the same policy on \
         every node of the mesh"
    )]
    ProofUnexpected,
    /// A second PROOF.
    #[error("expected one PROOF in a connection, got a second: close the connection")]
    ProofRepeated,
    /// Chunks of a revocation set that do not follow each other.
    #[error("expected the next chunk of a revocation set, got one at {got}: close the connection")]
    ChunkOrder {
        /// Its offset.
        got: u32,
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
