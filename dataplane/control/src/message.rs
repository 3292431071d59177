//! Requests, responses, and the rights that requests need. Used by both ends of the socket.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Certificate, Snapshot, Status, VERSION};

/// One request, with the version of these messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Always [`VERSION`].
    pub version: u32,
    /// What is asked for.
    pub request: Request,
}

impl Call {
    /// Wraps a request in the version spoken here.
    #[must_use]
    pub const fn new(request: Request) -> Self {
        Self { version: VERSION, request }
    }
}

/// One response, with the version of these messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The version that the daemon speaks.
    pub version: u32,
    /// The answer.
    pub response: Response,
}

impl Reply {
    /// Wraps a response in the version spoken here.
    #[must_use]
    pub const fn new(response: Response) -> Self {
        Self { version: VERSION, response }
    }
}

/// What can be asked of the daemon. Every variant has named fields, so that fields can be added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The state of the daemon, its workers and links.
    Status {},
    /// Read the configuration file and the identity again.
    Reload {},
    /// Say goodbye on every link, then exit.
    Drain {},
    /// Hand over to a new process of the program that is installed now; no link is lost.
    Upgrade {},
    /// Replace the peers of the control plane by this numbered snapshot.
    Push {
        /// The whole set of pushed peers.
        snapshot: Snapshot,
    },
    /// Read the node's certificate and keys again, after a renewal; links are replaced, none is lost.
    Identity {
        /// Path of the certificate: must be the configured one.
        certificate: PathBuf,
        /// Path of the keys: must be the configured one.
        key: PathBuf,
    },
    /// Open port 53 of an address, for the mesh's names: two sockets come beside the reply, UDP, then a TCP
    /// one that listens (`SCM_RIGHTS`, with the reply's first byte).
    Names {
        /// An address of the tunnel's device, or a loopback address.
        address: IpAddr,
    },
    /// Stream packets as pcap after the reply, until a limit is reached or the client closes.
    Capture(CaptureRequest),
    /// Open a stream to a service of a peer; after the reply the connection is the stream.
    Stream {
        /// The peer's name.
        peer: String,
        /// The service's name, as in the peer's configuration.
        service: String,
    },
}

impl Request {
    /// The right that a caller needs for this request.
    #[must_use]
    pub const fn right(&self) -> Right {
        match self {
            Self::Status {} => Right::Read,
            Self::Reload {}
            | Self::Drain {}
            | Self::Upgrade {}
            | Self::Capture(_)
            | Self::Stream { .. } => Right::Operate,
            Self::Push { .. } | Self::Identity { .. } | Self::Names { .. } => Right::Push,
        }
    }
}

/// What a user may do, by the uid of the calling process. Root may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// See the state.
    Read,
    /// Reload, drain, capture.
    Operate,
    /// Push peers and prefixes, have a renewed identity read, and serve names: the control plane.
    Push,
}

/// Which packets a capture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapturePoint {
    /// The packets inside the tunnel, in clear text.
    Tunnel,
    /// The UDP packets on the wire, sealed.
    Wire,
}

/// A bounded capture. The daemon refuses limits above its own maxima.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// Which packets.
    pub point: CapturePoint,
    /// Stops after this many packets.
    pub packets: u32,
    /// Stops after this many bytes of pcap.
    pub bytes: u64,
    /// Stops after this many seconds.
    pub seconds: u32,
}

impl CaptureRequest {
    /// Most packets of one capture: what a person can look through, and 150 MB at full size.
    pub const MAX_PACKETS: u32 = 100_000;
    /// Most bytes of one capture (256 MiB), so that a file of it fits on any edge host.
    pub const MAX_BYTES: u64 = 256 << 20;
    /// Longest capture in seconds (10 minutes): a forgotten one ends by itself.
    pub const MAX_SECONDS: u32 = 600;
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Reload`]: what is in force now.
    Reloaded {
        /// Keys that differ in the file but take effect only after a restart.
        restart_needed: Vec<String>,
        /// What the operator should know, such as a peer of the file that hides a pushed one.
        warnings: Vec<String>,
    },
    /// To [`Request::Drain`]: links are being closed; the daemon exits when they are.
    Draining {},
    /// To [`Request::Upgrade`]: the new process carries the traffic; this one exits soon.
    Upgraded {
        /// Its number.
        pid: u32,
        /// Its version.
        version: String,
    },
    /// To [`Request::Push`]: the snapshot is persisted and in force.
    Pushed {
        /// Its number.
        number: u64,
        /// Names of pushed peers that were left out because the file has a peer of that name.
        overridden: Vec<String>,
    },
    /// To [`Request::Identity`]: the certificate that is in use now.
    Identity {
        /// What it is.
        certificate: Certificate,
    },
    /// To [`Request::Names`]: the sockets come beside this line.
    Names {},
    /// To [`Request::Capture`]: pcap bytes follow this line.
    Capture {
        /// The pcap link type; 101 (`LINKTYPE_RAW`): each record begins with an IP header.
        link_type: u32,
    },
    /// To [`Request::Stream`]: the peer has accepted, and its bytes follow this line. Either end says
    /// that it has no more by shutting down its direction of the socket.
    Stream {},
    /// The request was not carried out.
    Error(Refusal),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what was expected, what came, what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The line was no request of this version.
    Invalid,
    /// The versions of the messages differ.
    Version,
    /// The user of the calling process lacks the right.
    Forbidden,
    /// The request was understood, but what it says cannot be done.
    Refused,
    /// Too many connections or captures at once; try again.
    Busy,
}
