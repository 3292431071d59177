//! What changes about a member while it is one: its endpoints, whether it issues, and that it
//! leaves.

use std::net::SocketAddr;

use super::founding::{check_certificate, check_endpoints};
use super::state::{Issuer, Member};
use super::tokens::check_room;
use super::{ISSUERS_MAX, Ledger};
use crate::effect::Effect;
use crate::rejected::Rejected;

impl Ledger {
    pub(super) fn known(&self, node: &str) -> Result<&Member, Rejected> {
        self.founded()?;
        self.members.get(node).ok_or_else(|| Rejected::UnknownMember { node: node.to_owned() })
    }

    /// Changes a member's row; when that makes a difference, its record is one of this height.
    pub(super) fn edit(
        &mut self,
        node: &str,
        change: impl FnOnce(&mut Member),
    ) -> Result<(), Rejected> {
        let before = self.known(node)?;
        let mut after = before.clone();
        change(&mut after);
        if after != *before {
            after.changed = self.counters.height + 1;
            self.members.insert(node.to_owned(), after);
        }
        Ok(())
    }

    pub(super) fn set_endpoints(
        &mut self,
        node: &str,
        endpoints: &[SocketAddr],
    ) -> Result<Effect, Rejected> {
        check_endpoints(endpoints)?;
        self.edit(node, |member| member.endpoints = endpoints.to_vec())?;
        Ok(Effect::EndpointsSet { node: node.to_owned() })
    }

    pub(super) fn add_issuer(&mut self, node: &str, issuer: Issuer) -> Result<Effect, Rejected> {
        self.known(node)?;
        check_certificate(&issuer.certificate)?;
        check_certificate(&issuer.log_certificate)?;
        let before = self.issuers.get(node);
        let renewed = before.is_some();
        if let Some(before) = before {
            if (before.keys, before.log) != (issuer.keys, issuer.log) {
                return Err(Rejected::IssuerKeys { node: node.to_owned() });
            }
        } else {
            check_room("issuers", self.issuers.len(), ISSUERS_MAX)?;
            for keys in [issuer.keys, issuer.log] {
                self.check_free_keys(&keys)?;
                self.keys.insert(keys, node.to_owned());
            }
        }
        self.issuers.insert(node.to_owned(), issuer);
        Ok(Effect::IssuerAdded { node: node.to_owned(), renewed })
    }

    /// The keys that it had as a node are not revoked: its record is gone, and with it whatever
    /// peers let it do. Keys that could sign for the mesh are.
    pub(super) fn leave(&mut self, node: &str, at_s: u64) -> Result<Effect, Rejected> {
        let member = self.known(node)?.clone();
        self.end_issuer(node, at_s)?;
        self.keys.remove(&member.keys);
        self.free_index(Some(member.index));
        self.remove_member(node, &member);
        Ok(Effect::Left { node: node.to_owned(), sequence: self.counters.sequence })
    }

    pub(super) fn remove_member(&mut self, node: &str, member: &Member) {
        for prefix in &member.routes {
            self.routes.remove(prefix);
        }
        self.members.remove(&node.to_owned());
    }
}
