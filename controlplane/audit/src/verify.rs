//! Verification of a whole log from outside: what was done to it, if anything.

use std::io::{self, BufRead};

use stoq_identity::{Policy, PublicKeys};
use thiserror::Error;

use crate::entry::Entry;
use crate::head::{Head, HeadError};
use crate::line::{Line, LineError, Lines};

/// What the verifier knows beside the file.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The keys that sign the log's heads, and those that did before them.
    pub keys: &'a [PublicKeys],
    /// Which signatures are needed.
    pub policy: Policy,
    /// Heads that others kept. Without one, a tail that was cut off together with its heads is not
    /// found.
    pub known: &'a [Head],
    /// How many entries may stand behind the last head of the file. Whoever signs a head with each
    /// entry says 0, or 1 after a crash.
    pub unsigned_max: u64,
}

/// A log in which nothing is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many entries it has.
    pub entries: u64,
    /// How many heads in the file cover them.
    pub heads: u64,
    /// How many entries stand behind the last head: nothing but the chain protects them.
    pub unsigned: u64,
    /// How many heads that others kept were found to fit.
    pub known: u64,
}

/// Why a log was not verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// It can not be read.
    #[error("expected to read the audit log, got: {0}")]
    Io(#[from] io::Error),
    /// Something was done to it.
    #[error("line {line}: {finding}")]
    Finding {
        /// The line at which it shows, from 1; one behind the last for what is missing there.
        line: u64,
        /// What.
        finding: Finding,
    },
}

/// What was done to a log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Finding {
    /// A line can not be read.
    #[error("{0}; a crash tears the last line only, then the daemon cuts it off when it starts")]
    Line(#[from] LineError),
    /// Entries are missing, or there are more than there were.
    #[error("expected entry {expected}, got {got}: entries were removed, inserted or moved")]
    Number {
        /// The number that comes next.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// Its content is not what was written.
    #[error("entry {number} does not come to its own hash: it was edited")]
    Edited {
        /// The entry.
        number: u64,
    },
    /// The entry before it is not the one that it was written behind.
    #[error("entry {number} was not written behind the one before: one of them was replaced")]
    Previous {
        /// The entry.
        number: u64,
    },
    /// A head is not where it was written.
    #[error(
        "expected a head of entry {expected}, got one of {got}: entries or heads were removed or moved"
    )]
    HeadNumber {
        /// The last entry.
        expected: u64,
        /// The entry that the head is of.
        got: u64,
    },
    /// The chain is whole, and is not the one that was signed.
    #[error(
        "entry {number} is not the one that was signed: the chain was edited and computed again"
    )]
    Recomputed {
        /// The entry that the head covers.
        number: u64,
    },
    /// The log's keys did not sign the head.
    #[error("the head of entry {number} does not count: {error}")]
    Head {
        /// The entry.
        number: u64,
        /// Why not.
        error: HeadError,
    },
    /// The end is missing.
    #[error(
        "expected entry {known}, of which a signed head was kept elsewhere, got the end of the log after {entries}: its tail was cut off"
    )]
    Cut {
        /// How many entries are left.
        entries: u64,
        /// The last entry of the head that was kept.
        known: u64,
    },
    /// Too many entries stand behind the last head.
    #[error(
        "expected at most {most} entries behind the last signed head, got {got}: heads were removed, or the log was not signed"
    )]
    Unsigned {
        /// How many there are.
        got: u64,
        /// How many there may be.
        most: u64,
    },
}

/// Verifies a log: the chain of its entries, the signatures of its heads, and that it fits the
/// heads that others kept.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn verify(from: impl BufRead, options: &Options<'_>) -> Result<Report, VerifyError> {
    let mut walk = Walk { options, report: Report::default(), last: [0; 32] };
    let mut lines = Lines::new(from);
    let mut line = 1;
    while let Some(found) = lines.next()? {
        let checked = found.line.map_err(Finding::from).and_then(|found| walk.line(&found));
        checked.map_err(|finding| VerifyError::Finding { line, finding })?;
        line += 1;
    }
    walk.end().map_err(|finding| VerifyError::Finding { line, finding })
}

struct Walk<'a> {
    options: &'a Options<'a>,
    report: Report,
    last: [u8; 32],
}

impl Walk<'_> {
    fn line(&mut self, line: &Line) -> Result<(), Finding> {
        match line {
            Line::Entry(entry) => self.entry(entry),
            Line::Head(head) => self.head(head),
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Finding> {
        let Entry { number, .. } = *entry;
        let expected = self.report.entries + 1;
        if number != expected {
            return Err(Finding::Number { expected, got: number });
        }
        if entry.hash != entry.computed() {
            return Err(Finding::Edited { number });
        }
        if entry.previous != self.last {
            return Err(Finding::Previous { number });
        }
        self.last = entry.hash;
        self.report.entries = number;
        self.report.unsigned += 1;
        for known in self.options.known.iter().filter(|known| known.number == number) {
            self.check(known)?;
            self.report.known += 1;
        }
        Ok(())
    }

    fn head(&mut self, head: &Head) -> Result<(), Finding> {
        let expected = self.report.entries;
        if head.number != expected {
            return Err(Finding::HeadNumber { expected, got: head.number });
        }
        self.check(head)?;
        self.report.heads += 1;
        self.report.unsigned = 0;
        Ok(())
    }

    /// That a head of the last entry counts and fits it.
    fn check(&self, head: &Head) -> Result<(), Finding> {
        let Options { keys, policy, .. } = *self.options;
        let number = head.number;
        head.verify(keys, policy).map_err(|error| Finding::Head { number, error })?;
        if head.hash == self.last { Ok(()) } else { Err(Finding::Recomputed { number }) }
    }

    fn end(self) -> Result<Report, Finding> {
        let Options { keys, policy, known, unsigned_max } = *self.options;
        let entries = self.report.entries;
        if let Some(head) = known.iter().find(|head| head.number > entries) {
            let number = head.number;
            head.verify(keys, policy).map_err(|error| Finding::Head { number, error })?;
            return Err(Finding::Cut { entries, known: number });
        }
        if self.report.unsigned > unsigned_max {
            return Err(Finding::Unsigned { got: self.report.unsigned, most: unsigned_max });
        }
        Ok(self.report)
    }
}
