//! Tokens and enrolment: how a name and an address are held for someone, and given away once.

use std::net::SocketAddr;

use super::founding::check_endpoints;
use super::state::{Addresses, Member, Operator, Token};
use super::{Ledger, MEMBERS_MAX, OPERATORS_MAX, TOKENS_MAX};
use crate::command::Role;
use crate::effect::{Effect, Enrolment};
use crate::rejected::Rejected;

/// Longest life of a token: one that lies about longer than a week is forgotten, not awaited.
pub const TOKEN_LIFE_MAX_S: u64 = 7 * 24 * 3600;

/// Highest address index: the last group of an IPv6 address. Members, tokens and revoked names
/// together can not hold as many.
const INDEX_MAX: u32 = 0xffff;

impl Ledger {
    pub(super) fn create_token(
        &mut self,
        hash: [u8; 32],
        node: &str,
        role: Role,
        expires_at_s: u64,
        at_s: u64,
    ) -> Result<Effect, Rejected> {
        self.founded()?;
        self.check_free_name(node)?;
        let got_s = i128::from(expires_at_s) - i128::from(at_s);
        if !(1..=i128::from(TOKEN_LIFE_MAX_S)).contains(&got_s) {
            return Err(Rejected::TokenLife { got_s, most_s: TOKEN_LIFE_MAX_S });
        }
        self.sweep_tokens(at_s);
        self.check_no_token(node, at_s)?;
        check_room("open tokens", self.tokens.len(), TOKENS_MAX)?;
        let index = match role {
            Role::Node => Some(self.hold_index(node)?),
            Role::Operator(_) => None,
        };
        self.tokens.insert(node.to_owned(), Token { hash, role, index, expires_at_s });
        let addresses = index.and_then(|index| self.addresses(index));
        Ok(Effect::TokenCreated { node: node.to_owned(), addresses })
    }

    pub(super) fn drop_token(&mut self, node: &str) -> Result<Effect, Rejected> {
        let unknown = || Rejected::TokenUnknown { node: node.to_owned() };
        let token = self.tokens.remove(&node.to_owned()).ok_or_else(unknown)?;
        self.free_index(token.index);
        Ok(Effect::TokenDropped { node: node.to_owned() })
    }

    pub(super) fn enrol(
        &mut self,
        hash: [u8; 32],
        node: &str,
        keys: [u8; 32],
        endpoints: &[SocketAddr],
        at_s: u64,
    ) -> Result<Effect, Rejected> {
        if let Some(enrolment) = self.enrolled_before(hash, node, keys)? {
            return Ok(Effect::Enrolled(enrolment));
        }
        self.check_free_name(node)?;
        let unknown = || Rejected::TokenUnknown { node: node.to_owned() };
        let token = self.tokens.get(node).filter(|token| token.hash == hash);
        let token = token.cloned().ok_or_else(unknown)?;
        if let Some(ago_s) = at_s.checked_sub(token.expires_at_s) {
            return Err(Rejected::TokenExpired { node: node.to_owned(), ago_s });
        }
        self.check_free_keys(&keys)?;
        self.tokens.remove(&node.to_owned());
        self.keys.insert(keys, node.to_owned());
        let role = token.role;
        let addresses = match role {
            Role::Node => self.admit(node, keys, &token, endpoints, at_s)?,
            Role::Operator(role) => {
                if !endpoints.is_empty() {
                    let got = endpoints.len();
                    return Err(Rejected::OperatorEndpoints { node: node.to_owned(), got });
                }
                check_room("operators", self.operators.len(), OPERATORS_MAX)?;
                self.operators.insert(node.to_owned(), Operator { keys, role, token: Some(hash) });
                None
            }
        };
        Ok(Effect::Enrolled(Enrolment { node: node.to_owned(), role, addresses }))
    }

    fn admit(
        &mut self,
        node: &str,
        keys: [u8; 32],
        token: &Token,
        endpoints: &[SocketAddr],
        at_s: u64,
    ) -> Result<Option<Addresses>, Rejected> {
        check_endpoints(endpoints)?;
        check_room("members", self.members.len(), MEMBERS_MAX)?;
        let index = token.index.map_or_else(|| self.hold_index(node), Ok)?;
        let member = Member {
            index,
            keys,
            token: Some(token.hash),
            endpoints: endpoints.to_vec(),
            routes: Default::default(),
            joined_s: at_s,
            changed: self.counters.height + 1,
        };
        self.members.insert(node.to_owned(), member);
        Ok(self.addresses(index))
    }

    /// The answer that this token and these keys have had before.
    fn enrolled_before(
        &self,
        hash: [u8; 32],
        node: &str,
        keys: [u8; 32],
    ) -> Result<Option<Enrolment>, Rejected> {
        let (role, held, index) = if let Some(member) = self.members.get(node) {
            (Role::Node, (member.token, member.keys), Some(member.index))
        } else if let Some(operator) = self.operators.get(node) {
            (Role::Operator(operator.role), (operator.token, operator.keys), None)
        } else {
            return Ok(None);
        };
        if held.0 != Some(hash) {
            return Err(Rejected::NameHeld { name: node.to_owned() });
        }
        if held.1 != keys {
            return Err(Rejected::TokenRaced { node: node.to_owned() });
        }
        let addresses = index.and_then(|index| self.addresses(index));
        Ok(Some(Enrolment { node: node.to_owned(), role, addresses }))
    }

    /// Removes what has expired, so that names and addresses are not held for ever.
    fn sweep_tokens(&mut self, at_s: u64) {
        let expired = self.tokens.rows().iter().filter(|(_, token)| token.expires_at_s <= at_s);
        let expired: Vec<String> = expired.map(|(name, _)| name.clone()).collect();
        for name in expired {
            let index = self.tokens.remove(&name).and_then(|token| token.index);
            self.free_index(index);
        }
    }

    /// That no token for this name is open.
    pub(super) fn check_no_token(&self, name: &str, at_s: u64) -> Result<(), Rejected> {
        let Some(token) = self.tokens.get(name) else { return Ok(()) };
        let left_s = token.expires_at_s.saturating_sub(at_s);
        Err(Rejected::TokenOpen { node: name.to_owned(), left_s })
    }

    /// Gives the next address index: above all that were ever given, so that a free one is not
    /// taken up again before all others; then the lowest free one.
    pub(super) fn hold_index(&mut self, name: &str) -> Result<u32, Rejected> {
        let ipv4 = self.founded()?.ipv4;
        // Without the network's own and the broadcast address.
        let hosts = ipv4.map_or(u32::MAX, |net| (u32::MAX >> net.prefix_len()).saturating_sub(1));
        let last = hosts.min(INDEX_MAX);
        let next = self.counters.last_index + 1;
        let free = || (1..=last).zip(self.indexes.rows().keys().copied().chain([0]));
        let index = if next <= last {
            Some(next)
        } else {
            // The keys ascend: the first that is not its own place leaves that place free.
            free().find(|(place, held)| place != held).map(|(place, _)| place)
        };
        let Some(index) = index else {
            let prefix = ipv4.map_or_else(Default::default, Into::into);
            return Err(Rejected::AddressesFull { prefix });
        };
        self.counters.last_index = self.counters.last_index.max(index);
        self.indexes.insert(index, name.to_owned());
        Ok(index)
    }

    pub(super) fn free_index(&mut self, index: Option<u32>) {
        if let Some(index) = index {
            self.indexes.remove(&index);
        }
    }
}

/// That a table takes one more row.
pub(super) fn check_room(what: &'static str, len: usize, most: usize) -> Result<(), Rejected> {
    if len < most { Ok(()) } else { Err(Rejected::Full { what, most }) }
}
