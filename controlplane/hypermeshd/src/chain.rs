//! The ledger of this daemon and its journal in the store: as the mesh's sequencer, or as one that
//! follows it.

use std::sync::Arc;

use hypermesh_consensus::{
    Command, Damaged, Effect, Entry, FollowError, Follower, Journal, JournalError, Ledger, Receipt,
    Sequencer as _, Single, SubmitError, replay,
};
use serde::{Deserialize, Serialize};

use crate::store::{Change, SNAPSHOT, Store, StoreError};

/// A snapshot is written when this many entries came since the last one: a restart replays fewer
/// than twice as many, at some 10 µs each.
const SNAPSHOT_EVERY: u64 = 1024;

/// Why the ledger of the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry does not come to its hash.
    #[error(
        "{damaged}. The ledger is lost from there on: restore a backup (`stoqctl restore FILE`), or \
         on a follower move the state directory away and join again with a new token"
    )]
    Damaged {
        /// Where, and what.
        damaged: Damaged,
    },
    /// An entry is none.
    #[error(
        "expected the journal's entry of height {height}, got bytes that are none; restore a backup (`stoqctl restore FILE`)"
    )]
    Entry {
        /// Its height.
        height: u64,
    },
}

/// What of an entry is stored; its height is the key.
#[derive(Serialize, Deserialize)]
struct Stored {
    command: Vec<u8>,
    state_hash: [u8; 32],
}

/// The journal in the store. What is staged goes into the transaction of the next entry.
#[derive(Debug)]
pub struct StoreJournal {
    store: Arc<Store>,
    staged: Change,
}

impl Journal for StoreJournal {
    fn append(
        &mut self,
        height: u64,
        command: &[u8],
        state_hash: &[u8; 32],
    ) -> Result<(), JournalError> {
        let failed = |reason: String| JournalError { height, reason };
        let stored = Stored { command: command.to_vec(), state_hash: *state_hash };
        let entry = postcard::to_stdvec(&stored).map_err(|e| failed(e.to_string()))?;
        let mut change = std::mem::take(&mut self.staged);
        change.entry = Some((height, entry));
        self.store.write(&change).map_err(|e| failed(e.to_string()))
    }
}

/// The ledger, by the part that this daemon has in the order of changes.
#[derive(Debug)]
pub enum Chain {
    /// It decides the order.
    Sequencer(Single<StoreJournal>),
    /// It takes what the sequencer decided.
    Follower(Follower<StoreJournal>),
}

impl Chain {
    /// Reads the journal and goes on from what it comes to.
    ///
    /// # Errors
    /// [`ChainError`], saying what is lost.
    pub fn open(store: &Arc<Store>, sequencer: bool) -> Result<Self, ChainError> {
        let ledger = recover(store)?;
        let journal = StoreJournal { store: Arc::clone(store), staged: Change::default() };
        Ok(if sequencer {
            Self::Sequencer(Single::new(ledger, journal))
        } else {
            Self::Follower(Follower::new(ledger, journal))
        })
    }

    /// What is agreed on, as far as this daemon knows.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        match self {
            Self::Sequencer(single) => single.ledger(),
            Self::Follower(follower) => follower.ledger(),
        }
    }

    /// Carries out a command, and `with` in the same transaction. None if this daemon does not
    /// decide.
    ///
    /// # Errors
    /// When the command is against the rules or cannot be written: then nothing has changed, `with`
    /// neither.
    pub fn submit(
        &mut self,
        command: Command,
        with: Change,
    ) -> Option<Result<Receipt, SubmitError>> {
        let Self::Sequencer(single) = self else { return None };
        single.journal_mut().staged = with;
        let receipt = single.submit(command);
        // A command that changes nothing (an enrolment said again) takes no transaction.
        single.journal_mut().staged = Change::default();
        self.snapshot_if_due();
        Some(receipt)
    }

    /// Takes an entry of the sequencer, and `with` in the same transaction; `None` if it was known. A
    /// sequencer takes none.
    ///
    /// # Errors
    /// [`FollowError`]; nothing has changed then.
    pub fn take(&mut self, entry: &Entry, with: Change) -> Result<Option<Effect>, FollowError> {
        let Self::Follower(follower) = self else { return Ok(None) };
        follower.journal_mut().staged = with;
        let effect = follower.take(entry);
        follower.journal_mut().staged = Change::default();
        self.snapshot_if_due();
        effect
    }

    /// Writes a snapshot now and then, and forgets the entries before the last one but one: a
    /// failure costs nothing but room.
    fn snapshot_if_due(&mut self) {
        let height = self.ledger().height();
        if height == 0 || !height.is_multiple_of(SNAPSHOT_EVERY) {
            return;
        }
        let change = Change {
            values: vec![(SNAPSHOT, self.ledger().snapshot())],
            trim: height.checked_sub(SNAPSHOT_EVERY),
            ..Change::default()
        };
        let journal = match self {
            Self::Sequencer(single) => single.journal(),
            Self::Follower(follower) => follower.journal(),
        };
        if let Err(error) = journal.store.write(&change) {
            tracing::warn!(%error, "cannot write a snapshot of the ledger");
        }
    }
}

/// Entries above a height, as followers take them; empty if they were trimmed or there are none.
///
/// # Errors
/// When the store cannot be read.
pub fn entries(store: &Store, above: u64) -> Result<Vec<Entry>, ChainError> {
    store.entries(above)?.into_iter().map(decode).collect()
}

fn decode((height, bytes): (u64, Vec<u8>)) -> Result<Entry, ChainError> {
    let stored =
        postcard::from_bytes::<Stored>(&bytes).map_err(|_| ChainError::Entry { height })?;
    Ok(Entry { height, command: stored.command, state_hash: stored.state_hash })
}

fn recover(store: &Store) -> Result<Ledger, ChainError> {
    let snapshot = store.value(SNAPSHOT)?;
    let damaged = |damaged| ChainError::Damaged { damaged };
    let mut ledger = replay(snapshot.as_deref(), []).map_err(damaged)?;
    loop {
        let batch = entries(store, ledger.height())?;
        if batch.is_empty() {
            return Ok(ledger);
        }
        ledger = replay(Some(&ledger.snapshot()), batch).map_err(damaged)?;
    }
}
