//! Why a request was refused. Written by hypermeshd, read by every client.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every response that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
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
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request cannot be read, or says what cannot be.
    Invalid,
    /// No certificate, or one that does not verify.
    Unauthenticated,
    /// The caller is known and lacks the role.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The ledger says no: a held name, an overlapping route, a used or expired token.
    Refused,
    /// The body is too long.
    TooLarge,
    /// Too many requests; try again later.
    Busy,
    /// The clock of one of the two hosts is wrong.
    Clock,
    /// This daemon belongs to no mesh yet.
    Uninitialised,
    /// This daemon belongs to a mesh already.
    Initialised,
    /// What is needed to answer cannot be reached: the sequencer, a peer, stoqd.
    Unavailable,
    /// The state cannot be written or read: a full or failing disk.
    Storage,
    /// A fault of the daemon.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with it (RFC 9110 §15).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid | Self::Clock => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Refused | Self::Uninitialised | Self::Initialised => 409,
            Self::TooLarge => 413,
            Self::Busy => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::Storage => 507,
        }
    }

    /// The label that counts it in `hypermesh_refused_total`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Clock => "clock",
            Self::Uninitialised => "uninitialised",
            Self::Initialised => "initialised",
            Self::Unavailable => "unavailable",
            Self::Storage => "storage",
            Self::Internal => "internal",
        }
    }
}
