//! Policy rules: which table decides for which packets. Called by the broker alone.

use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Ask, Netlink, NetlinkError, PROTOCOL, Table, gone_is_fine, libc_error};

/// One rule for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// IPv6; otherwise IPv4.
    pub v6: bool,
    /// Lower ones are asked first; the main table's is 32766.
    pub priority: u32,
    /// The table that decides.
    pub table: Table,
    /// Only packets without this mark.
    pub unless_mark: Option<u32>,
    /// Routes with a prefix of at most this length do not count.
    pub longer_than: Option<u8>,
}

impl Netlink {
    /// Adds a rule; the same one being there already is fine.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn add_rule(&mut self, rule: Rule) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRule(message(rule));
        match self.request(Ask::Create, message, || format!("add the rule {rule:?}")) {
            Err(error) if !error.is(libc_error::EEXIST) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a rule; one that is gone already is fine.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn remove_rule(&mut self, rule: Rule) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRule(message(rule));
        gone_is_fine(self.request(Ask::Change, message, || format!("remove the rule {rule:?}")))
    }

    /// Removes all rules with our protocol number and this mark or suppressed table, which an
    /// earlier run that was killed left behind.
    ///
    /// # Errors
    /// When the kernel does not list or remove them.
    pub fn remove_stale_rules(
        &mut self,
        priorities: std::ops::Range<u32>,
    ) -> Result<usize, NetlinkError> {
        let mut removed = 0;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut all = RuleMessage::default();
            all.header.family = family;
            let task = || "list its rules".to_owned();
            for answer in self.request(Ask::Dump, RouteNetlinkMessage::GetRule(all), task)? {
                let RouteNetlinkMessage::NewRule(rule) = answer else { continue };
                if !is_ours(&rule, &priorities) {
                    continue;
                }
                let task = || "remove a rule of an earlier run".to_owned();
                gone_is_fine(self.request(Ask::Change, RouteNetlinkMessage::DelRule(rule), task))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn is_ours(rule: &RuleMessage, priorities: &std::ops::Range<u32>) -> bool {
    let ours = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
    let ranked = |attribute: &RuleAttribute| match attribute {
        RuleAttribute::Priority(priority) => priorities.contains(priority),
        _ => false,
    };
    rule.attributes.contains(&ours) && rule.attributes.iter().any(ranked)
}

fn message(rule: Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table.0));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    if let Some(mark) = rule.unless_mark {
        message.header.flags = RuleFlags::Invert;
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.push(RuleAttribute::FwMask(u32::MAX));
    }
    if let Some(length) = rule.longer_than {
        attributes.push(RuleAttribute::SuppressPrefixLen(u32::from(length)));
    }
    message
}
