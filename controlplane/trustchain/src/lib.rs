//! The certificates of a mesh: who issues what, in which form, for how long.
//!
//! Owns the profiles of all certificates, the two signatures that each bears, the request that asks
//! for one, the token that invites a host, and the adaptors that let `rustls` ask the one verifier
//! of `stoq-identity`. `hypermeshd` issues and serves with it, `stoqctl` makes roots and joins with
//! it, `stoq-pki` makes offline meshes with it. It does no I/O and reads no clock: dates are
//! arguments.
//!
//! ```text
//! root ──────────── 10 years, may be kept offline; names constrained to private ones
//!  ├─ issuer ────── 1 year, one for each host that issues; NAME.internal and the mesh's prefixes
//!  │   ├─ node ──── 24 hours; STOQ in both roles, server of the API
//!  │   └─ operator  24 hours; client of the API only
//!  └─ log ───────── 1 year, one for each issuer: signs the heads of its log
//! ```
//!
//! Every certificate has a key on P-256 and an alternative one (FN-DSA-1024), bears a signature of
//! each kind by its issuer, and says by a certificate policy what it is for.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod authority;
mod hybrid;
mod profile;
mod proof;
mod request;
mod tls;
mod token;

use std::time::{Duration, SystemTime};

pub use authority::Authority;
pub use profile::{PRIVATE_DOMAIN, Prefixes, Subject};
pub use proof::{Enrolment, PROOF_BYTES, ProofError};
pub use request::{CONTEXT_MAX, REQUEST_MAX, Request, RequestError, renewal_context};
use stoq_identity::{AlternativeError, CertificateError, KeyError, NameError};
use thiserror::Error;
pub use tls::{
    ClientVerifier, RootFingerprint, ServerVerifier, TlsReason, client_config, server_config,
    tls_reason,
};
pub use token::{TOKEN_MAX, Token, TokenError};

/// How long a root is valid: longer than the service life of an edge host, so that it is replaced
/// on purpose and not by an outage.
pub const ROOT_VALIDITY: Duration = Duration::from_secs(10 * 365 * DAY_S);

/// How long an issuer and its log are valid: the root has to be fetched out of its safe once a year.
pub const ISSUER_VALIDITY: Duration = Duration::from_secs(365 * DAY_S);

/// How long certificates of nodes and operators are valid. They are renewed by themselves, so
/// that a stolen one is soon worth nothing even where no revocation arrives.
pub const LEAF_VALIDITY: Duration = Duration::from_secs(DAY_S);

/// How long before its making a certificate begins: clocks of hosts without time service differ by
/// minutes.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

const DAY_S: u64 = 24 * 60 * 60;

/// From when to when a certificate is valid, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// The first second.
    pub not_before: SystemTime,
    /// The last second.
    pub not_after: SystemTime,
}

impl Dates {
    /// From [`BACKDATE`] before `now`, for `validity` after it.
    #[must_use]
    pub fn of(now: SystemTime, validity: Duration) -> Self {
        Self { not_before: now - BACKDATE, not_after: now + validity }
    }

    /// When the holder should renew: after two thirds of the time between the two dates, so that a
    /// third is left for an issuer's outage.
    #[must_use]
    pub fn renewal(&self) -> SystemTime {
        let length = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + length * 2 / 3
    }
}

/// Why a certificate was not issued.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TrustError {
    /// A name breaks the rules.
    #[error("{what} name {name:?}: {source}")]
    Name {
        /// `mesh`, `node` or `operator`.
        what: &'static str,
        /// What was given.
        name: String,
        /// The rule.
        source: NameError,
    },
    /// The authority's certificate is none, or not that of these keys.
    #[error("expected {expected}, got {got}: restore the authority's files from a backup")]
    Authority {
        /// What should be there.
        expected: &'static str,
        /// What is.
        got: String,
    },
    /// The authority may not issue this.
    #[error("expected {expected} to issue {what}, got {got}: ask the right authority")]
    NotAllowed {
        /// What was asked for.
        what: &'static str,
        /// Who may issue it.
        expected: &'static str,
        /// Who was asked.
        got: &'static str,
    },
    /// An address is outside the mesh's.
    #[error("expected addresses within {prefixes}, got {got}: assign one of the mesh's own")]
    Address {
        /// The mesh's prefixes.
        prefixes: String,
        /// The first address outside.
        got: String,
    },
    /// The certificate would not lie within the life of its issuer.
    #[error(
        "expected dates within those of the issuer, got a certificate that {got}: check the clock (`timedatectl`), or renew the issuer"
    )]
    Dates {
        /// What is wrong with them.
        got: &'static str,
    },
    /// The keys to be certified are not of the kinds that are issued.
    #[error(
        "expected a key on P-256 and an alternative one, got {got}: make new keys with this release"
    )]
    Keys {
        /// What they are.
        got: &'static str,
    },
    /// A certificate can not be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An alternative signature can not be read.
    #[error(transparent)]
    Alternative(#[from] AlternativeError),
    /// Keys can not be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate library failed.
    #[error(
        "expected the certificate library to make a certificate, got: {0}; report it with the platform"
    )]
    Library(String),
}

pub(crate) fn library(error: impl ToString) -> TrustError {
    TrustError::Library(error.to_string())
}
