//! The packages as an operator meets them: installed, upgraded, downgraded, removed and purged, in a Debian
//! of their own under a real systemd, and by `rpm --root`.
//!
//! `cargo xtask test` packs the binaries that it has built, as two versions, and names the folder in
//! `STOQ_PACKAGES`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod debian;
mod machine;
mod redhat;
mod units;

use std::env;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The version that is there first, and the one that replaces it.
const VERSIONS: [&str; 2] = ["0.1.0", "0.1.1"];

/// The folder of the packages; without it there is nothing to test, and `name` says so.
fn packages(name: &str) -> Option<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("{name}: SKIPPED, packages are installed by root");
        return None;
    }
    let folder = env::var_os("STOQ_PACKAGES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("{name}: SKIPPED, there are no packages; `cargo xtask test` makes them");
    }
    folder
}

/// Runs a command that must succeed; returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", shown(&output));
    shown(&output)
}

/// All that a command printed.
fn shown(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
