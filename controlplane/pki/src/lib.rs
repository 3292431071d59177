//! The certificate authority of a mesh that is run by hand: one root on disk that issues nodes.
//!
//! Owns the root's directory (`ca.crt`, `ca.key`) and the three files of a node; what is in the
//! certificates comes from `stoq-trustchain`. `stoqctl pki` calls [`init`] and [`issue`]; tests call
//! [`Authority::issue`] with dates of their own.
//!
//! | certificate | keys | valid | says |
//! |---|---|---|---|
//! | root | P-256, FN-DSA-1024 | 10 years | CA, room for one intermediate; signs certificates and CRLs; may speak only for names and addresses that are never public |
//! | node | P-256, FN-DSA-1024 | 90 days | no CA; digital signature; TLS server and client; `stoq://MESH/NODE` |
//!
//! Each bears a signature of either kind. Both begin [`BACKDATE`] before they are made, for hosts
//! whose clocks are a little behind.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod authority;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use authority::{Authority, Issued, init, issue};
use stoq_identity::NameError;
pub use stoq_trustchain::{BACKDATE, ROOT_VALIDITY};
use thiserror::Error;

/// How long a node's certificate is valid. Renewal is still an operator's job, hence a quarter.
pub const NODE_VALIDITY: Duration = Duration::from_secs(90 * DAY_S);

const DAY_S: u64 = 24 * 60 * 60;

/// Why a certificate was not made.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The mesh's or node's name breaks the rules.
    #[error("{what} name {name:?}: {source}")]
    Name {
        /// `mesh` or `node`.
        what: &'static str,
        /// What was given.
        name: String,
        /// The rule.
        source: NameError,
    },
    /// There already is a root.
    #[error(
        "expected no authority in {directory:?}, got {file}: choose another directory, or remove that one if no node uses it"
    )]
    Exists {
        /// Where the root was to be made.
        directory: PathBuf,
        /// The file in the way.
        file: &'static str,
    },
    /// A file can not be read or written.
    #[error(
        "{path:?}: expected to {action} it, got: {source}; check the path, its owner and the free space"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// `read`, `write` or `create`.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The root's files are damaged or do not belong together.
    #[error(
        "{path:?}: expected {expected}, got {got}; restore it from a backup, or make a new root with `stoqctl pki init`"
    )]
    Root {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is.
        got: String,
    },
    /// The certificate would not lie within the life of the root.
    #[error(
        "expected dates within those of the root, got a certificate that {got}: check the clock (`timedatectl`), or make a new root with `stoqctl pki init`"
    )]
    Dates {
        /// What is wrong with them.
        got: &'static str,
    },
    /// The cryptographic library failed.
    #[error(
        "expected the cryptographic library to make a certificate, got: {0}; report it with the platform"
    )]
    Crypto(String),
}
