//! What hypermeshd's HTTPS API speaks: the types of its requests and responses, its errors, and a
//! small client.
//!
//! Owns the JSON forms (each with its OpenAPI schema), the paths, and the limits of a message.
//! hypermeshd serves these types; `stoqctl` and other hypermeshds call them through [`Client`].
//! It knows no TLS and no store: a client is given the connection.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod bytes;
mod client;
mod error;
mod ledger;
mod log;
mod member;
mod mesh;
mod names;
pub mod path;
mod status;

pub use bytes::Base64;
pub use client::{BlockingClient, Client, ClientError};
pub use error::{ErrorCode, Refusal};
pub use ledger::{BundleReply, Command, Commands, FromHeight, HeadReply, LedgerReport, Snapshot};
pub use log::{
    AuditEntries, AuditEntry, Consistency, ConsistencyQuery, Heads, LogEntries, LogEntry, Proof,
    ProofQuery, RangeQuery,
};
pub use member::{
    Done, Endpoints, EnrolReply, EnrolRequest, Member, Members, Operator, OperatorCertificate,
    OperatorName, OperatorRequest, OperatorRole, Operators, RenewReply, RenewRequest, Revoked,
    Route, TokenInfo, TokenReply, TokenRequest, TokenRole, Tokens,
};
pub use mesh::{
    AddIssuerRequest, FoundReply, FoundRequest, IssuerRequest, IssuerRequestOf, JoinReply,
    JoinRequest, NodeName,
};
pub use names::{Names, TrustAnchor};
pub use status::{CertificateStatus, State, Status, StoqdStatus};

/// The version of this API: the first part of every path.
pub const VERSION: u32 = 1;

/// TCP port of the API.
pub const PORT: u16 = 9292;

/// Where the local socket is unless the command line says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/hypermesh/hypermeshd.sock";

/// Longest body of a request in bytes (256 KiB): an enrolment with its keys, proofs and certificates
/// is below 32 KiB; the rest is room.
pub const MAX_REQUEST_BYTES: usize = 256 << 10;

/// Longest [`LedgerReport`] in bytes (2 MiB): a set of revocations is at most 1 MiB, and base64 adds a third.
pub const MAX_REPORT_BYTES: usize = 2 << 20;

/// Longest body of a response in bytes (64 MiB): the bundle of a mesh of 10,000 nodes is about
/// 20 MB, and base64 adds a third.
pub const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Longest backup in bytes (1 GiB): the store of 10,000 nodes over a year of daily renewals is
/// half of that when only the last certificate of each is kept whole.
pub const MAX_BACKUP_BYTES: usize = 1 << 30;
