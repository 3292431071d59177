//! Makes this host ask here: two stages, each with `check`, `apply` and `undo`, of which a host needs
//! one.
//!
//! [`Resolved`] where systemd-resolved runs: it is told that the mesh's domains are asked on the
//! tunnel's interface, and asks everything else as before. [`ResolvConf`] elsewhere, and only when the
//! operator says so: resolv.conf(5) knows one list of servers for everything, so that this server is
//! asked everything and forwards. `stoqctl` runs them as root; hypermeshd cannot, and need not.

mod file;
mod resolved;

pub use file::{ORIGINAL, PATH, ResolvConf};
pub use resolved::Resolved;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a stage did nothing.
#[derive(Debug, Error)]
pub enum HostError {
    /// A program failed or is not there.
    #[error(
        "expected `{command}` to succeed, got: {got}; is systemd-resolved running, and are you root?"
    )]
    Program {
        /// What was run.
        command: String,
        /// What it said.
        got: String,
    },
    /// A file cannot be read or written.
    #[error("{}: expected to {action} it, got: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// How.
        source: io::Error,
    },
    /// Another program keeps the file.
    #[error(
        "{}: expected a file of its own, got a link to {}, which another program keeps; tell that \
         program to ask {server} (for systemd-resolved, use its stage), or put a file in the link's \
         place: `cp --remove-destination {} {}`",
        path.display(), target.display(), target.display(), path.display()
    )]
    Managed {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// What that program should ask.
        server: String,
    },
    /// The original is gone, so that nothing can be restored.
    #[error(
        "{}: expected the file as it was before, got nothing; write `nameserver ADDRESS` with your \
         resolver's address into {}", original.display(), path.display()
    )]
    OriginalGone {
        /// Where the original was kept.
        original: PathBuf,
        /// The file that is to be restored.
        path: PathBuf,
    },
}

/// What applying or undoing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The host is now as it was asked to be.
    Made,
    /// It was so already.
    None,
}
