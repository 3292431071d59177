//! The alert rules: whether their expressions parse, and whether they fire when they should.
//!
//! `promtool` decides, on the rules and on their unit tests in `packaging/prometheus/`. That the metrics exist
//! is a test of the daemons. Called by the gates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{find_program, is_root};
use crate::step::Step;
use crate::workspace;

/// Where rules and tests are.
const FOLDER: &str = "packaging/prometheus";

/// Checks the rules and runs their tests.
///
/// # Errors
/// When promtool cannot be had, a rule does not parse, or a test fails.
pub fn check() -> Result<()> {
    let promtool = promtool()?;
    for (log, words) in [
        ("alert-rules", ["check", "rules", "stoq.rules.yml"]),
        ("alert-tests", ["test", "rules", "stoq.test.yml"]),
    ] {
        let title = "alert rules: syntax, then their tests";
        Step { log, title, advice: "mend packaging/prometheus" }
            .run(Command::new(&promtool).args(words).current_dir(workspace::root().join(FOLDER)))?;
    }
    Ok(())
}

/// The host's program, or Debian's, unpacked below the target folder: to install the package would start a
/// server on this host.
fn promtool() -> Result<PathBuf> {
    if let Some(found) = find_program("promtool") {
        return Ok(found);
    }
    let folder = workspace::target().join("tools/prometheus");
    let program = folder.join("usr/bin/promtool");
    if program.is_file() {
        return Ok(program);
    }
    ensure!(
        find_program("apt-get").is_some() && find_program("dpkg-deb").is_some(),
        "promtool is missing\nwhat to do: install Prometheus's tools; Debian's package is `prometheus`"
    );
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if download(&folder).is_err() && is_root() {
        // A fresh system has no lists of packages yet.
        Step { log: "prometheus-update", title: "apt-get update", advice: "is there a network?" }
            .run(Command::new("apt-get").arg("update"))?;
        download(&folder)?;
    }
    unpack(&folder)?;
    ensure!(program.is_file(), "expected promtool in Debian's package, got none");
    Ok(program)
}

fn download(folder: &Path) -> Result<PathBuf> {
    Step {
        log: "prometheus-package",
        title: "fetch promtool (20 MB, once)",
        advice: "run `apt-get update`; is there a network?",
    }
    .run(Command::new("apt-get").args(["download", "prometheus"]).current_dir(folder))
}

fn unpack(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let package = entry?.path();
        if package.extension().is_none_or(|ending| ending != "deb") {
            continue;
        }
        let mut unpack = Command::new("dpkg-deb");
        let status = unpack.arg("-x").arg(&package).arg(folder).status();
        if !status.context("cannot start dpkg-deb")?.success() {
            bail!("cannot unpack {}", package.display());
        }
        fs::remove_file(&package)?;
    }
    Ok(())
}
