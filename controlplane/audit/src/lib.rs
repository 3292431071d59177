//! The audit log: who did what to the mesh, when, and whether it was allowed.
//!
//! ```text
//!  entry 1 ──hash──► entry 2 ──hash──► entry 3          each entry holds the hash of the one before
//!                       │                 │
//!                     head 2            head 3 ───► others keep it
//! ```
//!
//! An entry that is edited, inserted or removed breaks the chain of hashes. A chain that was
//! computed again does not fit the heads, which the log's keys have signed. A tail that was cut off
//! with its heads is found by a head that somebody else kept: [`Chain::head`] gives each to the
//! caller for that.
//!
//! The control plane's daemon appends ([`Chain`]) and writes the lines down; `stoqctl audit verify`
//! reads them ([`verify`]). The file has one line of JSON for each entry and each head, so that
//! people can read it with the tools that they have. This crate does no I/O but to read from what
//! the caller gives it, and reads no clock.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod chain;
mod entry;
mod head;
mod hex;
mod line;
mod verify;

pub use chain::{Chain, RecoverError, Recovered, Torn};
pub use entry::{ACTION_MAX, Entry, Event, NAME_MAX, Outcome, REASON_MAX};
pub use head::{Head, HeadError};
pub use line::{LINE_MAX_BYTES, Line, LineError};
pub use verify::{Finding, Options, Report, VerifyError, verify};
