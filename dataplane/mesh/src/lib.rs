//! The signed objects of a mesh that both planes read: members' records, the set of revoked keys,
//! the heads and proofs of the certificate logs, and the bundle that carries them to a node.
//!
//! The control plane makes and signs them ([`Signed::sign`]); the data plane verifies them itself,
//! under the root, and enforces them, so that it needs nobody's word: [`Bundle::verify`] for what
//! is pushed, [`RevocationStore`] and [`HeadStore`] for what peers send, [`LogProof::verify`] for a
//! peer's certificate.
//!
//! It does no I/O and reads no clock. Everything is bounded before it is decoded, and nothing that
//! is decoded counts before its signature was verified ([`Signed::open`]).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod bundle;
mod head;
mod heads;
mod record;
mod revocation;
mod revoked;
mod signed;
mod signers;
pub mod tree;

pub use bundle::{
    BUNDLE_MAX_BYTES, Bundle, BundleError, IssuerCertificates, Mesh, RECORDS_MAX, Verified,
};
pub use head::{Consistency, LOG_PROOF_MAX_BYTES, LogProof, LogProofError, TreeHead};
pub use heads::{Fork, HeadError, HeadStore, Heard, LOGS_MAX};
pub use record::{ENDPOINTS_MAX, ROUTES_MAX, Record};
pub use revocation::{REVOCATIONS_MAX, REVOCATIONS_MAX_BYTES, Revocations, Revoked, RevokedKind};
pub use revoked::{RevocationError, RevocationStore};
pub use signed::{Body, ContentError, DecodeError, OpenError, SignError, Signed};
pub use signers::{SIGNERS_MAX, Signer, Signers, SignersError};
