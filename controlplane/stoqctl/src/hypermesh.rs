//! The control plane's end of commands: the way to hypermeshd. Used by every command that hypermeshd
//! answers.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hypermesh_api::{BlockingClient, ClientError};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::failure::Failure;
use crate::remote::Remote;

/// How long hypermeshd may take to answer: to join, it makes keys and reaches another host, whose
/// sequencer may be a third one; each of these has ten seconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Which hypermeshd is asked.
#[derive(Debug)]
pub enum Way {
    /// This host's, by its socket.
    Local(PathBuf),
    /// Another host's, as an operator.
    Remote(Remote),
}

impl Way {
    /// The socket, for what is about this host.
    pub fn local(&self) -> Result<&Path, Failure> {
        match self {
            Self::Local(socket) => Ok(socket),
            Self::Remote(_) => Err(Failure::Usage(
                "expected this host's hypermeshd, which the command is about, got --api: run it on the \
                 host itself"
                    .to_owned(),
            )),
        }
    }
}

/// Connects to the daemon.
pub fn connect(way: &Way) -> Result<BlockingClient, Failure> {
    match way {
        Way::Local(socket) => Ok(BlockingClient::unix(socket, ANSWER_TIMEOUT)?),
        Way::Remote(remote) => remote.connect(ANSWER_TIMEOUT),
    }
}

/// The user that hypermeshd runs as: the one that listens on its socket.
pub fn user(socket: &Path) -> Result<u32, Failure> {
    let unreachable = |source| ClientError::Unreachable { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).map_err(unreachable)?;
    let peer = getsockopt(&stream, PeerCredentials).map_err(|errno| unreachable(errno.into()))?;
    Ok(peer.uid())
}
