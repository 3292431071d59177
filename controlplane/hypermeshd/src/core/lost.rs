//! What a restored ledger has not that the one before it had, by name, for the operator. Called when a
//! ledger of a later term takes the place of the one that was here.

use std::collections::BTreeSet;

use hypermesh_consensus::Ledger;

/// Most names in one entry of the audit log (some 3 KB); the rest is counted.
const NAMED_MAX: usize = 64;

/// What differs, as a sentence; none if the new ledger only goes on.
pub fn described(old: &Ledger, new: &Ledger) -> Option<String> {
    let (old, new) = (facts(old), facts(new));
    let part = |what: &str, left: &BTreeSet<String>, right: &BTreeSet<String>| {
        let mut all: Vec<&str> = left.difference(right).map(String::as_str).collect();
        let more = all.len().saturating_sub(NAMED_MAX);
        all.truncate(NAMED_MAX);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!all.is_empty()).then(|| format!("{what}: {}{rest}", all.join(", ")))
    };
    let gone = part("not there any more", &old, &new);
    let other = part("there now", &new, &old);
    gone.map(|gone| [Some(gone), other].into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Everything that an operator once asked for.
fn facts(ledger: &Ledger) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for (node, member) in ledger.members() {
        facts.insert(format!("member {node}"));
        facts.extend(member.routes.iter().map(|route| format!("route {route} of {node}")));
        facts.extend(member.endpoints.iter().map(|at| format!("endpoint {at} of {node}")));
    }
    facts.extend(ledger.issuers().map(|(node, _)| format!("issuer {node}")));
    facts.extend(ledger.operators().map(|(name, operator)| format!("{:?} {name}", operator.role)));
    facts.extend(ledger.tokens().map(|(name, _)| format!("token for {name}")));
    facts.extend(ledger.revocations().map(|r| format!("revocation of {}", r.revocation.node)));
    facts
}
