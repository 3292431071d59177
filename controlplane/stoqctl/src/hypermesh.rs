//! The control plane's end of commands: connects to hypermeshd's local socket, and writes answers as
//! people or as scripts want them. Used by every command that hypermeshd answers.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hypermesh_api::{BlockingClient, ClientError};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Serialize;

use crate::daemon::print;
use crate::failure::Failure;

/// How long hypermeshd may take to answer: to join, it makes keys and reaches another host, whose
/// sequencer may be a third one; each of these has ten seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the daemon at `socket`.
pub fn connect(socket: &Path) -> Result<BlockingClient, Failure> {
    Ok(BlockingClient::unix(socket, ANSWER_TIMEOUT)?)
}

/// The user that hypermeshd runs as: the one that listens on its socket.
pub fn user(socket: &Path) -> Result<u32, Failure> {
    let unreachable = |source| ClientError::Unreachable { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).map_err(unreachable)?;
    let peer = getsockopt(&stream, PeerCredentials).map_err(|errno| unreachable(errno.into()))?;
    Ok(peer.uid())
}

/// Writes `answer` as JSON if that was asked for, else what `shown` makes of it.
pub fn answer<T: Serialize>(
    json: bool,
    answer: &T,
    shown: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if !json {
        return print(&shown(answer));
    }
    let text = serde_json::to_string_pretty(answer)
        .map_err(|error| Failure::Refused(format!("expected an answer, got: {error}")))?;
    print(&(text + "\n"))
}

/// Says on standard error what is being waited for; standard output is the answer's alone.
pub fn progress(what: &str) {
    eprintln!("{what}");
}
