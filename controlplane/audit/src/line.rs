//! The file's form: one line of JSON for each entry and each head.

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::Entry;
use crate::head::Head;

/// Most bytes of a line: an entry with the longest texts, every byte of them escaped (`\u0000`), is
/// the longest.
pub const LINE_MAX_BYTES: usize = 8 * 1024;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Something that happened.
    Entry(Entry),
    /// How far the log goes.
    Head(Head),
}

/// Why a line can not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// It is longer than any line that was written.
    #[error("expected a line of at most {LINE_MAX_BYTES} bytes, got a longer one")]
    Long,
    /// The file ends within it.
    #[error("expected a line that ends, got {got} bytes and the end of the file")]
    Torn {
        /// Bytes of it.
        got: usize,
    },
    /// It is no entry and no head.
    #[error("expected an entry or a head in JSON, got something else ({got})")]
    Malformed {
        /// What the parser met.
        got: String,
    },
}

impl Line {
    /// The line with its end, as it is written to the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Only maps whose keys are no text fail here, and there are none.
        let text = serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("a line without form: {error}"));
        debug_assert!(text.len() < LINE_MAX_BYTES, "texts are cut before");
        text + "\n"
    }
}

/// A line that was read, and where it stood.
pub(crate) struct Found {
    pub(crate) line: Result<Line, LineError>,
    /// Bytes up to and with it.
    pub(crate) end: u64,
}

/// Reads lines one by one, none longer than [`LINE_MAX_BYTES`].
pub(crate) struct Lines<R> {
    from: R,
    at: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, at: 0 }
    }

    /// The next line; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found>> {
        let mut bytes = Vec::new();
        let most = LINE_MAX_BYTES as u64;
        let got = self.from.by_ref().take(most).read_until(b'\n', &mut bytes)?;
        if got == 0 {
            return Ok(None);
        }
        self.at += got as u64;
        let line = match bytes.strip_suffix(b"\n") {
            Some(line) => serde_json::from_slice(line)
                .map_err(|error| LineError::Malformed { got: error.to_string() }),
            None if got == LINE_MAX_BYTES => Err(LineError::Long),
            None => Err(LineError::Torn { got }),
        };
        Ok(Some(Found { line, end: self.at }))
    }
}
