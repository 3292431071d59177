//! Verification of a peer's certificate chain.
//!
//! A [`Verifier`] belongs to one loaded identity and is immutable, so connections share it and a
//! reload replaces it whole. It is called once for each handshake, from the TLS library's callback,
//! with the chain as the peer sent it: nothing in it is trusted before the chain leads to a root.
//!
//! The chain itself is checked by `webpki` (RFC 5280 §6), with three families of signatures and no
//! others, so RSA and SHA-1 are refused. What is particular to this product comes on top: the kind
//! of key, the usages, the one name, the mesh.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs as algorithms};

use crate::MAX_ROOTS;
use crate::certificate::{Certificate, CertificateError};
use crate::name::{NameError, NodeId, check_name};
use crate::span::Span;

/// Most certificates between a node's own and the root: a mesh has one intermediate, and a second
/// while that is replaced; the rest is room for federated meshes.
pub const MAX_INTERMEDIATES: usize = 4;

const SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
];

/// Which end of the handshake a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that dialled: the accepting side verifies it.
    Client,
    /// The end that accepted: the dialling side verifies it.
    Server,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// A peer whose certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its mesh (always our own) and its name in it.
    pub id: NodeId,
    /// When its certificate ends: the connection has to be replaced before.
    pub not_after: SystemTime,
    /// The certificate's serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate's DER.
    pub fingerprint: [u8; 32],
}

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
    /// Our own mesh's name is invalid.
    #[error("the mesh's name is invalid: {0}")]
    Mesh(#[from] NameError),
}

struct Root {
    anchor: TrustAnchor<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Verifies peers for one node: its roots, and its mesh.
pub struct Verifier {
    mesh: String,
    roots: Vec<Root>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({}, {} roots)", self.mesh, self.roots.len())
    }
}

impl Verifier {
    /// A verifier that trusts `roots` (DER) to name the nodes of `mesh`.
    ///
    /// # Errors
    /// When there is no root, too many, or one that is no authority.
    pub fn new<C: AsRef<[u8]>>(roots: &[C], mesh: &str) -> Result<Self, RootsError> {
        check_name(mesh)?;
        if roots.is_empty() || roots.len() > MAX_ROOTS {
            return Err(RootsError::Count { got: roots.len() });
        }
        let numbered = roots.iter().zip(1..);
        let roots: Vec<Root> =
            numbered.map(|(der, index)| root(der.as_ref(), index)).collect::<Result<_, _>>()?;
        let anchors = roots.iter().map(|root| root.anchor.clone()).collect();
        Ok(Self { mesh: mesh.to_owned(), roots, anchors })
    }

    /// Verifies the chain of the peer that acts as `role`, at the time `now`: `leaf` is its own
    /// certificate, `intermediates` are the others that it sent, in any order, all in DER.
    ///
    /// # Errors
    /// The first rule that the chain breaks.
    pub fn verify<C: AsRef<[u8]>>(
        &self,
        leaf: &[u8],
        intermediates: &[C],
        role: Role,
        now: SystemTime,
    ) -> Result<PeerIdentity, VerifyError> {
        if intermediates.len() > MAX_INTERMEDIATES {
            return Err(VerifyError::TooManyCertificates { got: intermediates.len() });
        }
        let certificate = Certificate::parse(leaf)?;
        for intermediate in intermediates {
            Certificate::parse(intermediate.as_ref())?.key_kind()?;
        }
        self.verify_chain(leaf, intermediates, role, now)?;
        certificate.key_kind()?;
        let usages = certificate.usages()?;
        let allowed = match role {
            Role::Client => usages.client,
            Role::Server => usages.server,
        };
        if !allowed {
            return Err(VerifyError::Usage(role));
        }
        let id = certificate.node_id()?;
        if id.mesh() != self.mesh {
            return Err(VerifyError::ForeignMesh { expected: self.mesh.clone(), got: id });
        }
        Ok(PeerIdentity {
            id,
            not_after: certificate.not_after(),
            serial: certificate.serial(),
            fingerprint: fingerprint(leaf),
        })
    }

    fn verify_chain<C: AsRef<[u8]>>(
        &self,
        leaf: &[u8],
        intermediates: &[C],
        role: Role,
        now: SystemTime,
    ) -> Result<(), VerifyError> {
        let usage = match role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        let leaf = CertificateDer::from(leaf);
        let intermediates: Vec<CertificateDer<'_>> =
            intermediates.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        let refused = |error| self.explain(error, role);
        let parsed = EndEntityCert::try_from(&leaf).map_err(refused)?;
        let path = parsed
            .verify_for_usage(
                SIGNATURES,
                &self.anchors,
                &intermediates,
                unix_time(now),
                usage,
                None,
                None,
            )
            .map_err(refused)?;
        let root = self.roots.iter().find(|root| root.anchor == *path.anchor());
        root.map_or(Ok(()), |root| root.check_validity(now))
    }

    fn explain(&self, error: webpki::Error, role: Role) -> VerifyError {
        let distance = |late: UnixTime, early: UnixTime| {
            Duration::from_secs(late.as_secs().saturating_sub(early.as_secs()))
        };
        match error {
            webpki::Error::CertExpired { time, not_after } => {
                VerifyError::Expired { ago: distance(time, not_after) }
            }
            webpki::Error::CertNotValidYet { time, not_before } => {
                VerifyError::NotYetValid { ahead: distance(not_before, time) }
            }
            webpki::Error::CaUsedAsEndEntity => VerifyError::Authority,
            webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension => {
                VerifyError::Usage(role)
            }
            other => VerifyError::Untrusted { roots: self.roots.len(), reason: other.to_string() },
        }
    }
}

impl Root {
    /// A root's own dates count as well: RFC 5280 leaves that open, but here the root comes from
    /// our own authority, which dated it on purpose.
    fn check_validity(&self, now: SystemTime) -> Result<(), VerifyError> {
        if let Ok(ago) = now.duration_since(self.not_after)
            && !ago.is_zero()
        {
            return Err(VerifyError::Expired { ago });
        }
        match self.not_before.duration_since(now) {
            Ok(ahead) if !ahead.is_zero() => Err(VerifyError::NotYetValid { ahead }),
            _ => Ok(()),
        }
    }
}

fn root(der: &[u8], index: usize) -> Result<Root, RootsError> {
    let invalid = |error| RootsError::Certificate { index, error };
    let certificate = Certificate::parse(der).map_err(invalid)?;
    certificate.key_kind().map_err(invalid)?;
    if !certificate.is_authority() {
        return Err(RootsError::NotAuthority { index });
    }
    let owned = CertificateDer::from(der);
    let anchor = anchor_from_trusted_cert(&owned)
        .map_err(|error| invalid(CertificateError::Malformed { got: error.to_string() }))?;
    Ok(Root {
        anchor: anchor.to_owned(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
    })
}

fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    out
}

/// A clock before 1970 is taken as 1970, when no certificate of ours was valid yet.
fn unix_time(now: SystemTime) -> UnixTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixTime::since_unix_epoch(since)
}
