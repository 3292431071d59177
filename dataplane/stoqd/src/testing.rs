//! Privileged tests: in a network namespace of their own, on a thread that ends with it, or as
//! another user. Compiled for tests only.

use std::io;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

use crate::broker::fork_with;

/// What `ask` answers in a process of another user. Only root can do that.
pub fn as_user(uid: u32, ask: impl FnOnce() -> String) -> io::Result<String> {
    let (channel, pid) = fork_with(|channel| {
        let uid = Uid::from_raw(uid);
        nix::unistd::setresuid(uid, uid, uid).unwrap();
        channel.send(ask().as_bytes(), &[]).unwrap();
    })?;
    let (answer, _) = channel.receive()?;
    nix::sys::wait::waitpid(pid, None)?;
    String::from_utf8(answer).map_err(io::Error::other)
}

/// Runs `test` in a new network namespace with its loopback up, or says why it cannot.
///
/// Only this thread enters the namespace; it ends with the thread. Programs that the test starts
/// are in it too.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("SKIPPED: needs a network namespace of its own, got {errno}; run as root");
            return;
        }
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.unwrap().success());
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
