//! An object with a signature over its bytes, and the one way to get at it.
//!
//! What is signed is the encoding as it came, so nothing is encoded again to verify it. The type
//! decides the label that is signed with it, so an object of one kind is worth nothing as another.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stoq_identity::{KeyError, Label, PrivateKeys, SIGNATURE_MAX, Signature, SignatureError};
use thiserror::Error;

use crate::signers::{Signer, Signers};

/// What [`Signed`] adds to a body, at most: two lengths, the signer, the signature.
const OVERHEAD_MAX: usize = 4 + 32 + 4 + SIGNATURE_MAX;

/// Something that is signed.
pub trait Body: Serialize + DeserializeOwned {
    /// What it is called in an error.
    const WHAT: &'static str;
    /// What it is signed as.
    const LABEL: Label;
    /// Whose signature counts.
    const SIGNER: Signer;
    /// Most bytes of its encoding.
    const MAX_BYTES: usize;

    /// The mesh that it names, if it names one: it must be ours.
    fn mesh(&self) -> Option<&str>;

    /// The keys that have to be the signer's, if it names any.
    fn signer(&self) -> Option<&[u8; 32]> {
        None
    }

    /// What must hold of its fields, whoever signed it.
    ///
    /// # Errors
    /// The first rule that it breaks.
    fn check(&self) -> Result<(), ContentError>;
}

/// A signed object. Until [`Signed::open`], nothing about it is known to be true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signer: [u8; 32],
    signature: Signature,
    #[serde(skip)]
    kind: PhantomData<fn() -> T>,
}

/// Why bytes are no object of the kind that was expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// It is larger than its kind may be.
    #[error(
        "expected a {what} of at most {most} bytes, got {got}: it was not made by this release"
    )]
    Oversized {
        /// What was expected.
        what: &'static str,
        /// The most bytes.
        most: usize,
        /// Bytes that came.
        got: usize,
    },
    /// It does not decode.
    #[error(
        "expected a {what}, got something else ({got}): it was damaged, or made by another release"
    )]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// What the decoder met.
        got: String,
    },
}

/// What is wrong with the fields of an object: no issuer should have signed it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {expected} in a {what}, got {got}: its issuer must not sign such a one")]
pub struct ContentError {
    /// The kind of object.
    pub what: &'static str,
    /// The rule.
    pub expected: &'static str,
    /// What came.
    pub got: String,
}

/// Why a signed object does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// It does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Nobody with these keys may sign it.
    #[error(
        "expected a {what} signed by {expected} of this mesh, got one signed by the keys {}: take the newest mesh state, or find out who signs with these keys", short(.got)
    )]
    Signer {
        /// The kind of object.
        what: &'static str,
        /// Whose signature counts.
        expected: Signer,
        /// The keys that it names.
        got: [u8; 32],
    },
    /// The signature does not hold.
    #[error("the signature of a {what} does not hold: {error}")]
    Signature {
        /// The kind of object.
        what: &'static str,
        /// Which part, and why.
        error: SignatureError,
    },
    /// It is of another mesh.
    #[error("expected a {what} of mesh {expected}, got one of {got:?}: meshes do not share state")]
    Mesh {
        /// The kind of object.
        what: &'static str,
        /// Our mesh.
        expected: String,
        /// The mesh that it names.
        got: String,
    },
    /// Its fields can not be right.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// Why something can not be signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// Nobody would accept it.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It would be too large, or has no encoding.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The keys failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl<T: Body> Signed<T> {
    /// Signs an object, unless whoever receives it would refuse it.
    ///
    /// # Errors
    /// When its content is not allowed or too large, or the keys fail.
    pub fn sign(value: &T, keys: &PrivateKeys) -> Result<Self, SignError> {
        value.check()?;
        let body = encode(T::WHAT, T::MAX_BYTES, value)?;
        let signature = keys.sign(&T::LABEL, &body)?;
        Ok(Self { body, signer: keys.public().fingerprint(), signature, kind: PhantomData })
    }

    /// The bytes that travel.
    ///
    /// # Errors
    /// Never for an object that was signed or decoded here.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        encode(T::WHAT, T::MAX_BYTES + OVERHEAD_MAX, self)
    }

    /// Reads what [`Signed::to_bytes`] gave. The signature is not looked at.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let signed: Self = decode(T::WHAT, T::MAX_BYTES + OVERHEAD_MAX, bytes)?;
        if signed.body.len() > T::MAX_BYTES {
            let (what, most, got) = (T::WHAT, T::MAX_BYTES, signed.body.len());
            return Err(DecodeError::Oversized { what, most, got });
        }
        Ok(signed)
    }

    /// Fingerprint of the keys that it says it was signed with.
    #[must_use]
    pub fn signer(&self) -> &[u8; 32] {
        &self.signer
    }

    /// What it claims, without asking whether that is true: to decide whether it is worth
    /// verifying.
    ///
    /// # Errors
    /// When the body does not decode.
    pub fn claims(&self) -> Result<T, DecodeError> {
        decode(T::WHAT, T::MAX_BYTES, &self.body)
    }

    /// The object, once its signature holds under one of `signers` and its content is allowed.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn open(&self, signers: &Signers) -> Result<T, OpenError> {
        let what = T::WHAT;
        let unknown = OpenError::Signer { what, expected: T::SIGNER, got: self.signer };
        let Some(keys) = signers.keys(T::SIGNER, &self.signer) else { return Err(unknown) };
        keys.verify(&T::LABEL, &self.body, &self.signature, signers.policy())
            .map_err(|error| OpenError::Signature { what, error })?;
        let value = self.claims()?;
        if value.signer().is_some_and(|named| *named != self.signer) {
            return Err(unknown);
        }
        if let Some(got) = value.mesh().filter(|mesh| *mesh != signers.mesh()) {
            let (expected, got) = (signers.mesh().to_owned(), got.to_owned());
            return Err(OpenError::Mesh { what, expected, got });
        }
        value.check()?;
        Ok(value)
    }
}

pub(crate) fn encode<T: Serialize>(
    what: &'static str,
    most: usize,
    value: &T,
) -> Result<Vec<u8>, DecodeError> {
    let bytes = postcard::to_stdvec(value)
        .map_err(|error| DecodeError::Malformed { what, got: error.to_string() })?;
    let got = bytes.len();
    if got > most { Err(DecodeError::Oversized { what, most, got }) } else { Ok(bytes) }
}

pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    most: usize,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    if bytes.len() > most {
        return Err(DecodeError::Oversized { what, most, got: bytes.len() });
    }
    let malformed = |got: String| DecodeError::Malformed { what, got };
    let (value, rest) = postcard::take_from_bytes(bytes)
        .map_err(|error: postcard::Error| malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(malformed(format!("{} bytes behind it", rest.len())))
    }
}

/// The first bytes of a hash, to tell it from others in an error.
pub(crate) fn short(hash: &[u8; 32]) -> String {
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>() + "…"
}
