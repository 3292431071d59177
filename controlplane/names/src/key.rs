//! The key that signs the zones, and its form on disk.
//!
//! Owns the private key's bytes. hypermeshd makes one at its first start, keeps the PEM beside its
//! identity and gives it to every [`crate::Zone::build`]. Each host has its own: it is the trust
//! anchor of the host's own validators, nobody else's.

use std::fmt;

use data_encoding::BASE64;
use hickory_server::proto::dnssec::crypto::EcdsaSigningKey;
use hickory_server::proto::dnssec::rdata::{DNSKEY, DS};
use hickory_server::proto::dnssec::{Algorithm, DigestType, DnsSecError, DnssecSigner, SigningKey};
use hickory_server::proto::rr::Name;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::sign::LIFETIME;

/// ECDSA on P-256 with SHA-256 (RFC 6605): short signatures, and every validator knows it.
const ALGORITHM: Algorithm = Algorithm::ECDSAP256SHA256;

/// Longest line of base64 in PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// Why a key is none.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The text is no PEM with a private key.
    #[error(
        "zone key: expected PEM with one `PRIVATE KEY` block (PKCS#8), got: {0}; move the file \
         away, and a new key is made"
    )]
    Pem(String),
    /// It is a private key, but not of this kind; or the library failed to make one.
    #[error(
        "zone key: expected an ECDSA P-256 key, got: {0}; move the file away, and a new key is made"
    )]
    Key(#[from] DnsSecError),
}

/// The private key of the zones.
pub struct ZoneKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ZoneKey")
    }
}

impl ZoneKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let der = EcdsaSigningKey::generate_pkcs8(ALGORITHM)?;
        Ok(Self(Zeroizing::new(der.secret_pkcs8_der().to_vec())))
    }

    /// Reads a key from PKCS#8 DER.
    ///
    /// # Errors
    /// When it is no ECDSA P-256 key.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = Self(Zeroizing::new(der.to_vec()));
        key.signing_key()?;
        Ok(key)
    }

    /// Reads a key from PEM.
    ///
    /// # Errors
    /// When there is no `PRIVATE KEY` block, or it is no ECDSA P-256 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| KeyError::Pem(error.to_string()))?;
        Self::from_der(der.secret_pkcs8_der())
    }

    /// The key as PEM. It is secret: only its owner may read the file.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let body = Zeroizing::new(BASE64.encode(&self.0));
        let mut text = Zeroizing::new(String::with_capacity(2 * body.len() + 64));
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        for (at, letter) in body.chars().enumerate() {
            if at > 0 && at % PEM_LINE == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        text.push_str("\n-----END PRIVATE KEY-----\n");
        text
    }

    /// What signs the zone of this origin.
    pub(crate) fn signer(&self, origin: &Name) -> Result<DnssecSigner, KeyError> {
        let (key, dnskey) = (self.signing_key()?, self.dnskey()?);
        Ok(DnssecSigner::new(dnskey, Box::new(key), origin.clone(), LIFETIME))
    }

    /// The public key, which signs itself and the zone (one key for both, flags 257).
    pub(crate) fn dnskey(&self) -> Result<DNSKEY, KeyError> {
        Ok(DNSKEY::from_key(&self.signing_key()?.to_public_key()?))
    }

    /// The digest of the public key for the zone of this origin.
    pub(crate) fn ds(&self, origin: &Name) -> Result<DS, KeyError> {
        let public = self.signing_key()?.to_public_key()?;
        Ok(DS::from_key(&public, origin, DigestType::SHA256)?)
    }

    fn signing_key(&self) -> Result<EcdsaSigningKey, KeyError> {
        let der = PrivatePkcs8KeyDer::from(self.0.as_slice());
        Ok(EcdsaSigningKey::from_pkcs8(&der, ALGORITHM)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_after_it_was_written_and_read() {
        let key = ZoneKey::generate().unwrap();
        let pem = key.to_pem();
        assert!(pem.lines().all(|line| line.len() <= PEM_LINE));
        let again = ZoneKey::from_pem(&pem).unwrap();
        assert_eq!(*again.0, *key.0);
        assert_eq!(again.dnskey().unwrap(), key.dnskey().unwrap());
        assert_ne!(ZoneKey::generate().unwrap().dnskey().unwrap(), key.dnskey().unwrap());
    }

    #[test]
    fn what_is_no_key_is_refused_and_says_what_to_do() {
        let pem = ZoneKey::generate().unwrap().to_pem();
        let certificate = pem.replace("PRIVATE KEY", "CERTIFICATE");
        let p384 = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP384SHA384).unwrap();
        let p384 = ZoneKey(Zeroizing::new(p384.secret_pkcs8_der().to_vec())).to_pem();
        for text in ["", "nonsense", certificate.as_str(), &pem[..80], p384.as_str()] {
            let error = ZoneKey::from_pem(text).unwrap_err().to_string();
            assert!(error.contains("expected") && error.contains("move the file away"), "{error}");
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", ZoneKey::generate().unwrap()), "ZoneKey");
    }
}
