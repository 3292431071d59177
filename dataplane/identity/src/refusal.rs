//! Why a chain is refused, and why roots can not be used.

use std::time::Duration;

use thiserror::Error;

use crate::MAX_ROOTS;
use crate::alternative::AlternativeError;
use crate::certificate::CertificateError;
use crate::kind::{Expected, Kind};
use crate::name::{NameError, NodeId};
use crate::span::Span;
use crate::verify::{MAX_INTERMEDIATES, MAX_KNOWN_INTERMEDIATES, Role};

/// Why a chain was refused. Every variant counts as `certificate_refused`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// More certificates than [`MAX_INTERMEDIATES`] beside the first.
    #[error(
        "expected at most {MAX_INTERMEDIATES} intermediate certificates, got {got}: send only those between the node's and the root"
    )]
    TooManyCertificates {
        /// How many came beside the first.
        got: usize,
    },
    /// A certificate is unreadable or can not be a node's.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The chain ends at no root of ours, or a signature in it is invalid.
    #[error(
        "expected a certificate issued under one of our {roots} trusted root(s), got one from elsewhere ({reason}): both nodes need the same ca.crt and certificates issued under it"
    )]
    Untrusted {
        /// How many roots are trusted.
        roots: usize,
        /// What the path validation met last.
        reason: String,
    },
    /// A certificate of the chain has ended.
    #[error("the certificate expired {} ago by this host's clock: renew it, or set the clock right", Span(*.ago))]
    Expired {
        /// How far its end lies in the past.
        ago: Duration,
    },
    /// A certificate of the chain has not begun.
    #[error("the certificate becomes valid in {} by this host's clock: set this clock, or that of the issuing host, right", Span(*.ahead))]
    NotYetValid {
        /// How far its beginning lies in the future.
        ahead: Duration,
    },
    /// It may sign certificates and so must not speak for a node.
    #[error(
        "expected a node's certificate, got that of an authority: configure node.crt, not ca.crt"
    )]
    Authority,
    /// Its usages do not allow this role.
    #[error(
        "expected a certificate for the usage `TLS {0}` with digital signatures, got one without: issue a new one with `stoqctl pki issue`"
    )]
    Usage(Role),
    /// It is for something else than what it is shown for.
    #[error(
        "expected a certificate for the use `{expected}`, got one for `{got}`: show the one that was issued for this use"
    )]
    Kind {
        /// For what it has to be.
        expected: Expected,
        /// For what it is.
        got: Kind,
    },
    /// It does not say for what it is.
    #[error(
        "expected a certificate whose policy says what it is for ({expected}), got one without: issue it again"
    )]
    NoKind {
        /// For what it has to be.
        expected: Expected,
    },
    /// A certificate above it is no issuer's of this mesh.
    #[error(
        "expected an issuer of mesh {expected} between the certificate and the root, got {got}: it was issued elsewhere"
    )]
    Issuer {
        /// Our mesh.
        expected: String,
        /// What it is.
        got: String,
    },
    /// An alternative signature does not hold.
    #[error("{whose} certificate: {error}")]
    Alternative {
        /// Whose certificate of the chain: `the node's`, `its issuer's` or `the root's`.
        whose: &'static str,
        /// What is wrong.
        error: AlternativeError,
    },
    /// It bears a name in the DNS that is not its own.
    #[error("expected no name in the DNS but {expected}, got {got:?}: issue it again")]
    DnsName {
        /// Its own.
        expected: String,
        /// The first other one.
        got: String,
    },
    /// It is a node of another mesh.
    #[error("expected a node of mesh {expected}, got {got}: peers must be of one mesh")]
    ForeignMesh {
        /// Our mesh.
        expected: String,
        /// Whom the certificate names.
        got: NodeId,
    },
}

/// Why a set of roots can not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RootsError {
    /// None, or more than [`MAX_ROOTS`].
    #[error("expected 1 to {MAX_ROOTS} root certificates, got {got}: keep those that are in use")]
    Count {
        /// How many.
        got: usize,
    },
    /// One of them is unreadable.
    #[error("root certificate {index}: {error}")]
    Certificate {
        /// Its place, from 1.
        index: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// One of them is no authority.
    #[error(
        "root certificate {index}: expected that of an authority, got a node's: use the ca.crt that `stoqctl pki issue` wrote"
    )]
    NotAuthority {
        /// Its place, from 1.
        index: usize,
    },
    /// The root's own alternative signature does not hold, and the policy asks for it.
    #[error("root certificate {index}: {error}")]
    Alternative {
        /// Its place, from 1.
        index: usize,
        /// What is wrong.
        error: AlternativeError,
    },
    /// More intermediates are known than there can be issuers.
    #[error(
        "expected at most {MAX_KNOWN_INTERMEDIATES} known intermediates, got {got}: withdraw issuers that are not used"
    )]
    Intermediates {
        /// How many.
        got: usize,
    },
    /// One of the known intermediates is unreadable.
    #[error("known intermediate {index}: {error}")]
    Intermediate {
        /// Its place, from 1.
        index: usize,
        /// What is wrong.
        error: CertificateError,
    },
    /// Our own mesh's name is invalid.
    #[error("the mesh's name is invalid: {0}")]
    Mesh(#[from] NameError),
}
