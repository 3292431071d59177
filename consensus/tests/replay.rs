//! Replay: whatever was done comes to the same state again, from any snapshot, and damage is found
//! at the height at which it is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod script;

use std::collections::HashSet;

use hypermesh_consensus::{Damage, Entry, Ledger, replay};
use ipnet::IpNet;
use proptest::prelude::*;
use script::Script;

/// Commands that are tried in one case.
const STEPS: usize = 300;

/// A ledger with everything that led to it: the entries, and the snapshot of every height.
struct Run {
    ledger: Ledger,
    entries: Vec<Entry>,
    snapshots: Vec<Vec<u8>>,
}

fn run(seed: u64) -> Run {
    let mut script = Script::new(seed);
    let mut ledger = Ledger::default();
    let (mut entries, mut snapshots) = (Vec::new(), vec![ledger.snapshot()]);
    for _ in 0..STEPS {
        let command = script.next(&ledger);
        let before = (ledger.height(), ledger.hash());
        let result = ledger.apply(&command);
        if ledger.height() == before.0 {
            // Refused, or a change of nothing.
            assert_eq!(ledger.hash(), before.1, "{command:?}: {result:?}");
            assert_eq!(ledger.snapshot(), *snapshots.last().unwrap(), "{command:?}: {result:?}");
            continue;
        }
        assert!(result.is_ok());
        assert_ne!(ledger.hash(), before.1);
        let (height, state_hash) = (ledger.height(), ledger.hash());
        entries.push(Entry { height, command: command.encode().unwrap(), state_hash });
        snapshots.push(ledger.snapshot());
    }
    Run { ledger, entries, snapshots }
}

/// What holds in every state, looked up the slow way.
fn check_invariants(ledger: &Ledger) {
    let routes: Vec<IpNet> =
        ledger.members().flat_map(|(_, member)| member.routes.iter().copied()).collect();
    for (n, one) in routes.iter().enumerate() {
        for other in &routes[n + 1..] {
            assert!(!one.contains(other) && !other.contains(one), "{one} and {other}");
        }
        assert!(one.prefix_len() >= 8);
    }
    let tokens = ledger.tokens().filter_map(|(_, token)| token.index);
    let indexes: Vec<u32> =
        ledger.members().map(|(_, member)| member.index).chain(tokens).collect();
    assert_eq!(indexes.iter().collect::<HashSet<_>>().len(), indexes.len(), "an index twice");
    assert!(!indexes.contains(&0));
    let members = ledger.members().map(|(name, member)| (name, member.keys));
    let operators = ledger.operators().map(|(name, operator)| (name, operator.keys));
    for (name, keys) in members.chain(operators) {
        assert_eq!(ledger.holder(&keys), Some(name));
        assert!(ledger.revocation(&keys).is_none(), "{name} has revoked keys");
        assert!(!ledger.is_retired(name), "{name} was revoked");
    }
}

proptest! {
    #[test]
    fn the_same_commands_come_to_the_same_state(seed in any::<u64>(), at in any::<prop::sample::Index>()) {
        let run = run(seed);
        prop_assert!(run.entries.len() > 10, "the script does something");
        check_invariants(&run.ledger);
        let afresh = replay(None, run.entries.clone()).unwrap();
        prop_assert_eq!(afresh.hash(), run.ledger.hash());
        prop_assert_eq!(afresh.snapshot(), run.ledger.snapshot());
        let height = at.index(run.snapshots.len());
        let snapshot = Some(run.snapshots[height].as_slice());
        let onwards = replay(snapshot, run.entries[height..].to_vec()).unwrap();
        prop_assert_eq!(onwards.hash(), run.ledger.hash());
        let untrimmed = replay(snapshot, run.entries.clone()).unwrap();
        prop_assert_eq!(untrimmed.snapshot(), run.ledger.snapshot());
    }

    #[test]
    fn damage_is_found_at_its_height(
        seed in any::<u64>(), at in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>(),
    ) {
        let run = run(seed);
        let at = at.index(run.entries.len());
        let height = run.entries[at].height;
        let found = |entries: Vec<Entry>| replay(None, entries).map(|ledger| ledger.height());

        let mut flipped = run.entries.clone();
        let bit = bit.index(8 * flipped[at].command.len());
        flipped[at].command[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(found(flipped).unwrap_err().height, height);

        let mut other = run.entries.clone();
        other[at].state_hash[31] ^= 1;
        let damaged = found(other).unwrap_err();
        prop_assert_eq!(damaged.height, height);
        let is_hash = matches!(damaged.damage, Damage::Hash { .. });
        prop_assert!(is_hash, "{}", damaged);

        let mut missing = run.entries.clone();
        missing.remove(at);
        if at < missing.len() {
            let damaged = found(missing).unwrap_err();
            prop_assert_eq!(damaged.height, height);
            prop_assert_eq!(damaged.damage, Damage::Missing { got: height + 1 });
        }
    }

    #[test]
    fn no_bytes_are_taken_for_a_command_or_snapshot_that_they_are_not(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(command) = hypermesh_consensus::Command::decode(&bytes) {
            prop_assert_eq!(command.encode().unwrap(), bytes.clone());
            let _ = Ledger::default().apply(&command);
        }
        prop_assert!(Ledger::restore(&bytes).is_err());
    }
}
