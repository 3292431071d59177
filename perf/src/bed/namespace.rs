//! One network namespace: made, entered, and left to the bed's guardian to delete. The bed owns its
//! namespaces; tests run commands and open sockets in them.

use crate::process;
use crate::{Error, Result};
use nix::sched::{CloneFlags, setns};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::thread;

/// A named network namespace (`ip netns`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace, with the settings that each one in the bed has.
    pub(super) fn create(name: String) -> Result<Self> {
        process::run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        // Addresses must be usable at once: no duplicate address detection, whose second of
        // silence every test would have to wait for. Asymmetric paths are part of the tests.
        for (key, value) in [
            ("net.ipv6.conf.all.accept_dad", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ] {
            namespace.sysctl(key, value)?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns list` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run `program` in this namespace; its process ID is the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program in this namespace to its end and gives its standard output.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said when it fails.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        process::run(self.command(program).args(arguments))
    }

    /// Runs `ip` with these words on this namespace.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said when it fails.
    pub fn ip(&self, words: &str) -> Result<String> {
        process::run(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()))
    }

    /// Runs `nft` with this ruleset on this namespace.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said when it fails.
    pub fn nft(&self, ruleset: &str) -> Result<String> {
        self.run("nft", [ruleset])
    }

    /// Calls `work` on a thread of its own that is in this namespace. Sockets that it opens stay in
    /// the namespace wherever they are used later.
    ///
    /// # Errors
    /// [`Error::Io`] when the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.join_thread().map(|()| work()));
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into this namespace for the rest of its life.
    pub(super) fn join_thread(&self) -> Result<()> {
        let path = Path::new("/run/netns").join(&self.name);
        let file = File::open(&path).map_err(Error::io(format!("open {}", path.display())))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(Error::errno(format!("enter {}", self.name)))
    }

    /// Sets a `net.*` kernel setting of this namespace.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel refuses it.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.enter(|| fs::write(&path, value))?.map_err(Error::io(format!("set {key} = {value}")))
    }

    /// Whether it has a network device of this name.
    #[must_use]
    pub fn has_device(&self, device: &str) -> bool {
        self.ip(&format!("link show dev {device}")).is_ok()
    }
}
