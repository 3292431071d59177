//! A ledger that keeps up with the sequencer of another node.

use thiserror::Error;

use crate::effect::Effect;
use crate::ledger::Ledger;
use crate::replay::{Damage, stage_entry};
use crate::sequencer::{Entry, Journal, JournalError};

/// Why a follower does not take an entry. Its ledger is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FollowError {
    /// Entries in between are missing.
    #[error("expected the entry of height {expected}, got {got}: ask for those from {expected} on")]
    Gap {
        /// The height that comes next.
        expected: u64,
        /// The height that came.
        got: u64,
    },
    /// The two ledgers are not the same.
    #[error(
        "height {height} does not follow from what this node has: {damage}. The two ledgers have parted: take a snapshot from the sequencer, and find out which of them was changed"
    )]
    Parted {
        /// The height that came.
        height: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// It could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Applies the entries that a sequencer has written, and compares each hash.
#[derive(Debug)]
pub struct Follower<J> {
    ledger: Ledger,
    journal: J,
}

impl<J: Journal> Follower<J> {
    /// Goes on from `ledger`, which is what `journal` comes to (see [`crate::replay`]).
    pub fn new(ledger: Ledger, journal: J) -> Self {
        Self { ledger, journal }
    }

    /// What is agreed on, as far as this node knows.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The journal.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// The journal, to trim what a snapshot covers.
    pub fn journal_mut(&mut self) -> &mut J {
        &mut self.journal
    }

    /// Takes the entry that comes next; one that it has already is passed over (`None`). When it
    /// returns, the entry survives a crash.
    ///
    /// # Errors
    /// When entries are missing, the state would be another than the sequencer's, or the journal
    /// fails: then nothing has changed.
    pub fn take(&mut self, entry: &Entry) -> Result<Option<Effect>, FollowError> {
        let expected = self.ledger.height() + 1;
        if entry.height < expected {
            return Ok(None);
        }
        if entry.height > expected {
            return Err(FollowError::Gap { expected, got: entry.height });
        }
        let effect = stage_entry(&mut self.ledger, entry)
            .map_err(|damage| FollowError::Parted { height: expected, damage })?;
        if let Err(error) = self.journal.append(entry.height, &entry.command, &entry.state_hash) {
            self.ledger.roll_back();
            return Err(error.into());
        }
        self.ledger.commit();
        Ok(Some(effect))
    }
}
