//! From what is stored back to a ledger, or to the exact place where the stored part is damaged.

use thiserror::Error;

use crate::command::{Command, CommandError};
use crate::ledger::{Ledger, SnapshotError};
use crate::rejected::Rejected;
use crate::sequencer::Entry;

/// The first entry, or the snapshot, from which no ledger can be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "height {height} of the journal is damaged: {damage}. Everything up to height {} is good: restore the newest backup, or take the ledger from another member", .height.saturating_sub(1)
)]
pub struct Damaged {
    /// Its height; 0 for the snapshot.
    pub height: u64,
    /// What is wrong with it.
    pub damage: Damage,
}

/// What can be wrong with a stored entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// The snapshot can not be restored.
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
    /// The entry that should be here is missing.
    #[error("expected the entry of this height, got that of height {got}")]
    Missing {
        /// The height that came.
        got: u64,
    },
    /// The bytes are no command.
    #[error("{0}")]
    Command(#[from] CommandError),
    /// The state below does not allow the command: it was never accepted there.
    #[error("the command could not have been accepted here ({0})")]
    Rejected(#[from] Rejected),
    /// It changes nothing, so it was never written.
    #[error("expected a command that changes something, got one that changes nothing")]
    Idle,
    /// The state behind it is another.
    #[error("expected the state {}, got {}", hex(.expected), hex(.got))]
    Hash {
        /// As written with the entry.
        expected: [u8; 32],
        /// As computed.
        got: [u8; 32],
    },
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>() + "…"
}

/// The ledger that a snapshot (none: the empty ledger) and the entries above it come to. Entries
/// at or below the snapshot's height are passed over: trimming a journal may have been interrupted.
///
/// # Errors
/// The first entry that is missing, damaged, or does not come to its hash.
pub fn replay(
    snapshot: Option<&[u8]>,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<Ledger, Damaged> {
    let restored = snapshot.map(Ledger::restore).transpose();
    let mut ledger =
        restored.map_err(|error| Damaged { height: 0, damage: error.into() })?.unwrap_or_default();
    let covered = ledger.height();
    for entry in entries.into_iter().filter(|entry| entry.height > covered) {
        let height = ledger.height() + 1;
        stage_entry(&mut ledger, &entry).map_err(|damage| Damaged { height, damage })?;
        ledger.commit();
    }
    Ok(ledger)
}

/// Carries out the entry that comes next and compares the hash. Unless it succeeds, the ledger is
/// as it was before; when it does, the caller commits or rolls back.
pub(crate) fn stage_entry(ledger: &mut Ledger, entry: &Entry) -> Result<crate::Effect, Damage> {
    if entry.height != ledger.height() + 1 {
        return Err(Damage::Missing { got: entry.height });
    }
    let command = Command::decode(&entry.command)?;
    let effect = ledger.stage(&command, &entry.command)?;
    let got = ledger.hash();
    if ledger.height() == entry.height && got == entry.state_hash {
        return Ok(effect);
    }
    let idle = ledger.height() != entry.height;
    ledger.roll_back();
    let expected = entry.state_hash;
    Err(if idle { Damage::Idle } else { Damage::Hash { expected, got } })
}
