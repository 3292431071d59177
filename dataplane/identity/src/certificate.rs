//! What this product needs to know of one certificate, taken out of its DER.
//!
//! Parsing says nothing about trust: the verifier establishes that with the chain. Own files and
//! peers' certificates go through the same parser.

use std::time::{Duration, SystemTime};

use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::name::{NameError, NodeId};

/// Largest certificate that is looked at, in bytes of DER. A node's own is under 1 KiB, one with
/// post-quantum alternative keys and signatures about 3.5 KiB.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// Most bytes of a serial number (RFC 5280 §4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// Why a certificate can not be a node's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// It is larger than [`MAX_CERTIFICATE_BYTES`].
    #[error(
        "expected a certificate of at most {MAX_CERTIFICATE_BYTES} bytes, got {got}: issue one without needless extensions"
    )]
    Oversized {
        /// Bytes of DER.
        got: usize,
    },
    /// It is no X.509 v3 certificate in DER, or something follows it.
    #[error(
        "expected one X.509 certificate in DER, got something else ({got}): send the file that `stoqctl pki issue` wrote"
    )]
    Malformed {
        /// What the parser met.
        got: String,
    },
    /// The public key is not of an allowed kind.
    #[error(
        "expected a key on P-256, P-384 or Ed25519, got {got}: issue a certificate with such a key"
    )]
    KeyAlgorithm {
        /// Dotted object identifier of the algorithm or curve.
        got: String,
    },
    /// There is not exactly one URI among the subject's alternative names.
    #[error(
        "expected exactly one URI (stoq://MESH/NODE) among the certificate's names, got {got}: issue a new one with `stoqctl pki issue`"
    )]
    NameCount {
        /// How many there are.
        got: usize,
    },
    /// The URI is no node's name.
    #[error("the certificate's name is invalid: {0}")]
    Name(#[from] NameError),
}

/// `id-ecPublicKey`: the curve is in the parameters (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";

/// The kinds of keys that a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyKind {
    P256,
    P384,
    Ed25519,
}

impl KeyKind {
    /// Its number in our own encodings.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::P256 => 1,
            Self::P384 => 2,
            Self::Ed25519 => 3,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::P256, Self::P384, Self::Ed25519].into_iter().find(|kind| kind.number() == number)
    }

    /// Length of its public keys in bytes (RFC 5480 §2.2 without compression, RFC 8410 §4).
    pub(crate) const fn public_len(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
            Self::Ed25519 => 32,
        }
    }
}

/// A parsed certificate, still in the DER that it was parsed from.
pub(crate) struct Certificate<'a>(X509Certificate<'a>);

impl<'a> Certificate<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateError::Oversized { got: der.len() });
        }
        let (rest, parsed) = X509Certificate::from_der(der).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} bytes behind it", rest.len())));
        }
        if parsed.raw_serial().len() > MAX_SERIAL_BYTES {
            return Err(malformed(format!(
                "a serial number of {} bytes",
                parsed.raw_serial().len()
            )));
        }
        Ok(Self(parsed))
    }

    /// The one node that it names (RFC 5280 §4.2.1.6, uniformResourceIdentifier).
    pub(crate) fn node_id(&self) -> Result<NodeId, CertificateError> {
        let names = self.0.subject_alternative_name().map_err(malformed)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris[..] {
            [uri] => Ok(NodeId::parse(uri)?),
            _ => Err(CertificateError::NameCount { got: uris.len() }),
        }
    }

    /// The kind of its key (RFC 5480 §2.1.1 for the curves, RFC 8410 §3).
    pub(crate) fn key_kind(&self) -> Result<KeyKind, CertificateError> {
        let algorithm = &self.0.public_key().algorithm;
        let mut oid = algorithm.algorithm.to_id_string();
        if oid == EC_PUBLIC_KEY {
            let curve = algorithm.parameters.clone().and_then(|curve| curve.oid().ok());
            oid = curve.map(|curve| curve.to_id_string()).unwrap_or_default();
        }
        match oid.as_str() {
            "1.2.840.10045.3.1.7" => Ok(KeyKind::P256),
            "1.3.132.0.34" => Ok(KeyKind::P384),
            "1.3.101.112" => Ok(KeyKind::Ed25519),
            _ => Err(CertificateError::KeyAlgorithm { got: oid }),
        }
    }

    /// The public key itself, as in the certificate's bit string.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.0.public_key().subject_public_key.data
    }

    /// Whether it may sign certificates (RFC 5280 §4.2.1.9).
    pub(crate) fn is_authority(&self) -> bool {
        self.0.is_ca()
    }

    /// Whether it says that its key signs handshakes for servers and for clients (RFC 5280
    /// §4.2.1.3 and §4.2.1.12). What a certificate does not say, it does not allow.
    pub(crate) fn usages(&self) -> Result<Usages, CertificateError> {
        let key = self.0.key_usage().map_err(malformed)?;
        let extended = self.0.extended_key_usage().map_err(malformed)?;
        let signs = key.is_some_and(|usage| usage.value.digital_signature());
        let server = extended.as_ref().is_some_and(|usage| usage.value.server_auth);
        let client = extended.as_ref().is_some_and(|usage| usage.value.client_auth);
        Ok(Usages { server: signs && server, client: signs && client })
    }

    pub(crate) fn not_before(&self) -> SystemTime {
        system_time(self.0.validity().not_before)
    }

    pub(crate) fn not_after(&self) -> SystemTime {
        system_time(self.0.validity().not_after)
    }

    /// The serial number in lower-case hexadecimal, as other tools print it.
    pub(crate) fn serial(&self) -> String {
        self.0.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a certificate's key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usages {
    pub(crate) server: bool,
    pub(crate) client: bool,
}

fn malformed(got: impl ToString) -> CertificateError {
    CertificateError::Malformed { got: got.to_string() }
}

fn system_time(time: ASN1Time) -> SystemTime {
    let since_epoch = Duration::from_secs(time.timestamp().unsigned_abs());
    let shifted = if time.timestamp() < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(since_epoch)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since_epoch)
    };
    shifted.unwrap_or(SystemTime::UNIX_EPOCH)
}
