//! A program that another one of ours started, and that lives on when that one has ended: a daemon's
//! successor. The kernel makes it a child of this process then, which therefore learns how it ended.
//!
//! Owned by a [`Process`](super::Process) in place of its child.

use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// The low byte of a wait status holds the signal, the next one the exit code (wait(2)).
const CODE_SHIFT: u32 = 8;

/// What became of it.
#[derive(Debug)]
pub struct Adopted {
    pid: Pid,
    ended: Option<ExitStatus>,
}

impl Adopted {
    /// Takes a program as this process' own. From now on, what loses its parent below this process becomes its
    /// child.
    ///
    /// # Errors
    /// [`Error::Io`] when no such program runs.
    pub fn new(pid: u32) -> Result<Self> {
        let failed = || Error::errno(format!("adopt process {pid}"));
        let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH).map_err(failed())?;
        let pid = Pid::from_raw(pid);
        set_child_subreaper(true).map_err(failed())?;
        kill(pid, None).map_err(failed())?;
        Ok(Self { pid, ended: None })
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How it ended, if it has. One whose parent still lives has not: there nobody else may ask.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << CODE_SHIFT)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
                _ => None,
            };
        }
        self.ended
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        if self.try_exit().is_none() {
            // Fails only when it has ended already, which is what is wanted.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn how_a_childs_child_ended_is_known() {
        set_child_subreaper(true).unwrap();
        // The shell ends at once, and leaves the one that it started, which must not hold its output, and
        // has its input under another number: that of the shell is not given to what runs behind it.
        let script = "exec 3<&0; sh -c 'read line <&3; exit 7' >/dev/null & echo $!";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let stdin = shell.stdin.take();
        let output = shell.wait_with_output().unwrap();
        let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let mut adopted = Adopted::new(pid).unwrap();
        assert_eq!((adopted.pid(), adopted.try_exit()), (pid, None));
        drop(stdin);
        let status = wait::until("its end", Duration::from_secs(30), || {
            adopted.try_exit().ok_or_else(|| "it runs".to_owned())
        });
        assert_eq!(status.unwrap().code(), Some(7));
        drop(adopted);
        assert!(Adopted::new(pid).is_err(), "nobody is there any more");
    }
}
