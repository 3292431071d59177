//! A Debian of its own: a clean root made once by debootstrap and copied for each test, and a systemd
//! booted in it (systemd-nspawn, with a network of its own). Both are gone when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use stoq_perf::workspace;
use tempfile::TempDir;

use crate::{run, shown};

/// The distribution that is made.
const SUITE: &str = "bookworm";

/// What the packages and their tests need there.
const INCLUDED: &str = "systemd,systemd-sysv,dbus,iproute2";

/// How long it may take to boot on a busy machine.
const BOOT: Duration = Duration::from_secs(120);

/// How often it is asked whether it has booted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A copy of the clean root.
pub struct Root {
    folder: TempDir,
}

impl Root {
    pub fn new() -> Self {
        let clean = clean();
        let root = Self { folder: tempfile::tempdir_in(workspace::target()).unwrap() };
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(clean).arg(root.path()));
        root
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Where a package is seen from inside; it is copied there.
    pub fn bring(&self, package: &Path) -> String {
        let name = package.file_name().unwrap().to_str().unwrap();
        fs::copy(package, self.path().join("var/tmp").join(name)).unwrap();
        format!("/var/tmp/{name}")
    }

    pub fn has(&self, path: &str) -> bool {
        self.path().join(path).symlink_metadata().is_ok()
    }
}

/// The root that is copied; made when it is not there yet.
fn clean() -> PathBuf {
    let kept = workspace::target().join("roots");
    let root = kept.join(SUITE);
    if root.is_dir() {
        return root;
    }
    fs::create_dir_all(&kept).unwrap();
    // Elsewhere first: what an interrupted run leaves must not pass for a root.
    let unfinished = tempfile::tempdir_in(&kept).unwrap();
    let making = unfinished.path().join("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={INCLUDED}"), SUITE]).arg(&making);
    debootstrap.args(mirror());
    run(&mut debootstrap);
    fs::rename(making, &root).unwrap();
    root
}

/// The mirror that this host takes the suite from; none if it takes it from nowhere.
fn mirror() -> Option<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let output = apt.arg(format!("Codename: {SUITE}")).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

/// A booted root.
pub struct Machine {
    pub root: Root,
    nspawn: Child,
    /// Its first process, as this host numbers it.
    init: u32,
}

impl Machine {
    pub fn boot() -> Self {
        let root = Root::new();
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.arg("--directory").arg(root.path());
        // The host may have no systemd of its own to register with.
        nspawn.args(["--boot", "--register=no", "--keep-unit", "--private-network"]);
        nspawn.args(["--capability=all", "--bind=/dev/net/tun", "--console=pipe"]);
        nspawn.arg(format!("--machine=stoq-{}", std::process::id()));
        nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut machine = Self { root, nspawn: nspawn.spawn().unwrap(), init: 0 };
        machine.wait_until_booted();
        machine
    }

    fn wait_until_booted(&mut self) {
        let begin = Instant::now();
        let mut last = String::new();
        while begin.elapsed() < BOOT {
            assert!(self.nspawn.try_wait().unwrap().is_none(), "systemd-nspawn ended; {last}");
            self.init = self.first_process().unwrap_or(0);
            if self.init != 0 {
                last = shown(&self.inside("systemctl is-system-running"));
                if last.trim() == "running" {
                    return;
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
        panic!("expected a booted system within {BOOT:?}, got: {last}");
    }

    fn first_process(&self) -> Option<u32> {
        let nspawn = self.nspawn.id();
        let children = format!("/proc/{nspawn}/task/{nspawn}/children");
        fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
    }

    /// Runs a line of shell inside.
    pub fn inside(&self, line: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]);
        command.args(["sh", "-c", line]).env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command.output().unwrap()
    }

    /// Runs a line of shell that must succeed; returns its standard output.
    pub fn run(&self, line: &str) -> String {
        let output = self.inside(line);
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).trim().to_owned();
        }
        let log = shown(&self.inside("journalctl --no-pager -n 40"));
        panic!("{line}: {}\nthe journal:\n{log}", shown(&output))
    }

    /// What systemd knows of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&format!("systemctl show --value --property={name} {unit}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of a namespace's first process is the end of all others in it; nspawn follows.
        let init = self.init.try_into().ok().filter(|init| *init > 1);
        if let Some(init) = init.map(nix::unistd::Pid::from_raw) {
            let _ = nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL);
        } else {
            let _ = self.nspawn.kill();
        }
        let _ = self.nspawn.wait();
    }
}
