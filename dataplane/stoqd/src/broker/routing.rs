//! How a route is kept off the outer packets: pure planning, carried out by the server.
//!
//! Most routes go to the main table. One that covers the endpoint of a peer, such as a default
//! route, would also take the packets that carry the tunnel. It goes to a table of its own instead,
//! one for each prefix length, and two rules in front of the main table keep the order of longest
//! prefixes as if all were one table, except for packets with stoqd's mark:
//!
//! ```text
//!   priority          rule
//!   BASE + 2·(128-L)      lookup main, but only routes longer than L
//!   BASE + 2·(128-L)+1    unless marked: lookup table 9200 + L
//!   ...                   the same for shorter L
//!   32766                 lookup main
//! ```

use std::ops::Range;

use crate::config::Prefix;
use crate::netlink::{Rule, Table};

/// The table of prefixes of length 0; that of length L is L further. Far from those that
/// distributions and other tunnels number (253 to 255, 51820).
const TABLE_BASE: u32 = 9200;

/// The first priority: behind the local table (0), before the main one (32766).
const PRIORITY_BASE: u32 = 5200;

/// The priorities that our rules have.
pub(super) const PRIORITIES: Range<u32> = PRIORITY_BASE..PRIORITY_BASE + 2 * 129;

/// The table of a route that is kept beside the main one.
pub(super) fn table(prefix: Prefix) -> Table {
    Table(TABLE_BASE + u32::from(prefix.length()))
}

/// The two rules for routes of this family and length.
pub(super) fn rules(prefix: Prefix, mark: u32) -> [Rule; 2] {
    let v6 = prefix.address().is_ipv6();
    let length = prefix.length();
    let priority = PRIORITY_BASE + 2 * (128 - u32::from(length));
    [
        Rule { v6, priority, table: Table::MAIN, unless_mark: None, longer_than: Some(length) },
        Rule {
            v6,
            priority: priority + 1,
            table: table(prefix),
            unless_mark: Some(mark),
            longer_than: None,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_prefixes_are_asked_first_and_all_before_the_main_table() {
        let rules_of = |text: &str| rules(text.parse().unwrap(), 7);
        let order: Vec<u32> = ["::/128", "10.0.0.0/8", "0.0.0.0/0"]
            .iter()
            .flat_map(|text| rules_of(text).map(|rule| rule.priority))
            .collect();
        assert!(order.is_sorted());
        assert!(order.iter().all(|priority| PRIORITIES.contains(priority)));
        const { assert!(PRIORITIES.end < 32_766) };
    }
}
