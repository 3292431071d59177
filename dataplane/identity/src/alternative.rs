//! The alternative key and signature of a certificate (X.509 2019, §7.2.2 and §9.8.2 to §9.8.4).
//!
//! Three extensions, none critical: the subject's alternative key, the algorithm of the issuer's
//! alternative signature, and that signature. It is made over the PreTBSCertificate: what the
//! classical signature covers, without the field `signature` and without the third extension. The
//! classical signature then covers all three.

use thiserror::Error;

use crate::algorithm::{ALTERNATIVE_SIGNATURE_MAX, Algorithm};
use crate::der::{self, BIT_STRING, Element, OBJECT_IDENTIFIER, SEQUENCE};
use crate::oid;

/// Most fields of a TBSCertificate (RFC 5280 §4.1).
const FIELDS_MAX: usize = 10;

/// Most extensions of a certificate: ours have nine.
const EXTENSIONS_MAX: usize = 32;

/// Where the field `signature` stands in a TBSCertificate of version 3.
const SIGNATURE_FIELD: usize = 2;

/// Tag of the field `extensions`.
const EXTENSIONS: u8 = 0xa3;

/// Why a certificate's alternative signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AlternativeError {
    /// There is none.
    #[error(
        "expected an alternative signature, got none: it was issued without, or stripped of it; issue it again, or set the policy `classical` on purpose"
    )]
    NoSignature,
    /// There is no alternative key for what this one signs.
    #[error(
        "expected an alternative key, got none: it was issued without, or stripped of it; issue it again, or set the policy `classical` on purpose"
    )]
    NoKey,
    /// An extension is not in its form.
    #[error(
        "expected {expected} as X.509 (2019) has it, got something else: issue the certificate again"
    )]
    Malformed {
        /// Which extension.
        expected: &'static str,
    },
    /// The algorithm is unknown or not allowed here.
    #[error(
        "expected one of the allowed alternative algorithms, got {got}: allow it, or issue the certificate again"
    )]
    Algorithm {
        /// Its name, if it is known.
        got: &'static str,
    },
    /// The signature is of another algorithm than the issuer's key.
    #[error(
        "expected an alternative signature by {expected}, got one by {got}: the issuer's key is of the former"
    )]
    Exchanged {
        /// That of the issuer's key.
        expected: &'static str,
        /// That of the signature.
        got: &'static str,
    },
    /// It is not by the issuer, or the content was altered.
    #[error(
        "expected an alternative signature by its issuer over this content, got another: the certificate was altered or forged"
    )]
    Wrong,
}

/// What a certificate says of alternative keys and signatures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alternative<'a> {
    pub(crate) key: Option<(Algorithm, &'a [u8])>,
    pub(crate) signature: Option<(Algorithm, &'a [u8])>,
}

impl<'a> Alternative<'a> {
    /// Reads it from a certificate's extensions: object identifier and value of each.
    pub(crate) fn read(
        extensions: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, AlternativeError> {
        let (mut key, mut algorithm, mut signature) = (None, None, None);
        for (name, value) in extensions {
            let (place, expected) = match name {
                oid::ALT_PUBLIC_KEY => (&mut key, "the alternative key"),
                oid::ALT_ALGORITHM => (&mut algorithm, "the alternative algorithm"),
                oid::ALT_SIGNATURE => (&mut signature, "the alternative signature"),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(AlternativeError::Malformed { expected });
            }
        }
        let unknown = AlternativeError::Algorithm { got: "one that is unknown here" };
        let key = key.map(|info| Algorithm::from_public_key_info(info).ok_or(unknown.clone()));
        let signature = match (algorithm, signature) {
            (None, None) => None,
            (Some(algorithm), Some(value)) => {
                let known = Algorithm::from_signature_identifier(algorithm).ok_or(unknown)?;
                let malformed =
                    AlternativeError::Malformed { expected: "the alternative signature" };
                Some((known, bits(value).ok_or(malformed)?))
            }
            _ => return Err(AlternativeError::NoSignature),
        };
        Ok(Self { key: key.transpose()?, signature })
    }

    /// Checks the signature of the certificate `der` by the key `issuer`.
    pub(crate) fn verify(
        &self,
        der: &[u8],
        issuer: Option<(Algorithm, &[u8])>,
        allowed: &[Algorithm],
    ) -> Result<(), AlternativeError> {
        let (algorithm, key) = issuer.ok_or(AlternativeError::NoKey)?;
        let (got, signature) = self.signature.ok_or(AlternativeError::NoSignature)?;
        if got != algorithm {
            let (expected, got) = (algorithm.name(), got.name());
            return Err(AlternativeError::Exchanged { expected, got });
        }
        if !allowed.contains(&algorithm) {
            return Err(AlternativeError::Algorithm { got: algorithm.name() });
        }
        let signed = pre_tbs_certificate(der)
            .ok_or(AlternativeError::Malformed { expected: "a certificate of version 3" })?;
        if algorithm.verify(key, &signed, signature) {
            Ok(())
        } else {
            Err(AlternativeError::Wrong)
        }
    }
}

/// The bytes in a BIT STRING of whole bytes.
fn bits(value: &[u8]) -> Option<&[u8]> {
    let bits = der::only(value).filter(|bits| bits.tag == BIT_STRING)?;
    bits.contents.strip_prefix(&[0]).filter(|bytes| bytes.len() <= ALTERNATIVE_SIGNATURE_MAX)
}

/// The PreTBSCertificate of a certificate in DER: what its alternative signature is made over.
/// `None` when it is no certificate of version 3.
#[must_use]
pub fn pre_tbs_certificate(certificate: &[u8]) -> Option<Vec<u8>> {
    let whole = der::only(certificate).filter(|whole| whole.tag == SEQUENCE)?;
    let (tbs, _) = der::take(whole.contents).filter(|(tbs, _)| tbs.tag == SEQUENCE)?;
    let mut fields = der::all(tbs.contents, FIELDS_MAX)?;
    let version = fields.first().filter(|version| version.tag == 0xa0)?;
    if version.contents != [2, 1, 2] || fields.len() <= SIGNATURE_FIELD {
        return None;
    }
    fields.remove(SIGNATURE_FIELD);
    let extensions = fields.pop().filter(|last| last.tag == EXTENSIONS)?;
    let kept = without_signature(&extensions)?;
    let mut parts: Vec<&[u8]> = fields.iter().map(|field| field.whole).collect();
    parts.push(&kept);
    Some(der::element(SEQUENCE, &parts))
}

/// The field `extensions` without the alternative signature.
fn without_signature(extensions: &Element<'_>) -> Option<Vec<u8>> {
    let list = der::only(extensions.contents).filter(|list| list.tag == SEQUENCE)?;
    let mut kept = Vec::new();
    for extension in der::all(list.contents, EXTENSIONS_MAX)? {
        let (name, _) = der::take(extension.contents)?;
        if (name.tag, name.contents) != (OBJECT_IDENTIFIER, oid::ALT_SIGNATURE) {
            kept.push(extension.whole);
        }
    }
    Some(der::element(EXTENSIONS, &[&der::element(SEQUENCE, &kept)]))
}
