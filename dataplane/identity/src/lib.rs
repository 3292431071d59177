//! Who a node is, and whether a peer is who it says it is.
//!
//! Owns the form of a node's identity (`stoq://MESH/NODE` in the certificate), the reading of the
//! three identity files, and the verification of a peer's certificate chain. The transport calls
//! [`Verifier::verify`] from its TLS library's callback with the chain as DER; the daemon calls
//! [`Identity::load`] at start and at reload; the certificate authority and `stoqctl doctor` use
//! the same names and checks.
//!
//! It knows no TLS library, reads no clock (time is an argument) and does no I/O but
//! [`Identity::load`]. Everything that a peer sends is bounded before it is parsed.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod algorithm;
mod alternative;
mod certificate;
pub mod der;
mod encoding;
mod info;
mod keys;
mod kind;
mod load;
mod mesh;
mod name;
mod oid;
mod pem;
mod possession;
mod refusal;
mod root;
mod signature;
mod span;
mod verify;

pub use algorithm::{ALTERNATIVE_KEY_MAX, ALTERNATIVE_SIGNATURE_MAX, Algorithm};
pub use alternative::{AlternativeError, pre_tbs_certificate};
pub use certificate::{CertificateError, MAX_CERTIFICATE_BYTES};
pub use info::CertificateInfo;
pub use keys::{KeyError, PUBLIC_KEYS_MAX, Policy, PrivateKeys, PublicKeys};
pub use kind::{Expected, Kind, OperatorRole};
pub use load::{File, Identity, LoadError, Open, Warning};
pub use mesh::{MESH_NAME_MAX, MESH_PREFIX_BITS, dns_name, mesh_id, mesh_name, mesh_prefix};
pub use name::{NAME_MAX, NameError, NodeId, check_name};
pub use pem::{certificate_to_pem, identity_to_pem};
pub use possession::possession_body;
pub use refusal::{RootsError, VerifyError};
pub use signature::{Label, SIGNATURE_MAX, Signature, SignatureError};
pub use span::Span;
pub use verify::{
    MAX_INTERMEDIATES, MAX_KNOWN_INTERMEDIATES, Options, PeerIdentity, Role, Verifier, root_keys,
};

/// The most roots that are trusted at a time: the mesh's own, its successor while it is rotated,
/// and those of a few federated meshes.
pub const MAX_ROOTS: usize = 16;
