//! The control socket: where `stoqctl` and the control plane speak to the daemon.
//!
//! Owns the listening socket, the rights of users, the bounds of connections, lines and time, the
//! pushed peers and their file, and captures. What requests do is up to the daemon, which implements
//! [`Operations`] and runs [`serve`] on its control thread. The messages are those of the crate
//! `stoq-control`.

mod capture;
mod pcap;
mod pushed;
mod server;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crossbeam::channel::Receiver;
use stoq_control::{CapturePoint, Certificate, Refusal, Right, Snapshot, Status};

use crate::config::Control;
use crate::worker::Copied;

pub use pushed::{Known, Member, PushedError, PushedPeers};
pub use server::serve;

/// What the daemon does for the control socket. Each call may block for a while: it runs on a
/// thread of its own.
pub trait Operations: Send + Sync + 'static {
    /// Whether this user has this right, by the configuration in force: see [`permits`].
    fn may(&self, uid: u32, right: Right) -> bool;

    /// The state.
    fn status(&self) -> Status;

    /// Reads the configuration and the identity again. Returns the keys that need a restart, and
    /// warnings.
    ///
    /// # Errors
    /// Why nothing has changed.
    fn reload(&self) -> Result<(Vec<String>, Vec<String>), Refusal>;

    /// Begins to drain; the daemon exits when the links are closed.
    ///
    /// # Errors
    /// Why it cannot.
    fn drain(&self) -> Result<(), Refusal>;

    /// Hands over to another process, started from this one's path. Returns its number and version once it
    /// carries the traffic; this daemon exits soon after.
    ///
    /// # Errors
    /// Why this one goes on.
    fn upgrade(&self) -> Result<(u32, String), Refusal>;

    /// Takes over a snapshot, persisted. Returns the names of peers that the file overrides.
    ///
    /// # Errors
    /// Why nothing has changed.
    fn push(&self, snapshot: Snapshot) -> Result<Vec<String>, Refusal>;

    /// Reads the identity's files again; both paths must be the configured ones. Returns the certificate
    /// that is in use then.
    ///
    /// # Errors
    /// Why nothing has changed.
    fn identity(&self, certificate: &Path, key: &Path) -> Result<Certificate, Refusal>;

    /// Opens the sockets of a server of names at this address: UDP, then TCP.
    ///
    /// # Errors
    /// Why there are none.
    fn names(&self, address: IpAddr) -> Result<Vec<OwnedFd>, Refusal>;

    /// Begins to copy packets; ends when the receiver is dropped.
    ///
    /// # Errors
    /// Why it cannot.
    fn capture(&self, point: CapturePoint) -> Result<Receiver<Copied>, Refusal>;

    /// Opens a stream to a service of a peer and joins it to `socket`, which gets `greeting` first.
    ///
    /// # Errors
    /// Why there is none; the socket is the caller's alone then.
    fn stream(
        &self,
        peer: &str,
        service: &str,
        socket: &UnixStream,
        greeting: &[u8],
    ) -> Result<(), Refusal>;
}

/// Whether the configuration gives this user this right. Root has all; whoever may do anything may
/// also see the state.
#[must_use]
pub fn permits(control: &Control, uid: u32, right: Right) -> bool {
    let listed = match right {
        Right::Read => [&control.read_uids, &control.operate_uids, &control.push_uids]
            .iter()
            .any(|uids| uids.contains(&uid)),
        Right::Operate => control.operate_uids.contains(&uid),
        Right::Push => control.push_uids.contains(&uid),
    };
    uid == 0 || listed
}

/// Why the control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A daemon answers there.
    #[error("expected no daemon on {0}, got one that answers; stop it, or set [control] socket")]
    InUse(PathBuf),
    /// The kernel refused.
    #[error("expected to listen on {path}, got: {source}; look at the directory and its owner")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Listens on the control socket, in place of one that a killed daemon left. Everybody may connect:
/// what a caller may do is decided by its user. To be called before privilege is dropped, because
/// the directory may be root's.
///
/// # Errors
/// When another daemon listens there, or the kernel refuses.
pub fn bind(path: &Path) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Bind { path: path.to_owned(), source };
    match UnixStream::connect(path) {
        Ok(_) => return Err(ControlError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
