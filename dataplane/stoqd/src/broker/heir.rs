//! Starting the process that takes over from this one: another stoqd with the same configuration file, or a
//! newer one at the same path. Only the broker can: the daemon has given up what a new one needs.
#![allow(unsafe_code, reason = "what a child does between fork and exec")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use caps::CapSet;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::SigSet;

use super::sys::ELDER;

/// What is meant for the elder alone, by `sd_listen_fds(3)` and `sd_watchdog_enabled(3)`.
const NOT_INHERITED: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The program that runs, by its path: what lies there now is what is started.
pub(super) fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // The kernel's word for a file that was replaced.
    let name = path.to_string_lossy();
    Ok(name.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// Starts it with its end of a channel to the elder, and all capabilities that this process may have.
pub(super) fn start(program: &Path, config: &Path, elder: &OwnedFd) -> io::Result<Child> {
    let raw = elder.as_raw_fd();
    let mut command = Command::new(program);
    command.arg("--config").arg(config).env(ELDER, raw.to_string()).stdin(Stdio::null());
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    // SAFETY: this process has one thread, so its child may allocate and take locks before it executes.
    unsafe { command.pre_exec(move || prepare(raw)) };
    command.spawn()
}

fn prepare(elder: i32) -> io::Result<()> {
    SigSet::empty().thread_set_mask()?;
    // SAFETY: the descriptor is open in this copy of the broker, which ends with the execution.
    let elder = unsafe { std::os::fd::BorrowedFd::borrow_raw(elder) };
    fcntl(elder, FcntlArg::F_SETFD(FdFlag::empty()))?;
    // Ambient capabilities outlive the execution also where the user is not root (capabilities(7)).
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    caps::set(None, CapSet::Inheritable, &permitted).map_err(io::Error::other)?;
    caps::set(None, CapSet::Ambient, &permitted).map_err(io::Error::other)
}
