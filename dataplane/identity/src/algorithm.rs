//! The alternative algorithms: those that a key and a signature may be of beside the classical one.
//!
//! Owns the registry (names, numbers, object identifiers, lengths) and the one place where each
//! algorithm's library is called. The keys of this crate use it; nobody else needs to know how
//! FALCON is computed. An algorithm is replaced by adding an entry with a number of its own; what
//! an old number meant never changes.
//!
//! FALCON is FN-DSA-1024 as `fn-dsa` 0.4 has it: message not hashed before, no context. The
//! standard (FIPS 206) is a draft, so its object identifier is ours and carries a version.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::rand;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use fn_dsa::{
    CryptoRng, DOMAIN_NONE, FN_DSA_LOGN_1024, HASH_ID_RAW, KeyPairGenerator, KeyPairGenerator1024,
    RngCore, RngError, SigningKey, SigningKey1024, VerifyingKey, VerifyingKey1024, sign_key_size,
    signature_size, vrfy_key_size,
};
use zeroize::Zeroizing;

use crate::der::{self, BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use crate::keys::KeyError;
use crate::oid;

/// Longest alternative signature, in bytes: that of FN-DSA-1024 (all have this length).
pub const ALTERNATIVE_SIGNATURE_MAX: usize = signature_size(FN_DSA_LOGN_1024);

/// Longest alternative public key, in bytes: that of FN-DSA-1024.
pub const ALTERNATIVE_KEY_MAX: usize = vrfy_key_size(FN_DSA_LOGN_1024);

/// An algorithm for alternative keys and signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// FALCON of degree 1024: safe against quantum computers, at the level of AES-256.
    FnDsa1024,
    /// ECDSA on P-384 with SHA-384. It exists to compare certificates with other implementations,
    /// and adds nothing against a quantum computer.
    EcdsaP384,
}

impl Algorithm {
    /// Every algorithm that there is.
    pub const ALL: [Self; 2] = [Self::FnDsa1024, Self::EcdsaP384];

    /// Its number in our own encodings; never 0, which stands for none.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::FnDsa1024 => 1,
            Self::EcdsaP384 => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.number() == number)
    }

    /// Its name for operators.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FnDsa1024 => "fn-dsa-1024",
            Self::EcdsaP384 => "ecdsa-p384",
        }
    }

    /// Length of its public keys, in bytes.
    pub(crate) const fn public_len(self) -> usize {
        match self {
            Self::FnDsa1024 => ALTERNATIVE_KEY_MAX,
            // An uncompressed point: a tag, then two coordinates (RFC 5480 §2.2).
            Self::EcdsaP384 => 97,
        }
    }

    /// The signature algorithm as an AlgorithmIdentifier (RFC 5280 §4.1.1.2), in DER.
    #[must_use]
    pub fn signature_identifier(self) -> Vec<u8> {
        let name = match self {
            Self::FnDsa1024 => oid::FN_DSA_1024,
            Self::EcdsaP384 => oid::ECDSA_WITH_SHA384,
        };
        der::element(SEQUENCE, &[&der::element(OBJECT_IDENTIFIER, &[name])])
    }

    /// The algorithm of this AlgorithmIdentifier of a signature.
    #[must_use]
    pub fn from_signature_identifier(identifier: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.signature_identifier() == identifier)
    }

    /// The key's algorithm as an AlgorithmIdentifier, in DER.
    fn key_identifier(self) -> Vec<u8> {
        let named = |name: &[u8]| der::element(OBJECT_IDENTIFIER, &[name]);
        match self {
            Self::FnDsa1024 => self.signature_identifier(),
            Self::EcdsaP384 => {
                der::element(SEQUENCE, &[&named(oid::EC_PUBLIC_KEY), &named(oid::SECP384R1)])
            }
        }
    }

    /// A public key of this algorithm as SubjectPublicKeyInfo (RFC 5280 §4.1), in DER.
    #[must_use]
    pub fn public_key_info(self, public: &[u8]) -> Vec<u8> {
        let bits = der::element(BIT_STRING, &[&[0], public]);
        der::element(SEQUENCE, &[&self.key_identifier(), &bits])
    }

    /// The algorithm and key in a SubjectPublicKeyInfo; `None` when it is of no known algorithm, or
    /// its key of another length than those of the algorithm.
    #[must_use]
    pub fn from_public_key_info(info: &[u8]) -> Option<(Self, &[u8])> {
        let outer = der::only(info).filter(|outer| outer.tag == SEQUENCE)?;
        let (identifier, rest) = der::take(outer.contents)?;
        let bits = der::only(rest).filter(|bits| bits.tag == BIT_STRING)?;
        let key = bits.contents.strip_prefix(&[0])?;
        let algorithm =
            Self::ALL.into_iter().find(|known| known.key_identifier() == identifier.whole)?;
        (key.len() == algorithm.public_len()).then_some((algorithm, key))
    }

    /// Whether `signature` over `message` is one by the key `public`.
    #[must_use]
    pub(crate) fn verify(self, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::FnDsa1024 => VerifyingKey1024::decode(public)
                .is_some_and(|key| key.verify(signature, &DOMAIN_NONE, &HASH_ID_RAW, message)),
            Self::EcdsaP384 => UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, public)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

/// The private half of an alternative key, with its encoding for the file.
pub(crate) struct AlternativeKey {
    algorithm: Algorithm,
    public: Vec<u8>,
    /// PKCS #8 (RFC 5208 §5).
    pkcs8: Zeroizing<Vec<u8>>,
    secret: Secret,
}

enum Secret {
    /// Signing needs 150 KiB of working memory, which the key brings with it, so one signature is
    /// made at a time.
    FnDsa(Mutex<Box<SigningKey1024>>),
    EcdsaP384(EcdsaKeyPair),
}

impl AlternativeKey {
    pub(crate) fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        match algorithm {
            Algorithm::FnDsa1024 => {
                let mut secret = Zeroizing::new(vec![0; sign_key_size(FN_DSA_LOGN_1024)]);
                let mut public = vec![0; ALTERNATIVE_KEY_MAX];
                let mut source = Random::default();
                let mut generator = KeyPairGenerator1024::default();
                generator.keygen(FN_DSA_LOGN_1024, &mut source, &mut secret, &mut public);
                source.check()?;
                Self::from_fn_dsa(&secret)
            }
            Algorithm::EcdsaP384 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)
                    .map_err(|_| KeyError::Library { what: "make a P-384 key" })?;
                let encoded = pair
                    .to_pkcs8v1()
                    .map_err(|_| KeyError::Library { what: "encode a P-384 key" })?;
                Self::from_pkcs8(encoded.as_ref())
            }
        }
    }

    /// Reads what [`AlternativeKey::pkcs8`] gave.
    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let identifier = algorithm_of_pkcs8(pkcs8)
            .ok_or(KeyError::Alternative { got: "something else than PKCS #8" })?;
        let algorithm =
            Algorithm::ALL.into_iter().find(|known| known.key_identifier() == identifier.0);
        match algorithm {
            Some(Algorithm::FnDsa1024) => Self::from_fn_dsa(identifier.1),
            Some(Algorithm::EcdsaP384) => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8)
                    .map_err(|_| KeyError::Alternative { got: "a damaged key on P-384" })?;
                Ok(Self {
                    algorithm: Algorithm::EcdsaP384,
                    public: pair.public_key().as_ref().to_vec(),
                    pkcs8: Zeroizing::new(pkcs8.to_vec()),
                    secret: Secret::EcdsaP384(pair),
                })
            }
            None => Err(KeyError::Alternative { got: "a key of an unknown algorithm" }),
        }
    }

    fn from_fn_dsa(secret: &[u8]) -> Result<Self, KeyError> {
        let key = SigningKey1024::decode(secret)
            .ok_or(KeyError::Alternative { got: "a damaged FN-DSA-1024 key" })?;
        let mut public = vec![0; ALTERNATIVE_KEY_MAX];
        key.to_verifying_key(&mut public);
        let algorithm = Algorithm::FnDsa1024;
        let octets = Zeroizing::new(der::element(OCTET_STRING, &[secret]));
        let version = der::element(INTEGER, &[&[0]]);
        let pkcs8 = der::element(SEQUENCE, &[&version, &algorithm.key_identifier(), &octets]);
        let secret = Secret::FnDsa(Mutex::new(Box::new(key)));
        Ok(Self { algorithm, public, pkcs8: Zeroizing::new(pkcs8), secret })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.secret {
            Secret::FnDsa(key) => {
                let mut signature = vec![0; ALTERNATIVE_SIGNATURE_MAX];
                let mut source = Random::default();
                // A signature that a panic broke off left nothing in the key but working memory.
                let mut key = key.lock().unwrap_or_else(PoisonError::into_inner);
                key.sign(&mut source, &DOMAIN_NONE, &HASH_ID_RAW, message, &mut signature)
                    .ok_or(KeyError::Library { what: "sign with FN-DSA-1024" })?;
                source.check()?;
                Ok(signature)
            }
            Secret::EcdsaP384(pair) => {
                let random = rand::SystemRandom::new();
                let signature = pair.sign(&random, message);
                let signature =
                    signature.map_err(|_| KeyError::Library { what: "sign on P-384" })?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

/// The algorithm and the octets of a PKCS #8 private key (RFC 5208 §5).
fn algorithm_of_pkcs8(pkcs8: &[u8]) -> Option<(&[u8], &[u8])> {
    let outer = der::only(pkcs8).filter(|outer| outer.tag == SEQUENCE)?;
    let (version, rest) = der::take(outer.contents)?;
    let (identifier, rest) = der::take(rest)?;
    let (octets, _) = der::take(rest)?;
    (version.tag == INTEGER && octets.tag == OCTET_STRING)
        .then_some((identifier.whole, octets.contents))
}

/// The system's random numbers in the form that `fn-dsa` asks for. Its interface can not fail, so
/// a failure is kept until the caller asks with [`Random::check`], and throws the result away.
#[derive(Default)]
struct Random {
    failed: bool,
}

impl Random {
    fn check(&self) -> Result<(), KeyError> {
        if self.failed {
            return Err(KeyError::Library { what: "get random numbers" });
        }
        Ok(())
    }
}

impl CryptoRng for Random {}

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.failed |= rand::fill(bytes).is_err();
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
