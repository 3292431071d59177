//! Refusals as HTTP responses, and how the errors of the parts below become refusals.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hypermesh_api::{ErrorCode, Refusal};
use hypermesh_consensus::SubmitError;

use crate::chain::ChainError;
use crate::files::FileError;
use crate::store::StoreError;

/// Whether a refusal is in the audit log already, or was counted for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written(bool);

/// A request that was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub Refusal, Written);

impl Refused {
    /// A refusal with its reason.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Refusal::new(code, message), Written(false))
    }

    /// The same, as one that the audit log knows of.
    #[must_use]
    pub fn written(self) -> Self {
        Self(self.0, Written(true))
    }

    /// Whether the audit log knows of it.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        self.1.0
    }

    /// A fault of the daemon itself.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::Internal, format!("{error}; look at the log of hypermeshd"))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0.clone())).into_response();
        // Whoever counts and audits reads it here.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal, Written(false))
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::Storage, error.to_string())
    }
}

impl From<FileError> for Refused {
    fn from(error: FileError) -> Self {
        Self::new(ErrorCode::Storage, error.to_string())
    }
}

impl From<ChainError> for Refused {
    fn from(error: ChainError) -> Self {
        Self::new(ErrorCode::Storage, error.to_string())
    }
}

impl From<SubmitError> for Refused {
    fn from(error: SubmitError) -> Self {
        let code = match error {
            SubmitError::Rejected(_) => ErrorCode::Refused,
            SubmitError::Command(_) => ErrorCode::Invalid,
            SubmitError::Journal(_) => ErrorCode::Storage,
        };
        Self::new(code, error.to_string())
    }
}

impl From<JsonRejection> for Refused {
    fn from(error: JsonRejection) -> Self {
        let code = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
            _ => ErrorCode::Invalid,
        };
        Self::new(code, error.body_text())
    }
}

impl From<QueryRejection> for Refused {
    fn from(error: QueryRejection) -> Self {
        Self::new(ErrorCode::Invalid, error.body_text())
    }
}
