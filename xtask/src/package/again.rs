//! The packages once more, from a clone at another path with a target folder of its own: what they must be equal
//! to byte for byte. Owns the clone; called by the job when it is asked to.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::arch::Architecture;
use super::stage::{entries, run};
use crate::step::Step;
use crate::workspace;

/// Makes the packages in a clone of what is committed, and returns them.
///
/// # Errors
/// When there is something that is not committed, or the clone does not make packages.
pub fn packages(architecture: &Architecture) -> Result<Vec<PathBuf>> {
    let status = git(&["status", "--porcelain"])?;
    ensure!(
        status.is_empty(),
        "expected everything to be committed, as a clone holds nothing else, got: {}\nwhat to do: commit",
        String::from_utf8_lossy(&status)
    );
    // Longer than this one's path: a path that is left in would move what is behind it.
    let clone = workspace::target().join("package-again-in-a-clone");
    if clone.exists() {
        fs::remove_dir_all(&clone).with_context(|| clone.display().to_string())?;
    }
    let root = workspace::root().display().to_string();
    git(&["clone", "--quiet", "--no-tags", &root, &clone.display().to_string()])?;
    let target = clone.join("target");
    let mut job = workspace::cargo();
    job.current_dir(&clone).env("CARGO_TARGET_DIR", &target).env("PATH", path_with_tools()?);
    job.args(["xtask", "package", "--target", architecture.triple]);
    Step {
        log: "package-again",
        title: "build and pack again from a clone (as long as the first time)",
        advice: "what the clone says is above; what is not committed is not in it",
    }
    .run(&mut job)?;
    entries(&target.join("package"))
}

/// Where programs are looked for, with the packers that the first run has installed.
fn path_with_tools() -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([workspace::target().join("tools/bin")]);
    env::join_paths(folders).context("the path of the target folder has a colon")
}

fn git(arguments: &[&str]) -> Result<Vec<u8>> {
    run(Command::new("git").current_dir(workspace::root()).args(arguments))
}
