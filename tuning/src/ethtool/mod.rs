//! What a network driver is asked and told by `ethtool`: its channels and rings, what it hashes to
//! choose a receive queue and how it spreads the hashes, and its features.
//!
//! Owns these values with their text form, which is what is shown and recorded. [`Kernel`] asks
//! this host's drivers; tests put the answers of other hosts in its place. Called by `Host`.

mod ioctl;
mod rings;

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use ioctl::Kernel;
pub(crate) use rings::MAX_TABLE;
pub use rings::{Rings, Spread, Table};

/// The drivers of a host. Errors are the drivers' own: `ENODEV` without such an interface,
/// `EOPNOTSUPP` for what a driver does not know.
pub trait Ethtool: fmt::Debug {
    /// The channels of `interface`.
    ///
    /// # Errors
    /// The driver's.
    fn channels(&self, interface: &str) -> io::Result<Channels>;

    /// Sets the numbers of channels; the most that there can be are not settable, and left out.
    ///
    /// # Errors
    /// The driver's; `EINVAL` also when an AF_XDP socket holds a queue that would go away.
    fn set_channels(&self, interface: &str, channels: Channels) -> io::Result<()>;

    /// What is hashed of received packets of this flow.
    ///
    /// # Errors
    /// The driver's.
    fn flow_hash(&self, interface: &str, flow: Flow) -> io::Result<FlowHash>;

    /// Sets what is hashed of received packets of this flow.
    ///
    /// # Errors
    /// The driver's.
    fn set_flow_hash(&self, interface: &str, flow: Flow, hash: FlowHash) -> io::Result<()>;

    /// The lengths of the rings.
    ///
    /// # Errors
    /// The driver's.
    fn rings(&self, interface: &str) -> io::Result<Rings>;

    /// Sets the lengths of the rings; the most that there can be are left out.
    ///
    /// # Errors
    /// The driver's.
    fn set_rings(&self, interface: &str, rings: Rings) -> io::Result<()>;

    /// How received packets are spread over queues.
    ///
    /// # Errors
    /// The driver's.
    fn table(&self, interface: &str) -> io::Result<Table>;

    /// Sets how received packets are spread over queues.
    ///
    /// # Errors
    /// The driver's.
    fn set_table(&self, interface: &str, spread: &Spread) -> io::Result<()>;

    /// Whether a feature is on.
    ///
    /// # Errors
    /// The driver's; `EOPNOTSUPP` for a feature that this kernel does not know.
    fn feature(&self, interface: &str, feature: Feature) -> io::Result<bool>;

    /// Switches a feature. A driver that cannot leaves it as it is.
    ///
    /// # Errors
    /// The driver's.
    fn set_feature(&self, interface: &str, feature: Feature, on: bool) -> io::Result<()>;
}

/// What an interface may do with packets on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Feature {
    /// Trains of received packets are put together.
    #[serde(rename = "rx-gro")]
    Gro,
    /// Trains of UDP packets too that are not for a socket of this host.
    #[serde(rename = "rx-udp-gro-forwarding")]
    UdpGroForwarding,
}

impl Feature {
    /// The kernel's name (`netdev_features_strings`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gro => "rx-gro",
            Self::UdpGroForwarding => "rx-udp-gro-forwarding",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Numbers of channels, and the most that the driver can have of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Channels that only receive.
    pub rx: u32,
    /// Channels that only send.
    pub tx: u32,
    /// Channels that do both.
    pub combined: u32,
    /// The most of `rx`.
    pub rx_max: u32,
    /// The most of `tx`.
    pub tx_max: u32,
    /// The most of `combined`.
    pub combined_max: u32,
}

impl Channels {
    /// These numbers, with those that a text such as `rx 1 tx 1` or `combined 4` names; the others
    /// become 0. `None` for any other text.
    pub(crate) fn with(self, text: &str) -> Option<Self> {
        let mut channels = Self { rx: 0, tx: 0, combined: 0, ..self };
        let mut words = text.split(' ');
        while let Some(kind) = words.next() {
            let number = words.next()?.parse().ok()?;
            match kind {
                "rx" => channels.rx = number,
                "tx" => channels.tx = number,
                "combined" => channels.combined = number,
                _ => return None,
            }
        }
        Some(channels)
    }

    /// The most queues that can receive.
    pub(crate) fn most(self) -> u32 {
        if self.combined_max > 0 { self.combined_max } else { self.rx_max.min(self.tx_max) }
    }

    /// The same interface with `count` queues that receive and send. A driver that combines them
    /// does so, as AF_XDP sockets do.
    pub(crate) fn set_to(self, count: u32) -> Self {
        match self.combined_max {
            0 => Self { rx: count, tx: count, ..self },
            _ => Self { rx: 0, tx: 0, combined: count, ..self },
        }
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("rx", self.rx), ("tx", self.tx), ("combined", self.combined)];
        let there = kinds.iter().filter(|(_, number)| *number > 0);
        let words: Vec<_> = there.map(|(kind, number)| format!("{kind} {number}")).collect();
        f.write_str(&words.join(" "))
    }
}

/// A kind of received packets that a driver hashes in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

impl Flow {
    pub(crate) const ALL: [Self; 2] = [Self::Udp4, Self::Udp6];
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
        })
    }
}

/// Fields of a packet that choose its receive queue: `RXH_*` of linux/ethtool.h, as bits.
///
/// Its text is the letters of `ethtool -N`, `none` for no field, or hexadecimal when it has bits
/// that have no letter, so that nothing is lost on the way through a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash(pub u64);

/// The letters of `ethtool -N IF rx-flow-hash`, and their bits.
const LETTERS: [(char, u64); 8] = [
    ('m', 1 << 1),
    ('v', 1 << 2),
    ('t', 1 << 3),
    ('s', 1 << 4),
    ('d', 1 << 5),
    ('f', 1 << 6),
    ('n', 1 << 7),
    ('r', 1 << 31),
];

impl FlowHash {
    /// Addresses and ports: `sdfn`.
    pub(crate) const WITH_PORTS: Self = Self(0xf << 4);
}

impl fmt::Display for FlowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = LETTERS.iter().fold(0, |bits, (_, bit)| bits | bit);
        match self.0 {
            0 => f.write_str("none"),
            bits if bits & !known != 0 => write!(f, "{bits:#x}"),
            bits => {
                let set = LETTERS.iter().filter(|(_, bit)| bits & bit != 0);
                f.write_str(&set.map(|(letter, _)| letter).collect::<String>())
            }
        }
    }
}

impl FromStr for FlowHash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "none" {
            return Ok(Self(0));
        }
        if let Some(digits) = text.strip_prefix("0x") {
            return u64::from_str_radix(digits, 16).map(Self).map_err(drop);
        }
        let bit = |letter| LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, bit)| *bit);
        let bits = text.chars().try_fold(0, |bits, letter| Some(bits | bit(letter)?));
        bits.filter(|bits| *bits != 0).map(Self).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_are_written_as_ethtool_does() {
        assert_eq!(FlowHash::WITH_PORTS.to_string(), "sdfn");
        assert_eq!("sd".parse(), Ok(FlowHash(0x30)));
        assert_eq!(FlowHash(0).to_string(), "none");
        assert_eq!(FlowHash(1 << 8 | 0x30).to_string(), "0x130");
        for foreign in ["", "x", "sdfn ", "0x", "0xg", "None"] {
            assert_eq!(foreign.parse::<FlowHash>(), Err(()), "{foreign:?}");
        }
    }

    #[test]
    fn channels_are_read_as_they_are_written() {
        let most = Channels { rx_max: 4, tx_max: 4, combined_max: 8, ..Channels::default() };
        let combined = most.with("combined 8").unwrap();
        assert_eq!((combined.combined, combined.combined_max), (8, 8));
        assert_eq!(combined.set_to(2).to_string(), "combined 2");
        let apart = Channels { combined_max: 0, ..most };
        assert_eq!(apart.set_to(3).to_string(), "rx 3 tx 3");
        for foreign in ["", "rx", "rx x", "rx 1 tx", "other 1", "rx -1", "rx 4294967296"] {
            assert_eq!(most.with(foreign), None, "{foreign:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_bit_of_a_hash_is_lost_in_its_text(bits in any::<u64>(), few in 0u64..512) {
            for hash in [FlowHash(bits), FlowHash(few)] {
                prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            }
        }

        #[test]
        fn channels_survive_their_text(rx in 0u32..9, tx in 0u32..9, combined in 1u32..9) {
            let channels = Channels { rx, tx, combined, ..Channels::default() };
            prop_assert_eq!(Channels::default().with(&channels.to_string()), Some(channels));
        }
    }
}
