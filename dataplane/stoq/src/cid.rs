//! Connection IDs: what they hold, how they are issued and how they are checked without state.
//!
//! ```text
//!   0        1        2        4            8            12
//! +--------+--------+--------+------------+------------+
//! |fmt |key| worker | gener. |   nonce    |    tag     |
//! +--------+--------+--------+------------+------------+
//! ```
//!
//! The worker is in the clear, so that an XDP or SO_REUSEPORT program steers by one byte. The tag
//! is a keyed hash of the other eight bytes: what was not issued by this node is told from what an
//! earlier run of it issued, before any table is looked at. The tag only keeps noise out: whoever
//! guesses one (2^-32 a try) or copies one still faces QUIC's packet protection.
//!
//! Owns [`CidKeys`]. Called by the endpoint for each datagram whose connection it does not know
//! and for each connection ID that it issues.

use std::fmt;

use siphasher::sip::SipHasher24;
use siphasher::sip128::SipHasher24 as SipHasher24Wide;
use thiserror::Error;

/// Length of every connection ID in bytes: eight of contents (the least that RFC 9000 §7.2 allows
/// to a dialler) and four of tag.
pub const CID_LEN: usize = 12;

/// Length of a stateless reset token in bytes (RFC 9000 §10.3).
pub const RESET_TOKEN_LEN: usize = 16;

/// Length of a stateless reset in bytes: that of a small packet; and the least that one answers, so
/// that two ends never answer each other for ever (RFC 9000 §10.3.3).
pub const RESET_LEN: usize = 40;

/// Length of the keys in their stored form in bytes.
pub const CID_KEYS_LEN: usize = 2 + 2 * KEY_LEN;

/// The format that this version issues. Format 0 marks an ID that a dialler made up.
const FORMAT: u8 = 1;
/// The format of an ID that the dialler makes up for its first packets.
const FORMAT_CHOSEN: u8 = 0;
/// Bytes that the tag covers.
const TAGGED_LEN: usize = 8;
/// One stored key: its number, the secret of tags, the secret of reset tokens.
const KEY_LEN: usize = 1 + 16 + 16;
/// Form of the stored keys.
const STORED_VERSION: u8 = 1;
/// Numbers that fit the four bits of a connection ID.
const KEY_NUMBERS: u8 = 16;
/// Offset of the connection ID in a packet with a short header (RFC 9000 §17.3).
const SHORT_DCID_AT: usize = 1;
/// Offset of the connection ID's length in a packet with a long header (RFC 8999 §5.1).
const LONG_DCID_LEN_AT: usize = 5;

/// A connection ID that this node issued or that passed the form of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cid([u8; CID_LEN]);

impl Cid {
    /// The bytes as they stand in packets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; CID_LEN] {
        &self.0
    }

    /// The worker that owns the connection.
    #[must_use]
    pub fn worker(&self) -> u8 {
        self.0[1]
    }

    /// The run of the process that issued it.
    #[must_use]
    pub fn generation(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    fn key_number(&self) -> u8 {
        self.0[0] & 0x0f
    }

    fn tag(&self) -> [u8; 4] {
        [self.0[8], self.0[9], self.0[10], self.0[11]]
    }
}

impl AsRef<[u8]> for Cid {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the tags of connection IDs are made with: all that an XDP program needs to check them. It
/// tells nothing about reset tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TagKey {
    /// The number by which connection IDs name it, below 16.
    pub number: u8,
    /// The key of SipHash-2-4.
    pub secret: [u8; 16],
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagKey {{ number: {} }}", self.number)
    }
}

/// What a genuine connection ID says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CidInfo {
    /// This run of the process issued it to a connection of `worker`.
    Current {
        /// Index of the worker.
        worker: u8,
    },
    /// Another run issued it: the connection is gone, or lives in the process that is drained.
    OldGeneration {
        /// Index of the worker in that run.
        worker: u8,
        /// The run.
        generation: u16,
    },
}

/// Why bytes are no connection ID of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CidError {
    /// The length is not [`CID_LEN`], or the format is unknown.
    #[error("expected a connection ID of 12 bytes in format 1, got {len} bytes: drop the packet")]
    Malformed {
        /// Length in bytes.
        len: usize,
    },
    /// The key that it names is none of the two that are valid.
    #[error("expected a connection ID under a valid key, got key {number}: drop the packet")]
    KeyRetired {
        /// The number that the connection ID names.
        number: u8,
    },
    /// The tag is wrong.
    #[error("expected the tag of a connection ID issued here, got another: drop the packet")]
    Forged,
}

/// Why stored keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CidKeysError {
    /// The length is wrong.
    #[error(
        "expected {CID_KEYS_LEN} bytes of connection ID keys, got {got}: remove the file, new keys are made at start"
    )]
    Length {
        /// Length in bytes.
        got: usize,
    },
    /// The form, a key number or the pair of them is invalid.
    #[error(
        "expected connection ID keys in form 1 with two numbers below 16, got others: remove the file, new keys are made at start"
    )]
    Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    number: u8,
    tag: [u8; 16],
    reset: [u8; 16],
}

impl Key {
    fn new(number: u8, secret: [u8; 32]) -> Self {
        let (tag, reset) = secret.split_at(16);
        let half = |bytes: &[u8]| std::array::from_fn(|i| bytes[i]);
        Self { number, tag: half(tag), reset: half(reset) }
    }

    /// The first four bytes of SipHash-2-4's output.
    fn tag_of(&self, contents: &[u8]) -> [u8; 4] {
        let [a, b, c, d, ..] = SipHasher24::new_with_key(&self.tag).hash(contents).to_le_bytes();
        [a, b, c, d]
    }

    fn write(&self, out: &mut [u8]) {
        out[0] = self.number;
        out[1..17].copy_from_slice(&self.tag);
        out[17..KEY_LEN].copy_from_slice(&self.reset);
    }

    fn read(bytes: &[u8]) -> Self {
        Self::new(bytes[0], std::array::from_fn(|i| bytes[1 + i]))
    }
}

/// The keys of connection IDs and of stateless reset tokens: the current pair, and the one before
/// it, which stays valid so that connections survive a rotation.
///
/// They outlive the process: a restarted daemon then knows its earlier IDs and can answer them with
/// a stateless reset. The same keys on two nodes would let each reset the other's connections.
#[derive(Clone, PartialEq, Eq)]
pub struct CidKeys {
    current: Key,
    previous: Option<Key>,
}

impl fmt::Debug for CidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let previous = self.previous.map(|key| key.number);
        write!(f, "CidKeys {{ current: {}, previous: {previous:?} }}", self.current.number)
    }
}

impl CidKeys {
    /// The first keys of a node, from 32 bytes of the system's random generator.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self { current: Key::new(0, secret), previous: None }
    }

    /// Makes `secret` the current key. The one that was current stays valid for checks and resets;
    /// the one before that is retired, and with it every connection ID that it issued.
    pub fn rotate(&mut self, secret: [u8; 32]) {
        let number = (self.current.number + 1) % KEY_NUMBERS;
        self.previous = Some(std::mem::replace(&mut self.current, Key::new(number, secret)));
    }

    /// The keys as they are stored. Whoever reads them can reset this node's connections.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; CID_KEYS_LEN] {
        let mut out = [0; CID_KEYS_LEN];
        out[0] = STORED_VERSION;
        out[1] = u8::from(self.previous.is_some());
        self.current.write(&mut out[2..2 + KEY_LEN]);
        if let Some(previous) = &self.previous {
            previous.write(&mut out[2 + KEY_LEN..]);
        }
        out
    }

    /// Reads what [`CidKeys::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the length or the form is another, or the two keys have one number.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CidKeysError> {
        if bytes.len() != CID_KEYS_LEN {
            return Err(CidKeysError::Length { got: bytes.len() });
        }
        let current = Key::read(&bytes[2..2 + KEY_LEN]);
        let previous = (bytes[1] == 1).then(|| Key::read(&bytes[2 + KEY_LEN..]));
        let valid = bytes[0] == STORED_VERSION
            && bytes[1] <= 1
            && current.number < KEY_NUMBERS
            && previous.is_none_or(|p| p.number < KEY_NUMBERS && p.number != current.number);
        if valid { Ok(Self { current, previous }) } else { Err(CidKeysError::Form) }
    }

    /// The valid keys' numbers and the secrets of their tags (SipHash-2-4), for a filter that checks
    /// connection IDs before they reach this process.
    pub fn tags(&self) -> impl Iterator<Item = (u8, [u8; 16])> + '_ {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(|key| (key.number, key.tag))
    }

    /// A connection ID under the current key. `nonce` comes from a random generator; the caller
    /// draws again when its table holds the result already.
    #[must_use]
    pub fn issue(&self, worker: u8, generation: u16, nonce: u32) -> Cid {
        let mut bytes = [0; CID_LEN];
        bytes[0] = FORMAT << 4 | self.current.number;
        bytes[1] = worker;
        bytes[2..4].copy_from_slice(&generation.to_be_bytes());
        bytes[4..TAGGED_LEN].copy_from_slice(&nonce.to_be_bytes());
        let tag = self.current.tag_of(&bytes[..TAGGED_LEN]);
        bytes[TAGGED_LEN..].copy_from_slice(&tag);
        Cid(bytes)
    }

    /// Checks a connection ID from a packet, in a time that tells nothing about the right tag.
    ///
    /// # Errors
    /// When this node did not issue it, or issued it under a key that is retired. A dialler's
    /// first, made-up ID is an error as well: look at the packet's type before.
    pub fn parse(&self, bytes: &[u8]) -> Result<Cid, CidError> {
        let malformed = CidError::Malformed { len: bytes.len() };
        let cid = Cid(bytes.try_into().map_err(|_| malformed)?);
        if cid.0[0] >> 4 != FORMAT {
            return Err(malformed);
        }
        let key = self.key(&cid).ok_or(CidError::KeyRetired { number: cid.key_number() })?;
        // One comparison of two words: no early exit that a clock could see.
        let expected = u32::from_ne_bytes(key.tag_of(&cid.0[..TAGGED_LEN]));
        let difference = expected ^ u32::from_ne_bytes(cid.tag());
        if std::hint::black_box(difference) == 0 { Ok(cid) } else { Err(CidError::Forged) }
    }

    /// Checks a connection ID as [`CidKeys::parse`] does, and says whether this `generation` of
    /// the process issued it.
    ///
    /// # Errors
    /// Those of [`CidKeys::parse`].
    pub fn check(&self, bytes: &[u8], generation: u16) -> Result<CidInfo, CidError> {
        let cid = self.parse(bytes)?;
        let worker = cid.worker();
        if cid.generation() == generation {
            return Ok(CidInfo::Current { worker });
        }
        Ok(CidInfo::OldGeneration { worker, generation: cid.generation() })
    }

    /// The keys of tags that are valid: the current one, and the one before it.
    #[must_use]
    pub fn tag_keys(&self) -> [Option<TagKey>; 2] {
        let tag_key = |key: Key| TagKey { number: key.number, secret: key.tag };
        [Some(self.current), self.previous].map(|key| key.map(tag_key))
    }

    /// The stateless reset token of a connection ID (RFC 9000 §10.3.2), or `None` once its key is
    /// retired.
    ///
    /// It is SipHash-2-4 with 128 bits of output under a secret of its own: a pseudo-random
    /// function made for short inputs, with as many bits of key as the token has. A peer sees the
    /// tokens of its own IDs only, so HMAC would add a hundred times the work and no safety.
    #[must_use]
    pub fn reset_token(&self, cid: &Cid) -> Option<[u8; RESET_TOKEN_LEN]> {
        let key = self.key(cid)?;
        let hash = SipHasher24Wide::new_with_key(&key.reset).hash(cid.as_bytes());
        Some(hash.as_bytes())
    }

    fn key(&self, cid: &Cid) -> Option<&Key> {
        let number = cid.key_number();
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.number == number)
    }
}

/// The destination connection ID of a dialler's first packets (RFC 9000 §7.2): byte 1 is the slot,
/// so that the acceptor's steering, which takes that byte modulo its number of workers, brings them
/// to the worker that will own the connection. `random` comes from the system's generator.
#[must_use]
pub fn initial_dcid(slot: u8, random: [u8; CID_LEN]) -> [u8; CID_LEN] {
    let mut bytes = random;
    bytes[0] = FORMAT_CHOSEN << 4 | random[0] & 0x0f;
    bytes[1] = slot;
    bytes
}

/// Whether a dialler made this connection ID up for its first packets, as [`initial_dcid`] does; of
/// the other IDs, none begins a connection.
#[must_use]
pub fn is_made_up(dcid: &[u8; CID_LEN]) -> bool {
    dcid[0] >> 4 == FORMAT_CHOSEN
}

/// The destination connection ID of a UDP payload, by QUIC's invariants (RFC 8999 §5) and nothing
/// else; `None` if the payload is too short to hold one. It may have any length up to 255.
#[must_use]
pub fn route(datagram: &[u8]) -> Option<&[u8]> {
    let long = datagram.first()? & 0x80 != 0;
    if !long {
        return datagram.get(SHORT_DCID_AT..SHORT_DCID_AT + CID_LEN);
    }
    let len = usize::from(*datagram.get(LONG_DCID_LEN_AT)?);
    let start = LONG_DCID_LEN_AT + 1;
    datagram.get(start..start + len)
}

#[cfg(test)]
mod tests;
