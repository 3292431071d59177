//! Verification of a peer's certificate chain.
//!
//! A [`Verifier`] belongs to one loaded identity and is immutable, so connections share it and a
//! reload replaces it whole. It is called once for each handshake, from the TLS library's callback,
//! with the chain as the peer sent it: nothing in it is trusted before the chain leads to a root.
//! Intermediates that are known from the mesh's state stand beside those that the peer sends.
//!
//! The chain itself is checked by `webpki` (RFC 5280 §6), with three families of signatures and no
//! others, so RSA and SHA-1 are refused. What is particular to this product comes on top: the
//! alternative signatures, what each certificate is for, the usages, the one name, the mesh.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, aws_lc_rs as algorithms};

use crate::MAX_ROOTS;
use crate::algorithm::Algorithm;
use crate::certificate::Certificate;
use crate::keys::{Policy, PublicKeys};
use crate::kind::{Expected, Kind};
use crate::mesh::dns_name;
use crate::name::{NodeId, check_name};
use crate::refusal::{RootsError, VerifyError};
use crate::root::{Root, check_dates};

/// Most certificates that a peer sends between its own and the root: a mesh has one intermediate,
/// and a second while that is replaced; the rest is room for federated meshes.
pub const MAX_INTERMEDIATES: usize = 4;

/// Most intermediates that are known from the mesh's state: one for each issuer, and its successor.
pub const MAX_KNOWN_INTERMEDIATES: usize = 32;

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
    /// What its certificate is for.
    pub kind: Kind,
    /// Its public keys. The alternative one is there under [`Policy::Hybrid`].
    pub keys: PublicKeys,
    /// The tunnel addresses that its certificate names.
    pub addresses: Vec<std::net::IpAddr>,
    /// When its certificate begins.
    pub not_before: SystemTime,
    /// When its certificate ends: the connection has to be replaced before.
    pub not_after: SystemTime,
    /// For how long the certificate has expired; zero unless [`Options::outlive`] let it pass.
    pub expired_for: Duration,
    /// The certificate's serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate's DER.
    pub fingerprint: [u8; 32],
    /// Fingerprint of the public keys of its issuer ([`PublicKeys::fingerprint`]).
    pub issuer: [u8; 32],
    /// Whether the certificate bears an alternative signature. It was verified under
    /// [`Policy::Hybrid`] only.
    pub has_alternative: bool,
}

/// How a verifier differs from the strictest.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which signatures have to hold.
    pub policy: Policy,
    /// The alternative algorithms that count under [`Policy::Hybrid`].
    pub algorithms: Vec<Algorithm>,
    /// For how long after its end a node's certificate is still taken: for a mesh that has lost all
    /// its issuers. Zero, unless an operator decided so.
    pub outlive: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: Policy::Hybrid,
            algorithms: vec![Algorithm::FnDsa1024],
            outlive: Duration::ZERO,
        }
    }
}

/// Verifies peers for one node: its roots, and its mesh.
pub struct Verifier {
    mesh: String,
    options: Options,
    roots: Vec<Root>,
    anchors: Vec<TrustAnchor<'static>>,
    known: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mesh, policy) = (&self.mesh, self.options.policy);
        write!(f, "Verifier({mesh}, {policy}, {} roots)", self.roots.len())
    }
}

impl Verifier {
    /// A verifier that trusts `roots` (DER) to name the nodes of `mesh`, with the policy `hybrid`.
    ///
    /// # Errors
    /// When there is no root, too many, or one that is no authority.
    pub fn new<C: AsRef<[u8]>>(roots: &[C], mesh: &str) -> Result<Self, RootsError> {
        let none: &[&[u8]] = &[];
        Self::with(roots, mesh, none, Options::default())
    }

    /// As [`Verifier::new`], with `intermediates` (DER) known from the mesh's state.
    ///
    /// # Errors
    /// Those of [`Verifier::new`], and too many or unreadable intermediates.
    pub fn with<C: AsRef<[u8]>, I: AsRef<[u8]>>(
        roots: &[C],
        mesh: &str,
        intermediates: &[I],
        options: Options,
    ) -> Result<Self, RootsError> {
        check_name(mesh)?;
        if roots.is_empty() || roots.len() > MAX_ROOTS {
            return Err(RootsError::Count { got: roots.len() });
        }
        if intermediates.len() > MAX_KNOWN_INTERMEDIATES {
            return Err(RootsError::Intermediates { got: intermediates.len() });
        }
        let (policy, allowed) = (options.policy, &options.algorithms);
        let roots: Vec<Root> = (1..)
            .zip(roots)
            .map(|(index, der)| Root::read(der.as_ref(), index, policy, allowed))
            .collect::<Result<_, _>>()?;
        let mut known = Vec::new();
        for (index, der) in (1..).zip(intermediates) {
            Certificate::parse(der.as_ref())
                .map_err(|error| RootsError::Intermediate { index, error })?;
            known.push(CertificateDer::from(der.as_ref().to_vec()));
        }
        let anchors = roots.iter().map(|root| root.anchor.clone()).collect();
        Ok(Self { mesh: mesh.to_owned(), options, roots, anchors, known })
    }

    /// The mesh whose nodes it knows.
    #[must_use]
    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// Which signatures have to hold.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.options.policy
    }

    /// For how long after its end a node's certificate is still taken.
    #[must_use]
    pub fn outlive(&self) -> Duration {
        self.options.outlive
    }

    /// The public keys of its roots.
    pub fn root_keys(&self) -> impl Iterator<Item = &PublicKeys> {
        self.roots.iter().map(|root| &root.keys)
    }

    /// Verifies the chain of the node that acts as `role` on STOQ, at the time `now`: `leaf` is its
    /// own certificate, `intermediates` are the others that it sent, in any order, all in DER.
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
        self.verify_as(Expected::Node, leaf, intermediates, role, now)
    }

    /// As [`Verifier::verify`], for a certificate that has to be for the use `expected`.
    ///
    /// # Errors
    /// The first rule that the chain breaks.
    pub fn verify_as<C: AsRef<[u8]>>(
        &self,
        expected: Expected,
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
        let kind = self.kind(&certificate, expected)?;
        let sent = intermediates.iter().map(|der| CertificateDer::from(der.as_ref()));
        let chain: Vec<_> = self.known.iter().cloned().chain(sent).collect();
        // Only its own end is passed over: its issuer has to have been valid then.
        let expired_for = self.outlived(&certificate, kind, now);
        let issuer = self.verify_chain(&certificate, &chain, role, now - expired_for)?;
        certificate.key_kind()?;
        if expected != Expected::Log && !certificate.usages()?.allow(role) {
            return Err(VerifyError::Usage(role));
        }
        self.peer(&certificate, kind, issuer, expired_for)
    }

    /// Verifies the certificate of an issuer, which stands directly below a root.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn verify_issuer(&self, der: &[u8], now: SystemTime) -> Result<PeerIdentity, VerifyError> {
        let certificate = Certificate::parse(der)?;
        // Its form is checked as strictly as in a chain: no second form of any field, no extension
        // twice, none that is critical and unknown (RFC 5280 §4.2).
        let owned = CertificateDer::from(der);
        EndEntityCert::try_from(&owned).map_err(|error| self.explain(error, Role::Server))?;
        self.check_issuer(&certificate)?;
        let untrusted = |reason: &str| VerifyError::Untrusted {
            roots: self.roots.len(),
            reason: reason.to_owned(),
        };
        let root = self.issuing_root(&certificate)?;
        root.check_validity(now)?;
        check_dates(certificate.not_before(), certificate.not_after(), now)?;
        if !certificate.signs_certificates() || certificate.path_length() != Some(0) {
            return Err(untrusted("an issuer's certificate that does not say so"));
        }
        self.peer(&certificate, Kind::Issuer, root.keys.fingerprint(), Duration::ZERO)
    }

    /// The root that signed the certificate of an issuer. Roots may share a name and a classical key
    /// while the alternative one is replaced, so that each of them is tried.
    fn issuing_root(&self, certificate: &Certificate<'_>) -> Result<&Root, VerifyError> {
        let untrusted = |reason: &str| VerifyError::Untrusted {
            roots: self.roots.len(),
            reason: reason.to_owned(),
        };
        let mut refused = untrusted("UnknownIssuer");
        for root in self.roots.iter().filter(|root| root.subject == certificate.issuer()) {
            let checked = match self.options.policy {
                _ if !certificate.is_signed_by(&root.keys) => Err(untrusted("InvalidSignature")),
                Policy::Hybrid => self.check_alternative(certificate, &root.keys, "its issuer's"),
                Policy::Classical => Ok(()),
            };
            match checked {
                Ok(()) => return Ok(root),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// What the certificate is for, if that is what is expected. Certificates from before there were
    /// other kinds are a node's: they exist under [`Policy::Classical`] only.
    fn kind(&self, certificate: &Certificate<'_>, expected: Expected) -> Result<Kind, VerifyError> {
        let kind = match (certificate.kind()?, self.options.policy) {
            (Some(kind), _) => kind,
            (None, Policy::Classical) => Kind::Node,
            (None, Policy::Hybrid) => return Err(VerifyError::NoKind { expected }),
        };
        if expected.allows(kind) {
            Ok(kind)
        } else {
            Err(VerifyError::Kind { expected, got: kind })
        }
    }

    /// For how long a node's certificate has expired, if the options let that pass; else zero.
    fn outlived(&self, certificate: &Certificate<'_>, kind: Kind, now: SystemTime) -> Duration {
        let ago = now.duration_since(certificate.not_after()).unwrap_or_default();
        let passed = kind == Kind::Node && ago <= self.options.outlive;
        if passed { ago } else { Duration::ZERO }
    }

    /// Verifies the path to a root, and returns the fingerprint of the issuer's keys.
    fn verify_chain(
        &self,
        certificate: &Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: SystemTime,
    ) -> Result<[u8; 32], VerifyError> {
        let usage = match role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        let leaf = CertificateDer::from(certificate.der());
        let refused = |error| self.explain(error, role);
        let parsed = EndEntityCert::try_from(&leaf).map_err(refused)?;
        let time = unix_time(now);
        let path = parsed
            .verify_for_usage(SIGNATURES, &self.anchors, intermediates, time, usage, None, None)
            .map_err(refused)?;
        self.verify_path(certificate, &path, now)
    }

    /// What `webpki` does not know: that each certificate above is an issuer's of this mesh, and the
    /// alternative signatures, from the root down.
    fn verify_path(
        &self,
        certificate: &Certificate<'_>,
        path: &VerifiedPath<'_>,
        now: SystemTime,
    ) -> Result<[u8; 32], VerifyError> {
        let reason = "UnknownIssuer".to_owned();
        let mut refused = VerifyError::Untrusted { roots: self.roots.len(), reason };
        // Roots that differ in the alternative key alone are one and the same to `webpki`.
        for root in self.roots.iter().filter(|root| root.anchor == *path.anchor()) {
            match self.verify_below(root, certificate, path, now) {
                Ok(issuer) => return Ok(issuer),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The path from one root.
    fn verify_below(
        &self,
        root: &Root,
        certificate: &Certificate<'_>,
        path: &VerifiedPath<'_>,
        now: SystemTime,
    ) -> Result<[u8; 32], VerifyError> {
        root.check_validity(now)?;
        let (policy, hybrid) = (self.options.policy, self.options.policy == Policy::Hybrid);
        let mut above = root.keys.clone();
        for authority in path.intermediate_certificates().rev() {
            let der = authority.der();
            let authority = Certificate::parse(&der)?;
            self.check_issuer(&authority)?;
            if hybrid {
                self.check_alternative(&authority, &above, "its issuer's")?;
            }
            above = authority.keys(policy)?;
        }
        if hybrid {
            self.check_alternative(certificate, &above, "the node's")?;
        }
        Ok(above.fingerprint())
    }

    /// Checks the alternative signature of one certificate of the chain, and that its own alternative
    /// key is of an algorithm that counts.
    fn check_alternative(
        &self,
        certificate: &Certificate<'_>,
        issuer: &PublicKeys,
        whose: &'static str,
    ) -> Result<(), VerifyError> {
        use crate::alternative::AlternativeError;
        let allowed = &self.options.algorithms;
        let checked = certificate.alternative().and_then(|alternative| {
            alternative.verify(certificate.der(), issuer.alternative(), allowed)?;
            let (algorithm, _) = alternative.key.ok_or(AlternativeError::NoKey)?;
            let unwanted = AlternativeError::Algorithm { got: algorithm.name() };
            if allowed.contains(&algorithm) { Ok(()) } else { Err(unwanted) }
        });
        checked.map_err(|error| VerifyError::Alternative { whose, error })
    }

    /// That an authority between a node and the root is an issuer's of this mesh. Under
    /// [`Policy::Classical`] it may be one from before issuers were named.
    fn check_issuer(&self, authority: &Certificate<'_>) -> Result<(), VerifyError> {
        let refused = |got| VerifyError::Issuer { expected: self.mesh.clone(), got };
        match authority.kind()? {
            Some(Kind::Issuer) => {}
            Some(other) => return Err(refused(format!("a certificate for `{other}`"))),
            None if self.options.policy == Policy::Classical => return Ok(()),
            None => return Err(refused("a certificate that does not say what it is for".into())),
        }
        let id = authority.node_id()?;
        if id.mesh() == self.mesh { Ok(()) } else { Err(refused(id.to_string())) }
    }

    fn peer(
        &self,
        certificate: &Certificate<'_>,
        kind: Kind,
        issuer: [u8; 32],
        expired_for: Duration,
    ) -> Result<PeerIdentity, VerifyError> {
        let id = certificate.node_id()?;
        if id.mesh() != self.mesh {
            return Err(VerifyError::ForeignMesh { expected: self.mesh.clone(), got: id });
        }
        let own = dns_name(id.mesh(), id.node());
        if let Some(got) = certificate.dns_names()?.into_iter().find(|name| *name != own) {
            return Err(VerifyError::DnsName { expected: own, got: got.to_owned() });
        }
        Ok(PeerIdentity {
            id,
            kind,
            keys: certificate.keys(self.options.policy)?,
            addresses: certificate.addresses()?,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            expired_for,
            serial: certificate.serial(),
            fingerprint: fingerprint(certificate.der()),
            issuer,
            has_alternative: certificate.alternative().is_ok_and(|found| found.signature.is_some()),
        })
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

/// The public keys of a root's certificate, and the proof that they signed it: both signatures
/// under [`Policy::Hybrid`], none needed under [`Policy::Classical`].
///
/// # Errors
/// When it is no authority's certificate, or lacks what the policy asks for.
pub fn root_keys(der: &[u8], policy: Policy) -> Result<PublicKeys, RootsError> {
    Root::read(der, 1, policy, &Algorithm::ALL).map(|root| root.keys)
}

pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    out
}

/// A clock before 1970 is taken as 1970, when no certificate of ours was valid yet.
fn unix_time(now: SystemTime) -> UnixTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixTime::since_unix_epoch(since)
}
