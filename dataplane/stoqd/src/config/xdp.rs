//! `[xdp]`: what the XDP program refuses of the packets to STOQ's ports before anything else is spent
//! on them. Read by the broker alone.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use stoq_xdp::{InitialRates, Rate, Rules};

use super::Prefix;
use super::address::prefixes;
use super::check::Findings;

/// Most refused prefixes, both families together; the program's maps hold as many of each.
const DENY_MAX: usize = 16_384;

/// Most packets a second that a limit may be set to: more than a core can open.
const RATE_MAX: u32 = 10_000_000;

/// `[xdp]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Xdp {
    /// Sources that are refused.
    #[serde(with = "prefixes")]
    pub deny: Vec<Prefix>,
    /// Refuse what cannot be QUIC.
    pub malformed: bool,
    /// Limit Initial packets.
    pub initial: bool,
    /// Initial packets a second of one source prefix.
    pub initial_per_source: u32,
    /// Initial packets a second of all sources, for each core.
    pub initial_total: u32,
    /// Limit unknown versions.
    pub version: bool,
    /// Refuse connection IDs that were not issued here.
    pub forged: bool,
    /// Limit connection IDs of an earlier run.
    pub old_generation: bool,
}

impl Default for Xdp {
    fn default() -> Self {
        let rates = Rules::default().initial;
        let per_second = |of: fn(InitialRates) -> Rate| rates.map_or(1, |r| of(r).per_second.get());
        Self {
            deny: Vec::new(),
            malformed: true,
            initial: true,
            initial_per_source: per_second(|rates| rates.source),
            initial_total: per_second(|rates| rates.total),
            version: true,
            forged: true,
            old_generation: true,
        }
    }
}

impl Xdp {
    /// The rules of the program. A source may send four seconds' worth at once, all together a fifth of
    /// a second's: as with the program's own defaults.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let (source, total) = (self.initial_per_source, self.initial_total);
        let rates = InitialRates {
            source: Rate::new(source, source.saturating_mul(4)),
            total: Rate::new(total, total / 5),
        };
        let all = Rules::default();
        Rules {
            deny: true,
            malformed: self.malformed,
            initial: self.initial.then_some(rates),
            version: all.version.filter(|_| self.version),
            forged: all.forged.filter(|_| self.forged),
            old_generation: all.old_generation.filter(|_| self.old_generation),
        }
    }

    /// The refused sources, as the program takes them.
    pub fn denied(&self) -> impl Iterator<Item = (IpAddr, u8)> + '_ {
        self.deny.iter().map(|prefix| (prefix.address(), prefix.length()))
    }

    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.at_most(DENY_MAX, self.deny.len(), "xdp.deny");
        findings.unique(&self.deny, "xdp.deny");
        let rates = [
            ("xdp.initial_per_source", self.initial_per_source),
            ("xdp.initial_total", self.initial_total),
        ];
        for (key, rate) in rates {
            findings.unless((1..=RATE_MAX).contains(&rate), key, || {
                format!(
                    "expected 1 to {RATE_MAX} packets a second, got {rate}; \
                     to switch the rule off set initial = false"
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_program() {
        assert_eq!(Xdp::default().rules(), Rules::default());
    }

    #[test]
    fn each_rule_can_be_switched_off() {
        let off = Xdp {
            malformed: false,
            initial: false,
            version: false,
            forged: false,
            old_generation: false,
            ..Xdp::default()
        };
        assert_eq!(off.rules(), Rules { deny: true, ..Rules::OFF });
    }
}
