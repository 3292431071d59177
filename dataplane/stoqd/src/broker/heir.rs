//! Starting the process that takes over from this one: another stoqd with the same configuration file, or a
//! newer one at the same path. Only the broker can: the daemon has given up what a new one needs.
#![allow(unsafe_code, reason = "what a child does between fork and exec")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use caps::CapSet;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::SigSet;

use super::sys::ELDER;

/// What is meant for the elder alone, by `sd_listen_fds(3)` and `sd_watchdog_enabled(3)`.
const NOT_INHERITED: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How long one that is not to take over has to take leave of its peers by itself.
const LEAVE: Duration = Duration::from_secs(1);

/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);

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

/// Waits until it has ended, and ends it when that takes too long. Returns how it ended.
pub(super) fn end(heir: &mut Child) -> io::Result<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < LEAVE {
        if let Some(status) = heir.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
    heir.kill()?;
    heir.wait()
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
