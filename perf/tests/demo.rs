//! The demo as a newcomer sees it: the command of the README, with a small file.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

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
