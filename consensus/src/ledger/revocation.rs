//! Revocation: keys and names that never come back. The set only grows, and its sequence rises
//! whenever it does.

use super::founding::{NAME_MAX, check_name};
use super::state::{Issuer, Retired, Revocation, RevokedKind};
use super::tokens::check_room;
use super::{Ledger, REVOCATIONS_MAX};
use crate::effect::Effect;
use crate::rejected::Rejected;

/// A set that claims a higher sequence counts as one of this: there is always one above it.
const SEQUENCE_MAX: u64 = 1 << 62;

impl Ledger {
    /// The address index of a revoked member stays held: whoever still has its certificate, which
    /// names the address, must not be taken for another.
    pub(super) fn revoke(&mut self, name: &str, at_s: u64) -> Result<Effect, Rejected> {
        self.founded()?;
        if let Some(member) = self.members.get(name).cloned() {
            self.end_issuer(name, at_s)?;
            self.revoke_keys(&[(RevokedKind::Node, member.keys)], name, at_s)?;
            self.remove_member(name, &member);
        } else {
            let unknown = || Rejected::UnknownName { name: name.to_owned() };
            let operator = self.operators.remove(&name.to_owned()).ok_or_else(unknown)?;
            self.revoke_keys(&[(RevokedKind::Operator, operator.keys)], name, at_s)?;
        }
        self.retired.insert(name.to_owned(), Retired { at_s });
        Ok(Effect::Revoked { node: name.to_owned(), sequence: self.counters.sequence })
    }

    /// Keys that are revoked already change nothing. The sequence ends above that of the set that the
    /// revocation comes from, as nodes that know that set take no other up to it.
    pub(super) fn keep_revoked(
        &mut self,
        keys: [u8; 32],
        lost: Revocation,
    ) -> Result<Effect, Rejected> {
        self.founded()?;
        let Revocation { kind, node, at_s, sequence } = lost;
        check_name(&node, NAME_MAX)?;
        if self.revocations.get(&keys).is_none() {
            self.counters.sequence = self.counters.sequence.max(sequence.min(SEQUENCE_MAX)) + 1;
            self.cut_off(&keys, kind, &node, at_s)?;
        }
        Ok(Effect::Revoked { node, sequence: self.counters.sequence })
    }

    fn cut_off(
        &mut self,
        keys: &[u8; 32],
        kind: RevokedKind,
        node: &str,
        at_s: u64,
    ) -> Result<(), Rejected> {
        match kind {
            RevokedKind::Node => {
                let member = self.members.get(node).filter(|member| member.keys == *keys).cloned();
                if let Some(member) = member {
                    self.end_issuer(node, at_s)?;
                    self.remove_member(node, &member);
                }
            }
            RevokedKind::Operator => {
                if self.operators.get(node).is_some_and(|operator| operator.keys == *keys) {
                    self.operators.remove(&node.to_owned());
                }
            }
            RevokedKind::Issuer | RevokedKind::Log => {
                let is_held = |issuer: &Issuer| [issuer.keys, issuer.log].contains(keys);
                if self.issuers.get(node).is_some_and(is_held) {
                    return self.end_issuer(node, at_s);
                }
            }
        }
        self.revoke_keys(&[(kind, *keys)], node, at_s)?;
        if matches!(kind, RevokedKind::Node | RevokedKind::Operator) {
            self.retire(node, at_s);
        }
        Ok(())
    }

    /// The name never comes back, unless somebody has it by now, with other keys.
    fn retire(&mut self, name: &str, at_s: u64) {
        if self.members.get(name).is_some() || self.operators.get(name).is_some() {
            return;
        }
        if let Some(token) = self.tokens.remove(&name.to_owned()) {
            self.free_index(token.index);
        }
        self.retired.insert(name.to_owned(), Retired { at_s });
    }

    /// If the member is an issuer, it no longer is, and its issuing keys are revoked.
    pub(super) fn end_issuer(&mut self, node: &str, at_s: u64) -> Result<(), Rejected> {
        let Some(issuer) = self.issuers.remove(&node.to_owned()) else { return Ok(()) };
        if self.issuers.len() == 0 {
            return Err(Rejected::LastIssuer { node: node.to_owned() });
        }
        let keys = [(RevokedKind::Issuer, issuer.keys), (RevokedKind::Log, issuer.log)];
        self.revoke_keys(&keys, node, at_s)
    }

    fn revoke_keys(
        &mut self,
        all: &[(RevokedKind, [u8; 32])],
        node: &str,
        at_s: u64,
    ) -> Result<(), Rejected> {
        // One sequence for everything that one command revokes.
        let before = self.saved.unwrap_or(self.counters).sequence;
        let sequence = (before + 1).max(self.counters.sequence);
        for (kind, keys) in all {
            check_room("revoked keys", self.revocations.len(), REVOCATIONS_MAX)?;
            self.keys.remove(keys);
            let (kind, node) = (*kind, node.to_owned());
            self.revocations.insert(*keys, Revocation { kind, node, at_s, sequence });
        }
        self.counters.sequence = sequence;
        Ok(())
    }
}
