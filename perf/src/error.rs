//! What can go wrong in the test bed; used by every module of this crate.

use std::io;
use std::time::Duration;

/// The result of a step in the test bed.
pub type Result<T> = std::result::Result<T, Error>;

/// A step of the test bed that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces need root.
    #[error(
        "the test bed makes network namespaces and needs root, but runs as uid {uid}: run it with sudo"
    )]
    NotRoot {
        /// The effective user of this process.
        uid: u32,
    },
    /// A program is not there.
    #[error("`{program}` was not found: {advice}")]
    Missing {
        /// What was looked for.
        program: String,
        /// How to get it.
        advice: String,
    },
    /// A command ended with an error.
    #[error("`{command}` should have succeeded, but ended with {status}: {output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status or the signal that ended it.
        status: String,
        /// What it printed, mostly its standard error.
        output: String,
    },
    /// The operating system refused a step.
    #[error("{what}: {source}")]
    Io {
        /// The step.
        what: String,
        /// Why it was refused.
        source: io::Error,
    },
    /// What was waited for did not happen.
    #[error("{what} did not happen within {} ms; last seen: {last}", waited.as_millis())]
    Timeout {
        /// The event.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// The state at the end, for the reader of the failure.
        last: String,
    },
    /// A program printed what was not expected.
    #[error("{what}: expected {expected}, got {got}")]
    Output {
        /// Which program's output.
        what: String,
        /// The form that it should have.
        expected: String,
        /// What it was.
        got: String,
    },
}

impl Error {
    /// Wraps an operating-system error with the step that it stopped.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Wraps an `errno` with the step that it stopped.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |errno| Self::Io { what, source: errno.into() }
    }
}
