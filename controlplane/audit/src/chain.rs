//! The end of the log, where entries are appended; and how it is found again after a crash.

use std::io::{self, BufRead};

use stoq_identity::{KeyError, PrivateKeys};
use thiserror::Error;

use crate::entry::{Entry, Event};
use crate::head::Head;
use crate::line::{Line, LineError, Lines};

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    number: u64,
    last: [u8; 32],
    signed: u64,
}

/// A log's end as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The end of what is whole.
    pub chain: Chain,
    /// Bytes up to there.
    pub bytes: u64,
    /// A last line that was not written to its end, if there is one.
    pub torn: Option<Torn>,
}

/// A last line that a crash has torn.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "line {line}, the last one, was not written to its end ({error}). {}", if *.may_be_cut { "Nobody was told of it: cut the file to the bytes before it" } else { "A signed head covers it, so it was whole once: restore the file from a backup" }
)]
pub struct Torn {
    /// Its place in the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub error: LineError,
    /// Whether it may be cut off: no head that anybody has covers it.
    pub may_be_cut: bool,
}

/// Why the end of a log can not be found.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The file can not be read.
    #[error("expected to read the audit log, got: {0}")]
    Io(#[from] io::Error),
    /// A line that is not the last is damaged: no crash does that.
    #[error(
        "line {line} of the audit log is damaged ({error}), and more follow: run `stoqctl audit verify`, and restore the file from a backup"
    )]
    Damaged {
        /// Its place in the file, from 1.
        line: u64,
        /// What is wrong with it.
        error: LineError,
    },
    /// The chain is broken.
    #[error(
        "line {line} of the audit log does not follow from the one before: run `stoqctl audit verify`, and restore the file from a backup"
    )]
    Broken {
        /// Its place in the file, from 1.
        line: u64,
    },
}

impl Chain {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of the last entry; 0 when there is none.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The hash of the last entry.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.last
    }

    /// How many entries no head in the file covers yet.
    #[must_use]
    pub fn unsigned(&self) -> u64 {
        self.number - self.signed
    }

    /// Appends an event. The caller writes the line down ([`Line::to_text`]); if that fails, it goes
    /// on with the chain that it had before.
    #[must_use]
    pub fn append(&mut self, event: Event) -> Entry {
        let entry = Entry::new(self.number + 1, self.last, event);
        (self.number, self.last) = (entry.number, entry.hash);
        entry
    }

    /// Signs the end. The caller writes the head down and gives it to others, who keep it.
    ///
    /// # Errors
    /// When the keys fail.
    pub fn head(&mut self, at_s: u64, keys: &PrivateKeys) -> Result<Head, KeyError> {
        let head = Head::sign((self.number, self.last), at_s, keys)?;
        self.signed = self.number;
        Ok(head)
    }

    /// Finds the end of the log in a file, after a crash as well: checks the chain of hashes, but
    /// no signatures ([`crate::verify`] does). `known` are numbers of heads that others keep.
    ///
    /// # Errors
    /// When it can not be read, or more is wrong with it than a last line that was torn.
    pub fn recover(from: impl BufRead, known: &[u64]) -> Result<Recovered, RecoverError> {
        let (mut chain, mut bytes, mut lines) = (Self::new(), 0, Lines::new(from));
        for line in 1.. {
            let Some(found) = lines.next()? else { break };
            match found.line {
                Ok(whole) => {
                    chain.follow(&whole).ok_or(RecoverError::Broken { line })?;
                    bytes = found.end;
                }
                Err(error) if lines.next()?.is_some() => {
                    return Err(RecoverError::Damaged { line, error });
                }
                Err(error) => {
                    let may_be_cut = known.iter().all(|number| *number <= chain.number);
                    let torn = Some(Torn { line, error, may_be_cut });
                    return Ok(Recovered { chain, bytes, torn });
                }
            }
        }
        Ok(Recovered { chain, bytes, torn: None })
    }

    fn follow(&mut self, line: &Line) -> Option<()> {
        match line {
            Line::Entry(entry) => {
                let follows = entry.number == self.number + 1
                    && entry.previous == self.last
                    && entry.hash == entry.computed();
                (self.number, self.last) = (entry.number, entry.hash);
                follows.then_some(())
            }
            Line::Head(head) => {
                self.signed = head.number;
                (head.number == self.number && head.hash == self.last).then_some(())
            }
        }
    }
}
