//! What the loader tells the program: rules, rates, and the keys of connection IDs.

use crate::limit::Limit;

/// Keys that are valid at a time: the current one, and the one before it.
pub const KEYS_MAX: usize = 2;

/// The rules of the program, each a bit of [`Config::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// Refuse the IPv4 sources of the deny list; set while there are any.
    DenyV4 = 1 << 0,
    /// Refuse the IPv6 sources of the deny list; set while there are any.
    DenyV6 = 1 << 1,
    /// Refuse what cannot be QUIC.
    Malformed = 1 << 2,
    /// Limit Initial packets.
    Initial = 1 << 3,
    /// Limit unknown versions.
    Version = 1 << 4,
    /// Refuse connection IDs that were not issued here.
    Forged = 1 << 5,
    /// Limit connection IDs that an earlier run issued.
    OldGeneration = 1 << 6,
}

/// One key of connection IDs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySlot {
    /// The number that connection IDs name it by, below 16; [`KeySlot::EMPTY`]'s matches none.
    pub number: u64,
    /// The secret of tags, as two little-endian words.
    pub secret: [u64; 2],
}

impl KeySlot {
    /// No key: a number that no connection ID can name.
    pub const EMPTY: Self = Self { number: u64::MAX, secret: [0; 2] };
}

/// The one value of the map `CONFIG`. All its fields are words, so there is no padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bits of [`Rule`].
    pub rules: u64,
    /// The run of the daemon, as it stands in the connection IDs that it issues.
    pub generation: u64,
    /// The valid keys.
    pub keys: [KeySlot; KEYS_MAX],
    /// Initial packets of one source prefix.
    pub initial_source: Limit,
    /// The limits of a CPU, by [`LimitIndex`](crate::LimitIndex).
    pub limits: [Limit; crate::LIMITS],
}

impl Config {
    /// Whether a rule is on.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, rule: Rule) -> bool {
        self.rules & rule as u64 != 0
    }
}
