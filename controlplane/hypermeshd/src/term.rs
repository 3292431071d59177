//! Which of two ledgers counts: the sequencer signs what its ledger comes to, and in which term.
//!
//! A term begins when the sequencer is restored from a backup; its number is the time of that. Within a
//! term the ledger only grows, so whoever is offered less, or something else, has met a second sequencer or
//! one whose disk went back in time. A ledger of a later term takes the place of any of an earlier one:
//! only the issuer's keys of the sequencer, which are in its backup, can sign one.
//!
//! [`judge`] compares what is offered with what is here, [`Survey`] says whom a restored sequencer still has
//! to ask. No I/O: the core calls the one, the task that recovers the other.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stoq_identity::Label;
use stoq_mesh::{Body, ContentError, Signer};

/// Highest term (about 34,000 years of seconds), so that [`number`] cannot overflow.
const TERM_MAX: u64 = 1 << 40;

/// What a term is ahead of the one before in [`number`]: more changes than a sequencer makes in a second, and
/// small enough for figures of 53 bits.
const TERM_STEP: u64 = 1 << 20;

/// How long a restored sequencer goes on asking once a first member has answered: links to the others come
/// up within seconds of the first.
const AFTER_FIRST: Duration = Duration::from_secs(30);

/// How long it asks if nobody answers, from the moment on that its stoqd runs: a dial that found nobody backs
/// off for up to half a minute.
const WITHOUT_ANY: Duration = Duration::from_secs(120);

/// What the mesh's ledger comes to, as its sequencer signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// The mesh's identity.
    pub mesh: String,
    /// When the sequencer was last restored, Unix seconds; 0 if never.
    pub term: u64,
    /// The ledger's height.
    pub height: u64,
    /// Its hash there.
    pub state_hash: [u8; 32],
}

/// A head, and the signed bytes that say so.
pub type SignedHead = (LedgerHead, Vec<u8>);

impl Body for LedgerHead {
    const WHAT: &'static str = "ledger's head";
    const LABEL: Label = Label::LEDGER_HEAD;
    const SIGNER: Signer = Signer::Issuer;
    /// A name of at most 65 bytes, two numbers, a hash.
    const MAX_BYTES: usize = 160;

    fn mesh(&self) -> Option<&str> {
        Some(&self.mesh)
    }

    fn check(&self) -> Result<(), ContentError> {
        if self.term <= TERM_MAX {
            return Ok(());
        }
        let (what, expected) = (Self::WHAT, "a term of at most 2^40 seconds");
        Err(ContentError { what, expected, got: self.term.to_string() })
    }
}

/// The term that begins now, above the one before whatever the clock says.
#[must_use]
pub fn next(term: u64, now_s: u64) -> u64 {
    now_s.max(term.saturating_add(1)).min(TERM_MAX)
}

/// The number of the bundle made of a ledger: it rises with every height, and with every term even where the
/// height falls.
#[must_use]
pub const fn number(term: u64, height: u64) -> u64 {
    term.saturating_mul(TERM_STEP).saturating_add(height)
}

/// How far a ledger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its term.
    pub term: u64,
    /// Its height.
    pub height: u64,
    /// Its hash; none where a sequencer of an older release does not say.
    pub state_hash: Option<[u8; 32]>,
}

impl From<&LedgerHead> for Place {
    fn from(head: &LedgerHead) -> Self {
        Self { term: head.term, height: head.height, state_hash: Some(head.state_hash) }
    }
}

/// What an offered ledger is to the one that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The same one, as far or further: its entries follow.
    Same,
    /// Of a later term: it takes the place of this one.
    Later,
    /// Of an earlier term: its sequencer was superseded, and does not know.
    Earlier,
    /// Of the same term, and behind: the sequencer has lost what it told before.
    Behind,
    /// Of the same term and height, and another: there are two sequencers.
    Forked,
}

/// Compares what is offered with what is here.
#[must_use]
pub fn judge(own: &Place, offered: &Place) -> Offer {
    if offered.term != own.term {
        return if offered.term > own.term { Offer::Later } else { Offer::Earlier };
    }
    if offered.height != own.height {
        return if offered.height > own.height { Offer::Same } else { Offer::Behind };
    }
    match (own.state_hash, offered.state_hash) {
        (Some(own), Some(offered)) if own != offered => Offer::Forked,
        _ => Offer::Same,
    }
}

/// Whom a sequencer has asked after its start, since when.
#[derive(Debug, Default)]
pub struct Survey {
    began: Option<Duration>,
    first: Option<Duration>,
    answered: BTreeSet<String>,
}

impl Survey {
    /// Those who were not asked yet, out of the members that there are by now.
    #[must_use]
    pub fn waiting(&self, members: Vec<String>) -> Vec<String> {
        members.into_iter().filter(|member| !self.answered.contains(member)).collect()
    }

    /// Members can be reached from now on (since the start), as stoqd runs.
    pub fn begin(&mut self, now: Duration) {
        self.began.get_or_insert(now);
    }

    /// A member has answered.
    pub fn heard(&mut self, member: String, now: Duration) {
        self.first.get_or_insert(now);
        self.answered.insert(member);
    }

    /// Whether it is not worth waiting for those who are left.
    #[must_use]
    pub fn is_over(&self, left: usize, now: Duration) -> bool {
        let since = |from: Option<Duration>, limit| from.is_some_and(|from| now >= from + limit);
        left == 0 || since(self.first, AFTER_FIRST) || since(self.began, WITHOUT_ANY)
    }
}

#[cfg(test)]
mod tests;
