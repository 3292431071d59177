//! A signature by both keys, and the purposes that something may be signed for.

use thiserror::Error;

use crate::algorithm::{ALTERNATIVE_SIGNATURE_MAX, Algorithm};
use crate::encoding::{Reader, bytes_in_serde, put};

/// Longest classical signature, in bytes: ECDSA on P-384 in DER.
const CLASSICAL_SIGNATURE_MAX: usize = 104;

/// Most bytes of [`Signature::to_bytes`].
pub const SIGNATURE_MAX: usize =
    1 + 2 + CLASSICAL_SIGNATURE_MAX + 1 + 2 + ALTERNATIVE_SIGNATURE_MAX;

/// The encoding's first byte: what follows is as this version has it.
const VERSION: u8 = 1;

/// What something is signed for. Signed are the bytes `stoq `, the label, a zero byte, then the
/// body; a certificate begins with 0x30 and TLS signs 64 spaces first, so neither can be taken for
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(&'static str);

impl Label {
    /// That the sender holds the keys of its certificate, on one connection.
    pub const POSSESSION: Self = Self("possession 1");
    /// A member's record.
    pub const RECORD: Self = Self("record 1");
    /// The set of revoked keys.
    pub const REVOCATIONS: Self = Self("revocations 1");
    /// The head of a certificate log.
    pub const TREE_HEAD: Self = Self("tree head 1");
    /// The head of an audit log.
    pub const AUDIT_HEAD: Self = Self("audit head 1");
    /// What the mesh's ledger comes to at a height.
    pub const LEDGER_HEAD: Self = Self("ledger head 1");
    /// A request for a certificate.
    pub const ENROLMENT: Self = Self("enrolment 1");

    /// Its text.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        self.0
    }

    /// The bytes that are signed.
    pub(crate) fn message(&self, body: &[u8]) -> Vec<u8> {
        [b"stoq ", self.0.as_bytes(), &[0], body].concat()
    }
}

/// Why a signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The classical part is wrong.
    #[error(
        "expected a classical signature by these keys over this content, got another: it was altered, or signed by somebody else"
    )]
    Classical,
    /// The alternative part is wrong.
    #[error(
        "expected an alternative signature by these keys over this content, got another: it was altered, or signed by somebody else"
    )]
    Alternative,
    /// There is no alternative part, and the policy asks for one.
    #[error(
        "expected an alternative signature beside the classical one, got none: the policy is `hybrid`"
    )]
    NoAlternative,
    /// The signer has no alternative key, and the policy asks for one.
    #[error(
        "expected a signer with an alternative key, got one without: the policy is `hybrid`; issue its certificate again"
    )]
    NoAlternativeKey,
    /// The alternative part is of another algorithm than the key.
    #[error(
        "expected an alternative signature by {expected}, got one by {got}: the signer's key is of the former"
    )]
    Algorithm {
        /// That of the key.
        expected: &'static str,
        /// That of the signature.
        got: &'static str,
    },
    /// The bytes are no signature.
    #[error(
        "expected a signature of at most {SIGNATURE_MAX} bytes in version {VERSION}, got {got}: both ends need the same release"
    )]
    Encoding {
        /// What was met.
        got: &'static str,
    },
}

/// A signature by a classical key and, unless the signer has none, an alternative one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    pub(crate) classical: Vec<u8>,
    pub(crate) alternative: Option<(Algorithm, Vec<u8>)>,
}

impl Signature {
    /// The version, then both parts; at most [`SIGNATURE_MAX`] bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, &self.classical);
        match &self.alternative {
            None => out.push(0),
            Some((algorithm, signature)) => {
                out.push(algorithm.number());
                put(&mut out, signature);
            }
        }
        debug_assert!(out.len() <= SIGNATURE_MAX);
        out
    }

    /// Reads what [`Signature::to_bytes`] gave.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        Self::read(bytes).map_err(|got| SignatureError::Encoding { got })
    }

    fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return Err("another version");
        }
        let classical = reader.field()?;
        if classical.len() > CLASSICAL_SIGNATURE_MAX {
            return Err("a longer classical part");
        }
        let alternative = match reader.byte()? {
            0 => None,
            number => {
                let algorithm = Algorithm::from_number(number).ok_or("an unknown algorithm")?;
                let signature = reader.field()?;
                if signature.len() > ALTERNATIVE_SIGNATURE_MAX {
                    return Err("a longer alternative part");
                }
                Some((algorithm, signature.to_vec()))
            }
        };
        reader.end()?;
        Ok(Self { classical: classical.to_vec(), alternative })
    }
}

bytes_in_serde!(Signature);
