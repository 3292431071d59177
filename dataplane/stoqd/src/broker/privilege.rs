//! Giving up privilege for good. Called by the daemon after the broker is forked and before any
//! thread starts, and by the broker for what it does not need.

use std::os::unix::fs::chown;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{User, geteuid, setgroups, setresgid, setresuid};

/// Why privilege could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A system call failed.
    #[error("expected to {task}, got: {reason}; do not run stoqd like this, and report it")]
    Call {
        /// What was tried.
        task: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// The kernel said yes, but capabilities are still there.
    #[error("expected no capabilities, got {0:?}; do not run stoqd like this, and report it")]
    Left(CapsHashSet),
    /// A directory cannot be made or given to the user.
    #[error("expected a directory {path} for the user {user}, got: {reason}; make it yourself")]
    Directory {
        /// The directory.
        path: String,
        /// Who should own it.
        user: String,
        /// What the kernel said.
        reason: std::io::Error,
    },
}

fn call<T, E: std::fmt::Display>(
    task: &'static str,
    result: Result<T, E>,
) -> Result<T, PrivilegeError> {
    result.map_err(|error| PrivilegeError::Call { task, reason: error.to_string() })
}

/// The user to become: none unless this process is root's and the host knows the name.
fn user_to_become(name: &str) -> Result<Option<User>, PrivilegeError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    call("look up the user of [node] user", User::from_name(name))
}

/// Makes a directory, if it is not there, that the user may write to after privilege is dropped. One
/// that is there is left as it is.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(path: &Path, user: &str) -> Result<(), PrivilegeError> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = |reason| PrivilegeError::Directory {
        path: path.display().to_string(),
        user: user.to_owned(),
        reason,
    };
    std::fs::create_dir_all(path).map_err(failed)?;
    let Some(user) = user_to_become(user)? else { return Ok(()) };
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(|reason| {
        // A process that takes over may not give directories away. The next start has to make it.
        let _kept = std::fs::remove_dir(path);
        failed(reason)
    })
}

/// Becomes `user` if this process is root's and there is such a user, and gives up every capability
/// for good: this process and its threads cannot get any back, nor can a program that they start.
///
/// # Errors
/// When anything of it fails; then the process must not go on.
pub fn drop_for_good(user: &str) -> Result<(), PrivilegeError> {
    let user = user_to_become(user)?;
    empty_bounding_set(&[])?;
    if let Some(user) = user {
        call("drop the groups", setgroups(&[]))?;
        call("change the group", setresgid(user.gid, user.gid, user.gid))?;
        call("change the user", setresuid(user.uid, user.uid, user.uid))?;
    }
    keep(&CapsHashSet::new())?;
    let left = call("read the capabilities", caps::read(None, CapSet::Permitted))?;
    if left.is_empty() { Ok(()) } else { Err(PrivilegeError::Left(left)) }
}

/// Gives up for good every capability but these; those of them that are not there stay away.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn keep_only(kept: &[Capability]) -> Result<(), PrivilegeError> {
    empty_bounding_set(kept)?;
    let permitted = call("read the capabilities", caps::read(None, CapSet::Permitted))?;
    keep(&kept.iter().copied().filter(|cap| permitted.contains(cap)).collect())
}

/// Empties the bounding set but for `kept`, so that no program started later can gain them. Without
/// CAP_SETPCAP the kernel does not allow it, and no_new_privs must do.
fn empty_bounding_set(kept: &[Capability]) -> Result<(), PrivilegeError> {
    let task = "empty the bounding set";
    if !call(task, caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP))? {
        return Ok(());
    }
    for capability in call(task, caps::read(None, CapSet::Bounding))? {
        if !kept.contains(&capability) {
            call(task, caps::drop(None, CapSet::Bounding, capability))?;
        }
    }
    Ok(())
}

fn keep(kept: &CapsHashSet) -> Result<(), PrivilegeError> {
    let task = "drop the capabilities";
    call(task, caps::clear(None, CapSet::Ambient))?;
    call(task, caps::clear(None, CapSet::Inheritable))?;
    call(task, caps::set(None, CapSet::Effective, kept))?;
    call(task, caps::set(None, CapSet::Permitted, kept))?;
    call("forbid new privileges", prctl::set_no_new_privs())
}
