//! The one verifier, for `rustls`: the API's server and clients ask it as STOQ does.
//!
//! TLS 1.3 only. What a certificate is for decides where it counts: a server shows that of a node, a
//! client that of an operator. The name by which a server was dialled is not compared, since
//! addresses of hosts are no names of nodes: the mesh, not the DNS, says who belongs to it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use stoq_identity::{
    CertificateInfo, Expected, Options, Policy, Role, RootsError, Verifier, VerifyError, mesh_id,
    mesh_name, root_keys,
};
use thiserror::Error as ThisError;

/// The signatures that a peer may make in the handshake.
const SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
];

/// Why a peer was refused in the handshake; found in the connection's error by [`tls_reason`].
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum TlsReason {
    /// Its chain breaks a rule.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The root that it sent can not be used.
    #[error(transparent)]
    Root(#[from] RootsError),
    /// The chain does not end at the root that the token names.
    #[error(
        "expected a server of the mesh that the token names, got one with another root: somebody may stand between this host and the mesh; check the token and the address"
    )]
    OtherMesh,
}

/// The reason in an error of the handshake, when one of these verifiers gave it.
#[must_use]
pub fn tls_reason(error: &Error) -> Option<&TlsReason> {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = error else {
        return None;
    };
    other.downcast_ref()
}

fn refused(reason: impl Into<TlsReason>) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason.into()))))
}

/// What all of these verifiers have in common: how a handshake's signature is checked.
fn check_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signature, &algorithms)
}

fn no_tls12() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)
}

fn time(now: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())
}

/// The key exchange is safe against quantum computers first (X25519MLKEM768), and classical only with
/// tools that know no other.
fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// The configuration of a client of the API that verifies with `verifier`, and shows `chain` when it
/// has one. `clock` is the time that certificates are verified at.
///
/// # Errors
/// When the key can not be used.
pub fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key),
    }
}

/// The configuration of the API's server, which shows `chain` (for hosts that join: up to the root).
///
/// # Errors
/// When the key can not be used.
pub fn server_config(
    verifier: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, Error> {
    ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
}

/// What every verifier of rustls says of the handshake's own signature: the same here, and TLS 1.3 alone.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(no_tls12())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            check_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            SCHEMES.to_vec()
        }
    };
}

/// For a client: takes servers that are nodes of the mesh.
#[derive(Debug)]
pub struct ServerVerifier(pub Arc<Verifier>);

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify(end_entity, intermediates, Role::Server, time(now)).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

/// For a host that is about to join: takes the server of the mesh whose root has this fingerprint,
/// and no other. The server sends its whole chain, the root last.
#[derive(Debug)]
pub struct RootFingerprint {
    expected: [u8; 32],
    policy: Policy,
    root: OnceLock<Vec<u8>>,
}

impl RootFingerprint {
    /// A verifier for the root whose public keys have the fingerprint `expected`.
    #[must_use]
    pub fn new(expected: [u8; 32], policy: Policy) -> Self {
        Self { expected, policy, root: OnceLock::new() }
    }

    /// The root's certificate (DER), once a server of its mesh was verified.
    #[must_use]
    pub fn root(&self) -> Option<&[u8]> {
        self.root.get().map(Vec::as_slice)
    }

    fn verify(
        &self,
        end_entity: &[u8],
        others: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), TlsReason> {
        let (root, intermediates) = others.split_last().ok_or(TlsReason::OtherMesh)?;
        let keys = root_keys(root, self.policy)?;
        if keys.fingerprint() != self.expected {
            return Err(TlsReason::OtherMesh);
        }
        let leaf = CertificateInfo::read(end_entity).map_err(VerifyError::from)?;
        let mesh = leaf.id.ok_or(TlsReason::OtherMesh)?.mesh().to_owned();
        // The identifier is bound to the root's keys, so no server can choose another.
        if mesh_id(mesh_name(&mesh), &keys).as_ref() != Ok(&mesh) {
            return Err(TlsReason::OtherMesh);
        }
        let none: &[&[u8]] = &[];
        let options = Options { policy: self.policy, ..Options::default() };
        let verifier = Verifier::with(&[root], &mesh, none, options)?;
        verifier.verify(end_entity, intermediates, Role::Server, now)?;
        self.root.get_or_init(|| root.to_vec());
        Ok(())
    }
}

impl ServerCertVerifier for RootFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, time(now)).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

/// For the server: takes clients whose certificate is for `expected`, and clients without one
/// unless it is `mandatory`: a host that joins has none yet, and proves itself by its token.
#[derive(Debug)]
pub struct ClientVerifier {
    /// Who verifies.
    pub verifier: Arc<Verifier>,
    /// What the certificate has to be for.
    pub expected: Expected,
    /// Whether a client has to show one.
    pub mandatory: bool,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (role, now) = (Role::Client, time(now));
        let verified = self.verifier.verify_as(self.expected, end_entity, intermediates, role, now);
        verified.map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}
