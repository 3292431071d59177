//! The seam through which shared state changes, and the first thing behind it: one node's order.
//!
//! The control plane submits commands to a [`Sequencer`] and reads its ledger; it does not know who
//! orders them. [`Single`] orders them as they come. It changes the ledger, has the command written
//! with the hash that the state then has, and only then says that it was done: what was
//! acknowledged is in the journal, and what the journal refused has not happened.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::command::{Command, CommandError};
use crate::effect::Effect;
use crate::ledger::Ledger;
use crate::rejected::Rejected;
use crate::replay::{Damaged, replay};

/// One command as it stands in the journal and travels to followers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place, from 1 without gaps.
    pub height: u64,
    /// Its canonical encoding.
    #[serde(with = "serde_bytes")]
    pub command: Vec<u8>,
    /// The hash of the state behind it.
    pub state_hash: [u8; 32],
}

/// That a command was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The height of the ledger behind it.
    pub height: u64,
    /// What it did.
    pub effect: Effect,
}

/// Why a command was not carried out.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// The rules do not allow it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It can not be encoded.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It could not be written; the ledger is as it was before.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why the journal did not take an entry, in the words of whoever keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected the journal to take height {height}, got: {reason}; nothing was changed")]
pub struct JournalError {
    /// The entry's height.
    pub height: u64,
    /// What happened, and what to do.
    pub reason: String,
}

/// Orders commands and carries them out.
pub trait Sequencer {
    /// Carries out `command`; when it returns a receipt, the command survives any crash.
    ///
    /// # Errors
    /// When the command is against the rules or could not be written: then nothing has changed.
    fn submit(&mut self, command: Command) -> Result<Receipt, SubmitError>;

    /// What is agreed on now.
    fn ledger(&self) -> &Ledger;
}

/// Where commands are written. The caller of [`Single`] gives it.
pub trait Journal {
    /// Writes an entry and returns when it survives a crash. An entry of the same height that a
    /// failed call has left behind is replaced: nobody was told of it.
    ///
    /// # Errors
    /// When it may not be durable.
    fn append(
        &mut self,
        height: u64,
        command: &[u8],
        state_hash: &[u8; 32],
    ) -> Result<(), JournalError>;
}

/// The sequencer of a mesh in which one node decides the order.
#[derive(Debug)]
pub struct Single<J> {
    ledger: Ledger,
    journal: J,
}

impl<J: Journal> Single<J> {
    /// Goes on from `ledger`, which is what `journal` comes to.
    pub fn new(ledger: Ledger, journal: J) -> Self {
        Self { ledger, journal }
    }

    /// Goes on after a restart: from a snapshot (none: from the beginning) and the entries above
    /// it, each of which has to come to the hash that is written with it.
    ///
    /// # Errors
    /// Which height is damaged, and how.
    pub fn recover(
        snapshot: Option<&[u8]>,
        entries: impl IntoIterator<Item = Entry>,
        journal: J,
    ) -> Result<Self, Damaged> {
        Ok(Self::new(replay(snapshot, entries)?, journal))
    }

    /// The journal.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// The journal, to trim what a snapshot covers.
    pub fn journal_mut(&mut self) -> &mut J {
        &mut self.journal
    }
}

impl<J: Journal> Sequencer for Single<J> {
    fn submit(&mut self, command: Command) -> Result<Receipt, SubmitError> {
        let bytes = command.encode()?;
        let before = self.ledger.height();
        let effect = self.ledger.stage(&command, &bytes)?;
        let (height, hash) = (self.ledger.height(), self.ledger.hash());
        if height != before
            && let Err(error) = self.journal.append(height, &bytes, &hash)
        {
            self.ledger.roll_back();
            return Err(error.into());
        }
        self.ledger.commit();
        Ok(Receipt { height, effect })
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
