//! The proof that an enrolment comes from the holder of its token.
//!
//! Made by the invited, checked by whoever issues. The token's secret is the seed of a signing key
//! (Ed25519, RFC 8032) and never leaves the invited: a node of the mesh that was taken over, and
//! stands in the way, sees the proof and can do nothing with it but pass it on.

use std::net::SocketAddr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use thiserror::Error;

use crate::token::hash;
use crate::{TrustError, library};

/// Bytes of the public key (RFC 8032 §5.1.5).
const KEY_BYTES: usize = 32;

/// Bytes of a signature (RFC 8032 §5.1.6).
const SIGNATURE_BYTES: usize = 64;

/// Bytes of a proof.
pub const PROOF_BYTES: usize = KEY_BYTES + SIGNATURE_BYTES;

/// What is signed begins with it.
const LABEL: &[u8] = b"stoq token enrolment 1\0";

/// Why a proof does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// It is none.
    #[error(
        "expected a token's proof of {PROOF_BYTES} bytes, got {got}: both ends need the same release"
    )]
    Length {
        /// Its length in bytes.
        got: usize,
    },
    /// Another enrolment was signed, or by another token.
    #[error(
        "expected an enrolment signed with its token, got one that was changed on its way: join again, over another network if it stays so"
    )]
    Signature,
}

/// All that an enrolment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolment<'a> {
    /// The encoded request: name, mesh and both keys ([`crate::Request`]).
    pub request: &'a [u8],
    /// Where the node says that it is reached.
    pub endpoints: &'a [SocketAddr],
    /// The clock of the invited, in seconds since 1970.
    pub at_s: u64,
}

impl Enrolment<'_> {
    /// Checks that the holder of a token asks for exactly this. Returns the token's hash
    /// ([`crate::Token::hash`]); whether there is such a token is the caller's question.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, proof: &[u8]) -> Result<[u8; 32], ProofError> {
        let length = ProofError::Length { got: proof.len() };
        let (key, signature) = proof.split_first_chunk::<KEY_BYTES>().ok_or(length.clone())?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(length);
        }
        let body = self.body().map_err(|_| ProofError::Signature)?;
        let verified = UnparsedPublicKey::new(&ED25519, key).verify(&body, signature);
        verified.map_err(|_| ProofError::Signature)?;
        Ok(key_hash(key))
    }

    /// The proof of the token with this seed.
    pub(crate) fn prove(&self, seed: &[u8; 32]) -> Result<Vec<u8>, TrustError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(library)?;
        let body = self.body().map_err(library)?;
        let signature = pair.try_sign(&body).map_err(library)?;
        Ok([pair.public_key().as_ref(), signature.as_ref()].concat())
    }

    fn body(&self) -> Result<Vec<u8>, postcard::Error> {
        let Self { request, endpoints, at_s } = self;
        let request = serde_bytes::Bytes::new(request);
        let fields = postcard::to_allocvec(&(request, endpoints, at_s))?;
        Ok([LABEL, &fields].concat())
    }
}

/// What is kept of the token with this seed.
pub(crate) fn seed_hash(seed: &[u8; 32]) -> Result<[u8; 32], TrustError> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(library)?;
    let key = pair.public_key().as_ref().try_into().map_err(library)?;
    Ok(key_hash(key))
}

fn key_hash(key: &[u8; KEY_BYTES]) -> [u8; 32] {
    hash(b"stoq token\0", key)
}
