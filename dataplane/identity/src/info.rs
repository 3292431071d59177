//! What a certificate says, without a word on whether it is true: to show it, and to open one's own.

use std::net::IpAddr;
use std::time::SystemTime;

use crate::algorithm::Algorithm;
use crate::certificate::{Certificate, CertificateError};
use crate::keys::{Policy, PublicKeys};
use crate::kind::Kind;
use crate::name::NodeId;
use crate::verify::fingerprint;

/// The contents of a certificate. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Whom it is for; `None` for a root, which names no node.
    pub id: Option<NodeId>,
    /// The mesh that its subject names (its organisation), if it names one.
    pub mesh: Option<String>,
    /// What it is for; `None` for a root.
    pub kind: Option<Kind>,
    /// Whether it may sign certificates.
    pub authority: bool,
    /// Its public keys.
    pub keys: PublicKeys,
    /// Its names in the DNS.
    pub dns_names: Vec<String>,
    /// Its tunnel addresses.
    pub addresses: Vec<IpAddr>,
    /// Its first second.
    pub not_before: SystemTime,
    /// Its last second.
    pub not_after: SystemTime,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// Its subject as text.
    pub subject: String,
    /// Its issuer as text.
    pub issuer: String,
    /// The algorithm of its alternative signature, when it bears one.
    pub alternative_signature: Option<Algorithm>,
}

impl CertificateInfo {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it is none of ours by its form.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = Certificate::parse(der)?;
        let id = match certificate.node_id() {
            Ok(id) => Some(id),
            Err(CertificateError::NameCount { got: 0 }) => None,
            Err(error) => return Err(error),
        };
        let (subject, issuer) = certificate.names_as_text();
        Ok(Self {
            id,
            mesh: certificate.organization(),
            kind: certificate.kind()?,
            authority: certificate.is_authority(),
            keys: certificate.keys(Policy::Hybrid)?,
            dns_names: certificate.dns_names()?.into_iter().map(str::to_owned).collect(),
            addresses: certificate.addresses()?,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            serial: certificate.serial(),
            fingerprint: fingerprint(der),
            subject,
            issuer,
            alternative_signature: certificate.alternative()?.signature.map(|(known, _)| known),
        })
    }
}
