//! The demo as a newcomer sees it: the command of the README, with a small file.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stoq_perf::workspace::Binaries;

/// Says why the demo cannot run here; a daemon that was named but is missing is no reason.
fn obstacle() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root");
    }
    let cannot_find = !Binaries::are_named() && Binaries::find().is_err();
    cannot_find.then_some("there is no stoqd; `cargo xtask test` builds it and names it")
}

/// nobody: the user and group of no one in particular, on every Linux.
const NOBODY: u32 = 65_534;

#[test]
fn without_root_the_demo_carries_a_file_over_a_stream() {
    if !Binaries::are_named() && Binaries::find().is_err() {
        let why = "there is no stoqd; `cargo xtask test` builds it and names it";
        eprintln!("without_root_the_demo_carries_a_file_over_a_stream: SKIPPED, {why}");
        return;
    }
    let folder = Home::new();
    let binaries = Binaries::find().unwrap();
    // Whoever has no rights may not even reach the folder of the build.
    let demo = folder.bring("demo", Path::new(env!("CARGO_BIN_EXE_demo")));
    let mut demo = Command::new(demo);
    demo.env("STOQD_BIN", folder.bring("stoqd", &binaries.stoqd));
    demo.env("STOQCTL_BIN", folder.bring("stoqctl", &binaries.stoqctl));
    demo.env("TMPDIR", &folder.0).current_dir(&folder.0);
    demo.args(["--size-mib", "32"]).stdin(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        demo.uid(NOBODY).gid(NOBODY);
    }
    let output = demo.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{complaint}");
    for expected in ["X25519MLKEM768", "port mio", "SHA-256 equal", "CPU", "as root"] {
        assert!(printed.contains(expected), "no `{expected}` in\n{printed}");
    }
    let left = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().starts_with("stoq-demo-")).count(), 0);
}

/// A folder that belongs to the user without rights.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("stoq-home-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self(path)
    }

    fn bring(&self, name: &str, program: &Path) -> PathBuf {
        let path = self.0.join(name);
        std::fs::copy(program, &path).unwrap();
        path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_demo_carries_a_file_and_says_what_it_saw() {
    if let Some(why) = obstacle() {
        eprintln!("the_demo_carries_a_file_and_says_what_it_saw: SKIPPED, {why}");
        return;
    }
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.args(["--size-mib", "64", "--seconds", "2"]).stdin(Stdio::null());
    let output = demo.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{complaint}");
    for expected in ["X25519MLKEM768", "[fd00:99::2]:9292", "SHA-256 equal", "TCP", "UDP", "CPU"] {
        assert!(printed.contains(expected), "no `{expected}` in\n{printed}");
    }
    let tcp = printed.lines().find(|line| line.trim_start().starts_with("TCP")).unwrap();
    assert!(!tcp.contains(" 0.00 Gbit/s"), "nothing went through: {tcp}");
}
