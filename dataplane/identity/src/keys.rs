//! The keys of a node, an issuer or a log: one classical pair and one alternative pair.
//!
//! Owns their encodings, the signatures that both make together, and the rule which of the two
//! must be right ([`Policy`]). Everything that is signed outside TLS and certificates goes through
//! [`PrivateKeys::sign`] with a [`Label`], so that what was signed for one purpose is worth nothing
//! for another.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1, ED25519,
    EcdsaKeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, AlternativeKey};
use crate::certificate::KeyKind;
use crate::encoding::{Reader, bytes_in_serde, put};
use crate::signature::{Label, Signature, SignatureError};
use crate::{oid, pem};

/// Label of the PEM section with the alternative private key (PKCS #8).
pub(crate) const PEM_ALTERNATIVE_KEY: &str = "STOQ ALTERNATIVE PRIVATE KEY";
const PEM_KEY: &str = "PRIVATE KEY";

/// Most bytes of [`PublicKeys::to_bytes`]: a P-384 point and an FN-DSA-1024 key are under 2 KiB.
pub const PUBLIC_KEYS_MAX: usize = 2048;

/// The encoding's first byte: what follows is as this version has it.
const VERSION: u8 = 1;

/// What a fingerprint is taken over begins with this, so that no other hash is one by chance.
const FINGERPRINT_DOMAIN: &[u8] = b"stoq keys\0";

/// Which of the two signatures must be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Both, everywhere: an attacker has to break both algorithms.
    #[default]
    Hybrid,
    /// The classical one. Alternative ones may be there and are not looked at.
    Classical,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hybrid => "hybrid",
            Self::Classical => "classical",
        })
    }
}

/// Why keys can not be made, read or used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The cryptographic library failed.
    #[error(
        "expected the cryptographic library to {what}, got a failure: try again, then report it with the platform"
    )]
    Library {
        /// What it was to do.
        what: &'static str,
    },
    /// There is no private key on P-256.
    #[error("expected a private key on P-256, got {got}: take the file as it was issued")]
    Classical {
        /// What is there.
        got: &'static str,
    },
    /// There is no alternative private key.
    #[error(
        "expected the section `{PEM_ALTERNATIVE_KEY}`, got {got}: take the file as it was issued, or issue it again with `stoqctl pki issue`"
    )]
    Alternative {
        /// What is there.
        got: &'static str,
    },
    /// Public keys are not in their encoding.
    #[error(
        "expected public keys of at most {PUBLIC_KEYS_MAX} bytes in version {VERSION}, got {got}: both ends need the same release"
    )]
    Encoding {
        /// What was met.
        got: &'static str,
    },
}

/// The public half: a classical key, and an alternative one unless the certificate is purely
/// classical.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKeys {
    kind: KeyKind,
    classical: Vec<u8>,
    alternative: Option<(Algorithm, Vec<u8>)>,
}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String =
            self.fingerprint()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let alternative = self.algorithm().map_or("none", Algorithm::name);
        write!(f, "PublicKeys({short}, {:?}, {alternative})", self.kind)
    }
}

impl PublicKeys {
    pub(crate) fn new(
        kind: KeyKind,
        classical: &[u8],
        alternative: Option<(Algorithm, &[u8])>,
    ) -> Self {
        let alternative = alternative.map(|(algorithm, key)| (algorithm, key.to_vec()));
        Self { kind, classical: classical.to_vec(), alternative }
    }

    /// The classical key as in a certificate's bit string: an uncompressed point, or Ed25519's 32
    /// bytes.
    #[must_use]
    pub fn classical(&self) -> &[u8] {
        &self.classical
    }

    /// Whether the classical key is on P-256, as those of all certificates are that are issued.
    #[must_use]
    pub fn is_p256(&self) -> bool {
        self.kind == KeyKind::P256
    }

    /// The alternative key's algorithm, when there is one.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.alternative.as_ref().map(|(algorithm, _)| *algorithm)
    }

    /// The alternative key's algorithm and bytes, when there is one.
    #[must_use]
    pub fn alternative(&self) -> Option<(Algorithm, &[u8])> {
        self.alternative.as_ref().map(|(algorithm, key)| (*algorithm, key.as_slice()))
    }

    /// Checks that `signature` over `body` for the purpose `label` was made with these keys.
    ///
    /// # Errors
    /// Which part is missing or wrong. Under [`Policy::Hybrid`] both must be right.
    pub fn verify(
        &self,
        label: &Label,
        body: &[u8],
        signature: &Signature,
        policy: Policy,
    ) -> Result<(), SignatureError> {
        let message = label.message(body);
        if !self.verify_classical(&message, &signature.classical) {
            return Err(SignatureError::Classical);
        }
        if policy == Policy::Classical {
            return Ok(());
        }
        let (algorithm, key) = self.alternative().ok_or(SignatureError::NoAlternativeKey)?;
        let (got, alternative) =
            signature.alternative.as_ref().ok_or(SignatureError::NoAlternative)?;
        if *got != algorithm {
            return Err(SignatureError::Algorithm { expected: algorithm.name(), got: got.name() });
        }
        if algorithm.verify(key, &message, alternative) {
            Ok(())
        } else {
            Err(SignatureError::Alternative)
        }
    }

    /// The algorithm of the certificates that the classical key signs, as the contents of an OBJECT
    /// IDENTIFIER.
    pub(crate) fn signature_oid(&self) -> &'static [u8] {
        match self.kind {
            KeyKind::P256 => oid::ECDSA_WITH_SHA256,
            KeyKind::P384 => oid::ECDSA_WITH_SHA384,
            KeyKind::Ed25519 => oid::ED25519,
        }
    }

    /// Whether the classical key alone made `signature` over exactly `message`.
    pub(crate) fn verify_classical(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            KeyKind::P256 => &ECDSA_P256_SHA256_ASN1,
            KeyKind::P384 => &ECDSA_P384_SHA384_ASN1,
            KeyKind::Ed25519 => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.classical).verify(message, signature).is_ok()
    }

    /// Whether the alternative key alone made `signature` over exactly `message`, as in a
    /// certificate; false when there is none.
    #[must_use]
    pub fn verify_alternative(&self, message: &[u8], signature: &[u8]) -> bool {
        self.alternative().is_some_and(|(algorithm, key)| algorithm.verify(key, message, signature))
    }

    /// SHA-256 over a label and [`PublicKeys::to_bytes`]: names these keys.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(FINGERPRINT_DOMAIN);
        context.update(&self.to_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }

    /// The version, then the kind and the bytes of each key; at most [`PUBLIC_KEYS_MAX`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.kind.number()];
        put(&mut out, &self.classical);
        match self.alternative() {
            None => out.push(0),
            Some((algorithm, key)) => {
                out.push(algorithm.number());
                put(&mut out, key);
            }
        }
        debug_assert!(out.len() <= PUBLIC_KEYS_MAX);
        out
    }

    /// Reads what [`PublicKeys::to_bytes`] gave.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::read(bytes).map_err(|got| KeyError::Encoding { got })
    }

    fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > PUBLIC_KEYS_MAX {
            return Err("more bytes");
        }
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return Err("another version");
        }
        let kind = KeyKind::from_number(reader.byte()?).ok_or("an unknown kind of key")?;
        let classical = reader.field()?;
        if classical.len() != kind.public_len() {
            return Err("a classical key of another length");
        }
        let alternative = match reader.byte()? {
            0 => None,
            number => {
                let algorithm = Algorithm::from_number(number).ok_or("an unknown algorithm")?;
                let key = reader.field()?;
                if key.len() != algorithm.public_len() {
                    return Err("an alternative key of another length");
                }
                Some((algorithm, key))
            }
        };
        reader.end()?;
        Ok(Self::new(kind, classical, alternative))
    }
}

bytes_in_serde!(PublicKeys);

/// The private half: a key on P-256 and an alternative one. Wiped from memory when dropped.
pub struct PrivateKeys {
    classical: EcdsaKeyPair,
    /// PKCS #8, as TLS libraries take it.
    pkcs8: Zeroizing<Vec<u8>>,
    alternative: AlternativeKey,
    public: PublicKeys,
}

impl fmt::Debug for PrivateKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKeys(of {:?})", self.public)
    }
}

impl PrivateKeys {
    /// New keys: P-256 and FN-DSA-1024. Takes tens of milliseconds.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn generate() -> Result<Self, KeyError> {
        Self::generate_with(Algorithm::FnDsa1024)
    }

    /// New keys: P-256 and one of `algorithm`.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn generate_with(algorithm: Algorithm) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyError::Library { what: "make a P-256 key" })?;
        Self::from_parts(pair, AlternativeKey::generate(algorithm)?)
    }

    fn from_parts(pair: EcdsaKeyPair, alternative: AlternativeKey) -> Result<Self, KeyError> {
        let pkcs8 =
            pair.to_pkcs8v1().map_err(|_| KeyError::Library { what: "encode a P-256 key" })?;
        let pkcs8 = Zeroizing::new(pkcs8.as_ref().to_vec());
        let other = (alternative.algorithm(), alternative.public());
        let public = PublicKeys::new(KeyKind::P256, pair.public_key().as_ref(), Some(other));
        Ok(Self { classical: pair, pkcs8, alternative, public })
    }

    /// Reads both keys out of PEM text that may hold other sections too.
    ///
    /// # Errors
    /// When one of them is missing or damaged.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let classical = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| KeyError::Classical { got: "none" })?;
        let classical = Zeroizing::new(classical.secret_der().to_vec());
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &classical)
            .map_err(|_| KeyError::Classical { got: "a key of another kind, or a damaged one" })?;
        let alternative = pem::section(text, PEM_ALTERNATIVE_KEY)
            .map_err(|got| KeyError::Alternative { got })?
            .ok_or(KeyError::Alternative { got: "none" })?;
        Self::from_parts(pair, AlternativeKey::from_pkcs8(&alternative)?)
    }

    /// Both keys in PEM: the sections `PRIVATE KEY` and `STOQ ALTERNATIVE PRIVATE KEY`.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let classical = pem::write(PEM_KEY, &self.pkcs8);
        let alternative = pem::write(PEM_ALTERNATIVE_KEY, self.alternative.pkcs8());
        let mut both = Zeroizing::new(String::with_capacity(classical.len() + alternative.len()));
        both.push_str(&classical);
        both.push_str(&alternative);
        both
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKeys {
        &self.public
    }

    /// The classical private key, PKCS #8, for the TLS library.
    #[must_use]
    pub fn classical_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    /// Signs `body` for the purpose `label` with both keys: about 0.4 ms, so not on a thread that
    /// moves packets.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign(&self, label: &Label, body: &[u8]) -> Result<Signature, KeyError> {
        let message = label.message(body);
        let classical = self.sign_classical(&message)?;
        let alternative = Some((self.alternative.algorithm(), self.sign_alternative(&message)?));
        Ok(Signature { classical, alternative })
    }

    /// A classical signature (ECDSA, DER) over exactly `message`. Only for certificates: all else
    /// is signed with [`PrivateKeys::sign`].
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign_classical(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self
            .classical
            .sign(&SystemRandom::new(), message)
            .map_err(|_| KeyError::Library { what: "sign on P-256" })?;
        Ok(signature.as_ref().to_vec())
    }

    /// An alternative signature over exactly `message`. Only for certificates.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign_alternative(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.alternative.sign(message)
    }
}
