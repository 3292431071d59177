//! A veth pair whose ends are in namespaces of their own, which go away with the threads in them.

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

/// The addresses of `wan`.
pub const NEAR: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// Runs `test` in a new network namespace with the interface `wan`, up and with [`NEAR`]'s addresses; its
/// other end `far` is in a second namespace, up and with those that end in 2.
pub fn with_veth(mtu: u32, test: impl FnOnce(&Far) + Send + 'static) {
    let thread = thread::spawn(move || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("SKIPPED: needs a network namespace of its own, got {errno}; run as root");
            return;
        }
        let far = Far::new();
        ip(&format!("link add wan mtu {mtu} type veth peer name far mtu {mtu} netns {}", far.path));
        addresses("wan", 1);
        far.run(|| addresses("far", 2));
        test(&far);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn addresses(interface: &str, last: u8) {
    ip(&format!("address add 192.0.2.{last}/24 dev {interface}"));
    ip(&format!("address add 2001:db8::{last}/64 dev {interface} nodad"));
    ip(&format!("link set {interface} up"));
}

/// Runs `ip` in the namespace of this thread, and returns what it prints.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

type Job = Box<dyn FnOnce() + Send>;

/// The host at the other end: a thread in its own namespace.
pub struct Far {
    jobs: mpsc::Sender<Job>,
    path: String,
}

impl Far {
    fn new() -> Self {
        let (jobs, work) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
            tell.send(path).unwrap();
            work.into_iter().for_each(|job| job());
        });
        Self { jobs, path: told.recv().unwrap() }
    }

    /// Runs `job` there, and waits for it.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let (tell, told) = mpsc::channel();
        self.jobs
            .send(Box::new(move || {
                job();
                tell.send(()).unwrap();
            }))
            .unwrap();
        told.recv().expect("the job panicked");
    }
}
