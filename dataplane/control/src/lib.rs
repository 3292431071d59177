//! What stoqd's control socket speaks: typed, versioned messages, one JSON line each.
//!
//! A client connects to the Unix socket and writes [`Call`]s; the daemon answers each with a
//! [`Reply`], in order. `stoqctl` and the control plane are the clients. This crate owns the types,
//! the limits of a line, and a small blocking [`Client`]; it knows nothing of the daemon's insides.
//!
//! ```text
//! -> {"version":1,"request":{"status":{}}}
//! <- {"version":1,"response":{"status":{"node":"edge-a", ...}}}
//! ```
//!
//! A capture turns the connection around: after the reply the daemon writes pcap bytes until a limit
//! is reached or the client closes. A stream makes the connection, after the reply, a stream to a
//! peer's service.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod client;
mod line;
mod message;
mod snapshot;
mod status;

pub use client::{Client, ClientError};
pub use line::{LineError, MAX_REPLY_BYTES, MAX_REQUEST_BYTES, decode_call, decode_reply, encode};
pub use message::{
    Call, CapturePoint, CaptureRequest, ErrorCode, Refusal, Reply, Request, Response, Right,
};
pub use snapshot::{Snapshot, SnapshotPeer};
pub use status::{Certificate, HEADS_MAX, Link, LinkState, PassedOver, Port, Status, Tier, Worker};

/// The version of these messages. A daemon answers a call of another version with
/// [`ErrorCode::Version`] and its own version.
pub const VERSION: u32 = 1;

/// Where the socket is unless the configuration or the command line says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/stoq/stoqd.sock";
