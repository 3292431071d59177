//! The control plane's end of commands: connects to hypermeshd's local socket. Used by every command that
//! hypermeshd answers.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hypermesh_api::{BlockingClient, ClientError};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

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
