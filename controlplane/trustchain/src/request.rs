//! A request for a certificate: the new public keys, and the proof that the asker holds both.
//!
//! Made by a joining or renewing host and by one that is to become an issuer; checked by whoever
//! issues, before anything is written down. The context ties it to what it was made for, so that a
//! request overheard or kept is worth nothing elsewhere: the hash of the token at enrolment, the
//! fingerprint of the old keys at renewal.

use serde::{Deserialize, Serialize};
use stoq_identity::{
    Kind, Label, NAME_MAX, NodeId, PUBLIC_KEYS_MAX, Policy, PrivateKeys, PublicKeys, SIGNATURE_MAX,
    Signature, SignatureError,
};
use thiserror::Error;

use crate::TrustError;

/// Most bytes of a context: two hashes.
pub const CONTEXT_MAX: usize = 64;

/// Most bytes of an encoded request.
pub const REQUEST_MAX: usize = PUBLIC_KEYS_MAX + SIGNATURE_MAX + 2 * NAME_MAX + CONTEXT_MAX + 64;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The bytes are no request.
    #[error(
        "expected a request of at most {REQUEST_MAX} bytes, got {got}: both ends need the same release"
    )]
    Encoding {
        /// What was met.
        got: String,
    },
    /// It was made for another purpose.
    #[error("expected a request for this token or renewal, got one for another: ask again")]
    Context,
    /// The keys are not of the kinds that are issued.
    #[error(
        "expected a key on P-256 and an alternative one, got {got}: make new keys with this release"
    )]
    Keys {
        /// What they are.
        got: &'static str,
    },
    /// The asker does not hold both private keys.
    #[error("the asker did not prove that it holds both private keys: {0}")]
    Possession(#[from] SignatureError),
}

/// What is asked for, signed by the keys that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// For what the certificate shall be.
    pub kind: Kind,
    /// For whom.
    pub mesh: String,
    /// The node's or operator's name.
    pub name: String,
    #[serde(with = "serde_bytes")]
    context: Vec<u8>,
    keys: PublicKeys,
    signature: Option<Signature>,
}

impl Request {
    /// A request by the holder of `keys`, for this purpose alone (`context`, at most
    /// [`CONTEXT_MAX`] bytes).
    ///
    /// # Errors
    /// An invalid name, or a failure of the cryptographic library.
    pub fn new(
        keys: &PrivateKeys,
        kind: Kind,
        id: &NodeId,
        context: &[u8],
    ) -> Result<Self, TrustError> {
        let mut request = Self {
            kind,
            mesh: id.mesh().to_owned(),
            name: id.node().to_owned(),
            context: context.to_vec(),
            keys: keys.public().clone(),
            signature: None,
        };
        let body = request.body().map_err(crate::library)?;
        request.signature = Some(keys.sign(&Label::ENROLMENT, &body)?);
        Ok(request)
    }

    /// Checks that the asker holds both private keys, and made the request for `context`. Returns
    /// the keys to certify. Whether this asker may have this name is the caller's question.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verify(&self, context: &[u8]) -> Result<&PublicKeys, RequestError> {
        if self.context != context {
            return Err(RequestError::Context);
        }
        if !self.keys.is_p256() {
            return Err(RequestError::Keys { got: "a classical key of another kind" });
        }
        let signature = self.signature.as_ref().ok_or(SignatureError::NoAlternative)?;
        let body = self.body()?;
        // Whatever the mesh's policy is, the certificate will name both keys.
        self.keys.verify(&Label::ENROLMENT, &body, signature, Policy::Hybrid)?;
        Ok(&self.keys)
    }

    /// The keys, before they are proven.
    #[must_use]
    pub fn claimed_keys(&self) -> &PublicKeys {
        &self.keys
    }

    /// In bytes, at most [`REQUEST_MAX`].
    ///
    /// # Errors
    /// When it can not be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RequestError> {
        postcard::to_allocvec(self).map_err(encoding)
    }

    /// Reads what [`Request::to_bytes`] gave.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > REQUEST_MAX {
            return Err(encoding(format!("{} bytes", bytes.len())));
        }
        let (request, rest): (Self, _) = postcard::take_from_bytes(bytes).map_err(encoding)?;
        if !rest.is_empty() {
            return Err(encoding(format!("{} bytes behind it", rest.len())));
        }
        if request.context.len() > CONTEXT_MAX {
            return Err(encoding("a longer context"));
        }
        NodeId::new(&request.mesh, &request.name).map_err(encoding)?;
        Ok(request)
    }

    /// What is signed: everything but the signature.
    fn body(&self) -> Result<Vec<u8>, RequestError> {
        let Self { kind, mesh, name, context, keys, signature: _ } = self;
        let context = serde_bytes::Bytes::new(context);
        postcard::to_allocvec(&(kind, mesh, name, context, keys)).map_err(encoding)
    }
}

/// What the keys with this fingerprint are proven for in a renewal at this time (Unix seconds): a request
/// that was recorded is worth nothing later.
#[must_use]
pub fn renewal_context(keys: &[u8; 32], at_s: u64) -> Vec<u8> {
    [keys.as_slice(), &at_s.to_be_bytes()].concat()
}

fn encoding(got: impl ToString) -> RequestError {
    RequestError::Encoding { got: got.to_string() }
}
