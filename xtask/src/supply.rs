//! The supply chain: what may come in as a dependency, by `deny.toml` and cargo-deny.
//!
//! Licences, sources, bans and duplicates are read from `Cargo.lock` and what cargo has fetched.
//! Advisories need RustSec's database, a repository on the web: where that cannot be reached, the
//! run says that it did not look. Called by the gates.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::step::Step;
use crate::tools::Tool;
use crate::workspace;

/// Reads the rules. Without its own resolver of the index: cargo's is what builds.
const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "^0.20",
    options: &["--no-default-features"],
    log: "install-deny",
    title: "install cargo-deny below the target folder (minutes, the first time)",
};

/// Checks the dependencies of the workspace.
///
/// # Errors
/// When cargo-deny cannot be had, or finds what `deny.toml` does not allow.
pub fn check() -> Result<()> {
    let deny = DENY.find()?;
    ensure!(lock_is_current()?, "Cargo.lock is stale\nwhat to do: `cargo update --workspace`");
    Step {
        log: "deny",
        title: "dependencies: licences, bans, duplicates, sources",
        advice: "take another crate, or say in deny.toml why this one may come in",
    }
    .run(cargo_deny(&deny).args(["check", "bans", "licenses", "sources"]))?;
    match fetch_advisories(&deny)? {
        None => advisories(&deny),
        Some(why) => {
            println!("==> advisories: SKIPPED, RustSec's database cannot be fetched: {why}");
            Ok(())
        }
    }
}

/// Whether the lock file names all that the manifests ask for.
fn lock_is_current() -> Result<bool> {
    let mut metadata = workspace::cargo();
    metadata.args(["metadata", "--locked", "--format-version", "1"]);
    metadata.stdout(Stdio::null()).stderr(Stdio::inherit());
    Ok(metadata.status().context("cannot run cargo metadata")?.success())
}

/// Fetches the database; what it says when it cannot be had.
fn fetch_advisories(deny: &Path) -> Result<Option<String>> {
    let output =
        cargo_deny(deny).args(["fetch", "db"]).output().context("cannot run cargo-deny")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("it did not say why").trim().to_owned();
    Ok((!output.status.success()).then_some(last))
}

fn advisories(deny: &Path) -> Result<()> {
    Step {
        log: "advisories",
        title: "dependencies: known vulnerabilities, yanked and abandoned crates",
        advice: "`cargo update -p CRATE` to the version that the advisory names",
    }
    .run(cargo_deny(deny).args(["check", "--disable-fetch", "advisories"]))?;
    Ok(())
}

fn cargo_deny(deny: &Path) -> Command {
    let mut command = Command::new(deny);
    command.current_dir(workspace::root()).arg("--locked");
    command
}
