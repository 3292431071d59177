//! What this product needs to know of one certificate, taken out of its DER.
//!
//! Parsing says nothing about trust: the verifier establishes that with the chain. Own files and
//! peers' certificates go through the same parser.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension, PolicyInformation};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::AlgorithmIdentifier;

use crate::alternative::{Alternative, AlternativeError};
use crate::keys::{Policy, PublicKeys};
use crate::kind::Kind;
use crate::name::{NameError, NodeId};
use crate::verify::Role;

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
    /// Its policies do not say for what one thing it is.
    #[error(
        "expected one certificate policy that says what the certificate is for, got {got}: issue it again"
    )]
    Kinds {
        /// How many of ours there are.
        got: usize,
    },
    /// Its alternative key or signature is unusable.
    #[error(transparent)]
    Alternative(#[from] AlternativeError),
}

/// `id-ecPublicKey`: the curve is in the parameters (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";

/// Most addresses among a certificate's names: a node has one of each family, with room for more.
const MAX_ADDRESSES: usize = 16;

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
pub(crate) struct Certificate<'a> {
    parsed: X509Certificate<'a>,
    der: &'a [u8],
}

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
        Ok(Self { parsed, der })
    }

    /// The certificate as it came.
    pub(crate) fn der(&self) -> &'a [u8] {
        self.der
    }

    /// Its names (RFC 5280 §4.2.1.6) as far as `select` takes them.
    fn names<'s, T>(
        &'s self,
        select: impl Fn(&GeneralName<'s>) -> Option<T>,
    ) -> Result<Vec<T>, CertificateError> {
        let names = self.parsed.subject_alternative_name().map_err(malformed)?;
        let names = names.iter().flat_map(|extension| &extension.value.general_names);
        Ok(names.filter_map(select).collect())
    }

    /// The one node that it names.
    pub(crate) fn node_id(&self) -> Result<NodeId, CertificateError> {
        let uris = self.names(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })?;
        match uris[..] {
            [uri] => Ok(NodeId::parse(uri)?),
            _ => Err(CertificateError::NameCount { got: uris.len() }),
        }
    }

    /// The kind of its key (RFC 5480 §2.1.1 for the curves, RFC 8410 §3).
    pub(crate) fn key_kind(&self) -> Result<KeyKind, CertificateError> {
        let algorithm = &self.parsed.public_key().algorithm;
        let mut oid = algorithm.algorithm.to_id_string();
        if oid == EC_PUBLIC_KEY {
            let curve = algorithm.parameters.clone().and_then(|curve| curve.oid().ok());
            oid = curve.map(|curve| curve.to_id_string()).unwrap_or_default();
        }
        let kind = match oid.as_str() {
            "1.2.840.10045.3.1.7" => KeyKind::P256,
            "1.3.132.0.34" => KeyKind::P384,
            "1.3.101.112" => KeyKind::Ed25519,
            _ => return Err(CertificateError::KeyAlgorithm { got: oid }),
        };
        // A point has a short form too (RFC 5480 §2.2): the same key under another fingerprint.
        let length = self.public_key().len();
        if length != kind.public_len() {
            return Err(malformed(format!("a public key of {length} bytes")));
        }
        Ok(kind)
    }

    /// Its names in the DNS.
    pub(crate) fn dns_names(&self) -> Result<Vec<&str>, CertificateError> {
        self.names(|name| match name {
            GeneralName::DNSName(dns) => Some(*dns),
            _ => None,
        })
    }

    /// Its addresses.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>, CertificateError> {
        let octets = self.names(|name| match name {
            GeneralName::IPAddress(octets) => Some(*octets),
            _ => None,
        })?;
        if octets.len() > MAX_ADDRESSES {
            return Err(malformed(format!("{} addresses", octets.len())));
        }
        let address = |octets: &[u8]| match octets.len() {
            4 => <[u8; 4]>::try_from(octets).map(IpAddr::from).map_err(malformed),
            16 => <[u8; 16]>::try_from(octets).map(IpAddr::from).map_err(malformed),
            length => Err(malformed(format!("an address of {length} bytes"))),
        };
        octets.into_iter().map(address).collect()
    }

    /// What it is for, by its policies (RFC 5280 §4.2.1.4); `None` when none of ours is there.
    pub(crate) fn kind(&self) -> Result<Option<Kind>, CertificateError> {
        let mut kinds = Vec::new();
        for extension in self.parsed.extensions() {
            let ParsedExtension::CertificatePolicies(policies) = extension.parsed_extension()
            else {
                continue;
            };
            let ours =
                |policy: &PolicyInformation<'_>| Kind::from_policy(policy.policy_id.as_bytes());
            kinds.extend(policies.iter().filter_map(ours));
        }
        match kinds[..] {
            [] => Ok(None),
            [kind] => Ok(Some(kind)),
            _ => Err(CertificateError::Kinds { got: kinds.len() }),
        }
    }

    /// Its alternative key and signature.
    pub(crate) fn alternative(&self) -> Result<Alternative<'_>, AlternativeError> {
        let extensions = self.parsed.extensions().iter();
        Alternative::read(extensions.map(|found| (found.oid.as_bytes(), found.value)))
    }

    /// Its public keys; the alternative one is not looked at under [`Policy::Classical`] when it is
    /// unusable.
    pub(crate) fn keys(&self, policy: Policy) -> Result<PublicKeys, CertificateError> {
        let alternative = match (self.alternative(), policy) {
            (Ok(alternative), _) => alternative.key,
            (Err(_), Policy::Classical) => None,
            (Err(error), Policy::Hybrid) => return Err(error.into()),
        };
        Ok(PublicKeys::new(self.key_kind()?, self.public_key(), alternative))
    }

    /// The organisation that its subject names: the mesh.
    pub(crate) fn organization(&self) -> Option<String> {
        let named = self.parsed.subject().iter_organization().next()?;
        named.as_str().ok().map(str::to_owned)
    }

    /// Its subject and its issuer as text (RFC 4514).
    pub(crate) fn names_as_text(&self) -> (String, String) {
        (self.parsed.subject().to_string(), self.parsed.issuer().to_string())
    }

    /// Its subject and its issuer, in DER.
    pub(crate) fn subject(&self) -> &[u8] {
        self.parsed.subject().as_raw()
    }

    pub(crate) fn issuer(&self) -> &[u8] {
        self.parsed.issuer().as_raw()
    }

    /// How many authorities may stand below it (RFC 5280 §4.2.1.9); `None` when it is no authority
    /// or does not say.
    pub(crate) fn path_length(&self) -> Option<u32> {
        let constraints = self.parsed.basic_constraints().ok().flatten()?;
        constraints.value.path_len_constraint.filter(|_| constraints.value.ca)
    }

    /// Whether its key may sign certificates by its usages (RFC 5280 §4.2.1.3).
    pub(crate) fn signs_certificates(&self) -> bool {
        let usage = self.parsed.key_usage().ok().flatten();
        usage.is_some_and(|usage| usage.value.key_cert_sign())
    }

    /// Checks the classical signature by the key of `issuer`, which is one of the kinds that this
    /// product's authorities have.
    pub(crate) fn is_signed_by(&self, issuer: &PublicKeys) -> bool {
        let expected = issuer.signature_oid();
        let named =
            |identifier: &AlgorithmIdentifier<'_>| identifier.algorithm.as_bytes() == expected;
        named(&self.parsed.signature_algorithm)
            && named(&self.parsed.tbs_certificate.signature)
            && self.parsed.signature_value.unused_bits == 0
            && issuer.verify_classical(
                self.parsed.tbs_certificate.as_ref(),
                &self.parsed.signature_value.data,
            )
    }

    /// The public key itself, as in the certificate's bit string.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.parsed.public_key().subject_public_key.data
    }

    /// Whether it may sign certificates (RFC 5280 §4.2.1.9).
    pub(crate) fn is_authority(&self) -> bool {
        self.parsed.is_ca()
    }

    /// Whether it says that its key signs handshakes for servers and for clients (RFC 5280
    /// §4.2.1.3 and §4.2.1.12). What a certificate does not say, it does not allow.
    pub(crate) fn usages(&self) -> Result<Usages, CertificateError> {
        let key = self.parsed.key_usage().map_err(malformed)?;
        let extended = self.parsed.extended_key_usage().map_err(malformed)?;
        let signs = key.is_some_and(|usage| usage.value.digital_signature());
        let server = extended.as_ref().is_some_and(|usage| usage.value.server_auth);
        let client = extended.as_ref().is_some_and(|usage| usage.value.client_auth);
        Ok(Usages { server: signs && server, client: signs && client })
    }

    pub(crate) fn not_before(&self) -> SystemTime {
        system_time(self.parsed.validity().not_before)
    }

    pub(crate) fn not_after(&self) -> SystemTime {
        system_time(self.parsed.validity().not_after)
    }

    /// The serial number in lower-case hexadecimal, as other tools print it.
    pub(crate) fn serial(&self) -> String {
        self.parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a certificate's key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usages {
    pub(crate) server: bool,
    pub(crate) client: bool,
}

impl Usages {
    pub(crate) fn allow(self, role: Role) -> bool {
        match role {
            Role::Client => self.client,
            Role::Server => self.server,
        }
    }
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
