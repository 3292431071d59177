//! Revocation: keys and names that never come back. The set only grows, and its sequence rises
//! whenever it does.

use super::state::{Retired, Revocation, RevokedKind};
use super::tokens::check_room;
use super::{Ledger, REVOCATIONS_MAX};
use crate::effect::Effect;
use crate::rejected::Rejected;

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
        let sequence = self.saved.unwrap_or(self.counters).sequence + 1;
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
