//! A systemd-resolved for the tests of names, where the host has none.
//!
//! Its package is unpacked into the target folder and never installed: installed, it would replace the host's
//! `resolv.conf`. `test` calls it and hands the folder on as `NAMES_RESOLVED`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::setup::{find_program, is_root};
use crate::step::Step;
use crate::workspace;

/// The package, as Debian calls it.
const PACKAGE: &str = "systemd-resolved";

/// The daemon, below the root of a system.
const PROGRAM: &str = "lib/systemd/systemd-resolved";

/// What a failure of the package manager asks for.
const ADVICE: &str =
    "look at the package manager's message; `cargo xtask setup` installs the others";

/// The folder with an unpacked systemd-resolved that starts here; none where the host has its own, or
/// none can be had, which is said.
pub fn unpacked() -> Option<PathBuf> {
    if Path::new("/").join(PROGRAM).exists() {
        return None;
    }
    match unpack() {
        Ok(folder) => Some(folder),
        Err(error) => {
            println!("    no systemd-resolved for the test of it: {error:#}");
            None
        }
    }
}

fn unpack() -> Result<PathBuf> {
    find_program("apt-get").context("expected apt-get to download it with, found none")?;
    let folder = workspace::scratch(PACKAGE)?;
    if !folder.join(PROGRAM).exists() {
        std::fs::create_dir_all(&folder)?;
        if download(&folder).is_err() && is_root() {
            Step { log: "apt-update", title: "apt-get update", advice: ADVICE }
                .run(Command::new("apt-get").arg("update"))?;
            download(&folder)?;
        }
        let script = "dpkg --extract ./*.deb . && rm ./*.deb";
        Step { log: "resolved-unpack", title: "unpack systemd-resolved", advice: ADVICE }
            .run(Command::new("sh").args(["-c", script]).current_dir(&folder))?;
    }
    // It needs a library of systemd, which a container may lack.
    let version = Command::new(folder.join(PROGRAM)).arg("--version").output()?;
    let said = String::from_utf8_lossy(&version.stderr).into_owned();
    version.status.success().then_some(folder).with_context(|| format!("it does not start: {said}"))
}

fn download(folder: &Path) -> Result<()> {
    Step { log: "resolved", title: "download systemd-resolved, for tests", advice: ADVICE }
        .run(Command::new("apt-get").args(["download", PACKAGE]).current_dir(folder))
        .map(drop)
}
