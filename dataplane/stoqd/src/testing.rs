//! Privileged tests: each runs in a network namespace of its own, on a thread that ends with it.
//! Compiled for tests only.

use nix::sched::{CloneFlags, unshare};

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
