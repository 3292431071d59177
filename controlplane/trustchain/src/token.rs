//! The one-time token that invites a host or an operator into the mesh.
//!
//! One line of text, made by whoever manages the mesh and given to the invited by a way that both
//! trust. It says whom it is for, where to go, and by which fingerprint the mesh's root is known,
//! so that the invited verifies the mesh before it reveals anything. Its secret is the seed of a key
//! that signs the enrolment and is never sent ([`crate::Enrolment`]); only a hash of the public key is
//! kept.

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use stoq_identity::{Kind, NAME_MAX, NodeId};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::{Enrolment, TrustError, library, proof};

/// Bytes of a token's secret: nobody guesses 256 bits.
const SECRET_BYTES: usize = 32;

/// Most addresses of the API in a token: those of a few issuers.
const ADDRESSES_MAX: usize = 8;

/// Longest address: a name in the DNS (RFC 1035 §2.3.4), a colon and a port.
const ADDRESS_MAX: usize = 253 + 6;

/// Longest token, as text.
pub const TOKEN_MAX: usize = 4096;

/// What every token begins with: it says what it is and which version.
const PREFIX: &str = "stoq1-";

/// Bytes of the checksum: a mistyped or cut token is found before it is tried.
const CHECKSUM_BYTES: usize = 4;

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It does not begin as one.
    #[error(
        "expected a token that begins with `{PREFIX}`, got another text: copy the whole line that `stoqctl mesh token` printed"
    )]
    Prefix,
    /// Characters are missing, added or changed.
    #[error(
        "expected a complete token, got a damaged one ({got}): copy the whole line that `stoqctl mesh token` printed"
    )]
    Damaged {
        /// What was met.
        got: &'static str,
    },
    /// Something in it is outside its bounds.
    #[error("expected {expected} in the token, got {got}: make another with `stoqctl mesh token`")]
    Field {
        /// What should be there.
        expected: &'static str,
        /// What is.
        got: String,
    },
}

/// An invitation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The mesh's identifier.
    pub mesh: String,
    /// The name that the invited gets.
    pub name: String,
    /// What for: a node or an operator.
    pub kind: Kind,
    /// Where the API is: `host:port`, tried in this order; at least one.
    pub addresses: Vec<String>,
    /// Fingerprint of the root's public keys ([`stoq_identity::PublicKeys::fingerprint`]).
    pub root: [u8; 32],
    /// When it ends, in seconds since 1970.
    pub expires_at_s: u64,
    secret: [u8; SECRET_BYTES],
}

impl Drop for Token {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(for {} {} of {})", self.kind, self.name, self.mesh)
    }
}

impl Token {
    /// A new token with a secret of its own.
    ///
    /// # Errors
    /// When there are no random numbers, or a field is outside its bounds.
    pub fn new(
        id: &NodeId,
        kind: Kind,
        addresses: Vec<String>,
        root: [u8; 32],
        expires_at_s: u64,
    ) -> Result<Self, TrustError> {
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(library)?;
        let (mesh, name) = (id.mesh().to_owned(), id.node().to_owned());
        let token = Self { mesh, name, kind, addresses, root, expires_at_s, secret };
        token.check().map_err(library)?;
        Ok(token)
    }

    /// Proves to the mesh that the holder of this token asks for exactly this
    /// ([`Enrolment::verify`]).
    ///
    /// # Errors
    /// A failure of the cryptographic library.
    pub fn prove(&self, enrolment: &Enrolment<'_>) -> Result<Vec<u8>, TrustError> {
        enrolment.prove(&self.secret)
    }

    /// What is kept of it: the hash of its public key.
    ///
    /// # Errors
    /// A failure of the cryptographic library.
    pub fn hash(&self) -> Result<[u8; 32], TrustError> {
        proof::seed_hash(&self.secret)
    }

    /// The token as one line of text, without a line break.
    ///
    /// # Errors
    /// When it can not be encoded.
    pub fn to_text(&self) -> Result<Zeroizing<String>, TokenError> {
        let encoded = postcard::to_allocvec(self)
            .map_err(|error| field("fields that can be encoded", error.to_string()))?;
        let mut encoded = Zeroizing::new(encoded);
        let checksum = checksum(&encoded);
        encoded.extend_from_slice(&checksum);
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_MAX));
        text.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(&encoded, &mut text);
        Ok(text)
    }

    /// Reads a token out of text, around which there may be white space.
    ///
    /// # Errors
    /// When it is none, damaged, or outside its bounds.
    pub fn from_text(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_MAX {
            return Err(TokenError::Damaged { got: "more than 4096 characters" });
        }
        let digits = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let damaged = |got| TokenError::Damaged { got };
        let decoded = BASE64URL_NOPAD.decode(digits.as_bytes());
        let decoded = Zeroizing::new(decoded.map_err(|_| damaged("missing or other characters"))?);
        let (encoded, expected) =
            decoded.split_last_chunk::<CHECKSUM_BYTES>().ok_or(damaged("too few characters"))?;
        if checksum(encoded) != *expected {
            return Err(damaged("another checksum"));
        }
        let (token, rest): (Self, _) =
            postcard::take_from_bytes(encoded).map_err(|_| damaged("another form"))?;
        if !rest.is_empty() {
            return Err(damaged("something behind it"));
        }
        token.check()?;
        Ok(token)
    }

    fn check(&self) -> Result<(), TokenError> {
        let names = "valid names of mesh and node";
        NodeId::new(&self.mesh, &self.name).map_err(|error| field(names, error.to_string()))?;
        debug_assert!(self.mesh.len() <= NAME_MAX && self.name.len() <= NAME_MAX);
        if !matches!(self.kind, Kind::Node | Kind::Operator(_)) {
            return Err(field("a node or an operator", self.kind.to_string()));
        }
        if self.addresses.is_empty() || self.addresses.len() > ADDRESSES_MAX {
            return Err(field("1 to 8 addresses", self.addresses.len().to_string()));
        }
        match self.addresses.iter().find(|address| !is_address(address)) {
            None => Ok(()),
            Some(bad) => Err(field("addresses of the form HOST:PORT", format!("{bad:?}"))),
        }
    }
}

/// Whether it has the form `host:port`: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:%[]".contains(&byte);
    let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    let port = port.parse::<u16>().is_ok_and(|port| port > 0);
    text.len() <= ADDRESS_MAX && !host.is_empty() && host.bytes().all(allowed) && bare && port
}

fn checksum(encoded: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = hash(b"stoq token checksum\0", encoded);
    [a, b, c, d]
}

pub(crate) fn hash(domain: &[u8], of: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(domain);
    context.update(of);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn field(expected: &'static str, got: String) -> TokenError {
    TokenError::Field { expected, got }
}
