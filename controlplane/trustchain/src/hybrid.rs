//! Two signatures on one certificate: made in two passes, since the classical one covers the other.
//!
//! The first pass makes the certificate without the alternative signature; from that comes the
//! PreTBSCertificate (X.509 2019 §7.2.2), which the alternative key signs. The second pass makes it
//! again with the alternative signature inside. Both passes write the same serial number and dates,
//! so what was signed is what the result says; that is checked.

use std::sync::Arc;

use rcgen::{
    CertificateParams, CustomExtension, Issuer, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SignatureAlgorithm, SigningKey,
};
use stoq_identity::der::{BIT_STRING, element};
use stoq_identity::{PrivateKeys, PublicKeys, pre_tbs_certificate};

use crate::{TrustError, library};

/// `id-ce-subjectAltPublicKeyInfo` (X.509 2019 §9.8.2).
const ALT_PUBLIC_KEY: &[u64] = &[2, 5, 29, 72];
/// `id-ce-altSignatureAlgorithm` (X.509 2019 §9.8.3).
const ALT_ALGORITHM: &[u64] = &[2, 5, 29, 73];
/// `id-ce-altSignatureValue` (X.509 2019 §9.8.4).
const ALT_SIGNATURE: &[u64] = &[2, 5, 29, 74];

/// The classical half of an issuer's keys, as the certificate library wants it.
pub(crate) struct Signer(pub(crate) Arc<PrivateKeys>);

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.0.public().classical()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign_classical(message).map_err(|_| rcgen::Error::RingUnspecified)
    }
}

/// The classical key that is certified.
struct Certified<'a>(&'a PublicKeys);

impl PublicKeyData for Certified<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.classical()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// A certificate with the contents `params` for `keys`, signed twice by `issuer`, in DER.
pub(crate) fn issue(
    params: CertificateParams,
    keys: &PublicKeys,
    issuer: &Issuer<'_, Signer>,
) -> Result<Vec<u8>, TrustError> {
    sign(params, keys, &issuer.key().0, |params| {
        params.signed_by(&Certified(keys), issuer).map(|made| made.der().to_vec())
    })
}

/// As [`issue`], by the keys themselves.
pub(crate) fn issue_self_signed(
    params: CertificateParams,
    keys: &Arc<PrivateKeys>,
) -> Result<Vec<u8>, TrustError> {
    sign(params, keys.public(), keys, |params| {
        params.self_signed(&Signer(Arc::clone(keys))).map(|made| made.der().to_vec())
    })
}

fn sign(
    mut params: CertificateParams,
    keys: &PublicKeys,
    issuer: &PrivateKeys,
    make: impl Fn(&CertificateParams) -> Result<Vec<u8>, rcgen::Error>,
) -> Result<Vec<u8>, TrustError> {
    if !keys.is_p256() {
        return Err(TrustError::Keys { got: "a classical key of another kind" });
    }
    let none = TrustError::Keys { got: "no alternative key" };
    let (algorithm, alternative) = keys.alternative().ok_or(none.clone())?;
    let signing = issuer.public().algorithm().ok_or(none)?;
    let add = |params: &mut CertificateParams, name, value| {
        params.custom_extensions.push(CustomExtension::from_oid_content(name, value));
    };
    add(&mut params, ALT_PUBLIC_KEY, algorithm.public_key_info(alternative));
    add(&mut params, ALT_ALGORITHM, signing.signature_identifier());
    let first = make(&params).map_err(library)?;
    let unreadable = || library("a certificate that can not be read back");
    let signed = pre_tbs_certificate(&first).ok_or_else(unreadable)?;
    let signature = issuer.sign_alternative(&signed)?;
    add(&mut params, ALT_SIGNATURE, element(BIT_STRING, &[&[0], &signature]));
    let second = make(&params).map_err(library)?;
    if pre_tbs_certificate(&second).ok_or_else(unreadable)? != signed {
        return Err(library("other contents in the second pass"));
    }
    Ok(second)
}
