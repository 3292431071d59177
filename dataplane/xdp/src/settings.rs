//! What the program is told: whose packets are STOQ's, and what each rule lets through.
//!
//! Values only; [`Settings::checked`] turns them into the form that the maps take, or says which bound
//! is broken. Made by the daemon from its configuration and its connection ID keys.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use stoq_xdp_types::{
    ADDRESSES_MAX, Address, Config, DENY_MAX, KEYS_MAX, KeySlot, LIMITS, Limit, LimitIndex,
    PORTS_MAX, Rule, address,
};

use crate::XdpError;

/// All that the program is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The UDP ports of STOQ: those that it listens on, and those that workers dial from. At most
    /// [`PORTS_MAX`].
    pub ports: Vec<u16>,
    /// The addresses of this host; what goes elsewhere is only forwarded and passes untouched. At most
    /// [`ADDRESSES_MAX`].
    pub addresses: Vec<IpAddr>,
    /// Source prefixes whose packets to STOQ are refused; at most [`DENY_MAX`] of each family.
    pub deny: Vec<(IpAddr, u8)>,
    /// The rules.
    pub rules: Rules,
    /// How connection IDs are checked; without it, the rules on them are off.
    pub connection_ids: Option<CidCheck>,
}

/// Which rules are on, and the rates of those that have one. Every rule looks at packets to STOQ alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Refuse the sources of [`Settings::deny`].
    pub deny: bool,
    /// Refuse what cannot be QUIC, or is no valid UDP. Off, the latter goes to the kernel.
    pub malformed: bool,
    /// Limit the packets that open connections.
    pub initial: Option<InitialRates>,
    /// Limit packets of unknown versions, and Version Negotiation; for each CPU.
    pub version: Option<Rate>,
    /// Refuse connection IDs that were not issued by this host. The rate is that of packets which fail
    /// the check but may be the stateless reset of a peer that lost its state; for each CPU.
    pub forged: Option<Rate>,
    /// Limit the packets with an ID of an earlier run of the daemon; for each CPU.
    pub old_generation: Option<Rate>,
}

/// How many Initial packets may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialRates {
    /// From one source prefix: an address of IPv4, a /64 of IPv6.
    pub source: Rate,
    /// From all of them, to each CPU.
    pub total: Rate,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Packets a second in the long run.
    pub per_second: NonZeroU32,
    /// Packets at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// So many packets a second, and so many at once; at least one of each.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: at_least_one(per_second), burst: at_least_one(burst) }
    }

    const fn limit(self) -> Limit {
        Limit::new(self.per_second, self.burst)
    }
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

impl Default for Rules {
    /// Every rule on, with rates that no honest mesh reaches and no core feels:
    ///
    /// - Initial packets of one source, 100 a second and 400 at once: a peer opens a connection for each
    ///   worker, with two datagrams, twice when it must prove its address; 400 are 100 such
    ///   connections behind one address. At the rate, handshakes take 3 % of a core.
    /// - Initial packets of all, 5,000 a second and 1,000 at once for each CPU: from 64 unfinished
    ///   handshakes on the worker answers by Retry, which costs it some 10 µs; that is 5 % of a core.
    ///   10,000 connections that all come back take 8 s on one CPU.
    /// - Unknown versions, 64 a second and 32 at once: a quarter of what a worker answers by itself.
    /// - Resets of peers, 1,000 a second and 1,000 at once: a restarted peer sends one for each packet
    ///   that it cannot place, at most 256 a second for each of its workers.
    /// - IDs of an earlier run, 1,000 a second and 1,000 at once: above the 256 that a worker answers.
    fn default() -> Self {
        Self {
            deny: true,
            malformed: true,
            initial: Some(InitialRates {
                source: Rate::new(100, 400),
                total: Rate::new(5_000, 1_000),
            }),
            version: Some(Rate::new(64, 32)),
            forged: Some(Rate::new(1_000, 1_000)),
            old_generation: Some(Rate::new(1_000, 1_000)),
        }
    }
}

impl Rules {
    /// No rule at all: every packet of STOQ goes to its socket.
    pub const OFF: Self = Self {
        deny: false,
        malformed: false,
        initial: None,
        version: None,
        forged: None,
        old_generation: None,
    };
}

/// What is needed to tell the connection IDs of this host from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CidCheck {
    /// The run of the daemon, as its connection IDs name it.
    pub generation: u16,
    /// The keys that are valid.
    pub keys: [Option<CidKey>; KEYS_MAX],
}

/// A key of connection IDs' tags.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CidKey {
    /// The number by which connection IDs name it, below 16.
    pub number: u8,
    /// The secret of the tags, not that of reset tokens.
    pub secret: [u8; 16],
}

impl fmt::Debug for CidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CidKey {{ number: {} }}", self.number)
    }
}

impl CidKey {
    fn slot(self) -> KeySlot {
        let half = |at| u64::from_le_bytes(std::array::from_fn(|i| self.secret[at + i]));
        KeySlot { number: self.number.into(), secret: [half(0), half(8)] }
    }
}

/// A source prefix in canonical form: no bits behind its length, no IPv4 in IPv6's clothes.
pub(crate) type Prefix = (IpAddr, u8);

/// Settings within their bounds, without doubles, as the maps take them.
pub(crate) struct Checked {
    pub(crate) config: Config,
    pub(crate) ports: BTreeSet<u16>,
    pub(crate) addresses: BTreeSet<Address>,
    pub(crate) deny: BTreeSet<Prefix>,
}

impl Settings {
    /// Checks every bound.
    pub(crate) fn checked(&self) -> Result<Checked, XdpError> {
        let ports: BTreeSet<u16> = self.ports.iter().copied().collect();
        within("UDP ports", ports.len(), PORTS_MAX)?;
        let addresses: BTreeSet<Address> =
            self.addresses.iter().map(|ip| address(ip.to_canonical())).collect();
        within("local addresses", addresses.len(), ADDRESSES_MAX)?;
        let deny = self.deny.iter().map(|(ip, len)| prefix(*ip, *len));
        let deny = deny.collect::<Result<BTreeSet<Prefix>, _>>()?;
        for is_v4 in [true, false] {
            let count = deny.iter().filter(|(ip, _)| ip.is_ipv4() == is_v4).count();
            within("refused prefixes of one family", count, DENY_MAX)?;
        }
        let config = self.config(&deny);
        Ok(Checked { config, ports, addresses, deny })
    }

    fn config(&self, deny: &BTreeSet<Prefix>) -> Config {
        let rules = &self.rules;
        let checks_ids = self.connection_ids.is_some();
        let has = |is_v4| rules.deny && deny.iter().any(|(ip, _)| ip.is_ipv4() == is_v4);
        let on = [
            (Rule::DenyV4, has(true)),
            (Rule::DenyV6, has(false)),
            (Rule::Malformed, rules.malformed),
            (Rule::Initial, rules.initial.is_some()),
            (Rule::Version, rules.version.is_some()),
            (Rule::Forged, rules.forged.is_some() && checks_ids),
            (Rule::OldGeneration, rules.old_generation.is_some() && checks_ids),
        ];
        let mut limits = [Limit::UNUSED; LIMITS];
        let rates = [
            (LimitIndex::InitialTotal, rules.initial.map(|rates| rates.total)),
            (LimitIndex::Version, rules.version),
            (LimitIndex::Reset, rules.forged),
            (LimitIndex::OldGeneration, rules.old_generation),
        ];
        for (index, rate) in rates {
            limits[index as usize] = rate.map_or(Limit::UNUSED, Rate::limit);
        }
        let keys = self.connection_ids.map_or([None; KEYS_MAX], |check| check.keys);
        Config {
            rules: on.iter().filter(|(_, on)| *on).fold(0, |bits, (rule, _)| bits | *rule as u64),
            generation: self.connection_ids.map_or(0, |check| check.generation.into()),
            keys: keys.map(|key| key.map_or(KeySlot::EMPTY, CidKey::slot)),
            initial_source: rules.initial.map_or(Limit::UNUSED, |rates| rates.source.limit()),
            limits,
        }
    }
}

fn within(what: &'static str, got: usize, most: u32) -> Result<(), XdpError> {
    if got <= most as usize { Ok(()) } else { Err(XdpError::TooMany { what, most, got }) }
}

fn prefix(ip: IpAddr, len: u8) -> Result<Prefix, XdpError> {
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    if len > bits {
        return Err(XdpError::PrefixLength { address: ip, length: len, most: bits });
    }
    Ok(match ip {
        IpAddr::V4(ip) => v4_prefix(ip, len),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) if len >= 96 => v4_prefix(mapped, len - 96),
            _ => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                (Ipv6Addr::from_bits(ip.to_bits() & mask).into(), len)
            }
        },
    })
}

fn v4_prefix(ip: Ipv4Addr, len: u8) -> Prefix {
    let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
    (Ipv4Addr::from_bits(ip.to_bits() & mask).into(), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_told_when_it_is_broken() {
        let ports = Settings { ports: (0..=512).collect(), ..Settings::default() };
        let addresses = (0..=1024).map(|i| Ipv4Addr::from_bits(i).into()).collect();
        let addresses = Settings { addresses, ..Settings::default() };
        let deny = (0..=16_384).map(|i| (Ipv4Addr::from_bits(i).into(), 32)).collect();
        let deny = Settings { deny, ..Settings::default() };
        for (settings, most) in [(ports, "512"), (addresses, "1024"), (deny, "16384")] {
            let error = settings.checked().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(most), "{error}");
        }
        let deny =
            Settings { deny: vec![("10.0.0.0".parse().unwrap(), 33)], ..Settings::default() };
        let error = deny.checked().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("10.0.0.0/33"), "{error}");
    }

    #[test]
    fn prefixes_are_canonical() {
        for (text, len, canonical, canonical_len) in [
            ("10.1.2.3", 8, "10.0.0.0", 8),
            ("10.1.2.3", 0, "0.0.0.0", 0),
            ("10.1.2.3", 32, "10.1.2.3", 32),
            ("::ffff:10.1.2.3", 104, "10.0.0.0", 8),
            ("2001:db8:1:2::3", 48, "2001:db8:1::", 48),
            ("2001:db8::1", 0, "::", 0),
            ("2001:db8::1", 128, "2001:db8::1", 128),
        ] {
            let expected = (canonical.parse().unwrap(), canonical_len);
            assert_eq!(prefix(text.parse().unwrap(), len).unwrap(), expected, "{text}/{len}");
        }
    }

    #[test]
    fn rules_on_connection_ids_need_their_keys() {
        let config = Settings::default().checked().unwrap().config;
        assert!(config.has(Rule::Malformed) && config.has(Rule::Initial));
        assert!(!config.has(Rule::Forged) && !config.has(Rule::OldGeneration));
        assert!(!config.has(Rule::DenyV4), "the list is empty");
        let off = Settings { rules: Rules::OFF, ..Settings::default() };
        assert_eq!(off.checked().unwrap().config.rules, 0);
    }
}
