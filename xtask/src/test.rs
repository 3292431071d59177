//! `cargo xtask test`: set up, build, run every test.
//!
//! End-to-end tests start the daemons as processes: they find them by `STOQD_BIN`, `STOQCTL_BIN` and
//! `HYPERMESHD_BIN`, which this sets to what it has just built, and another build by `STOQD_OTHER_BIN`. Root's tests install packages as well,
//! which they find by `STOQ_PACKAGES`. The CI and developers call it.

use std::path::Path;

use anyhow::Result;

use crate::other;
use crate::package;
use crate::resolved;
use crate::setup;
use crate::step::{self, Step};
use crate::workspace;

/// Lines at the end of the test runner's output that are always shown.
const CLOSING_LINES: usize = 12;

/// The variable by which property tests are told where their random cases begin.
const SEED_VARIABLE: &str = "PROPTEST_RNG_SEED";

/// Where they begin unless the caller says otherwise: the same cases in every run, so that a run that
/// fails fails for what was changed. New cases are looked for with other seeds, and on purpose.
const SEED: &str = "9292";

/// The variable by which the test of systemd-resolved is told below which folder it is.
const RESOLVED_VARIABLE: &str = "NAMES_RESOLVED";

/// Builds everything and runs the tests whose names hold one of `filter`; all when it is empty.
///
/// # Errors
/// When a package is missing, something does not compile, or a test fails.
pub fn run(filter: &[String]) -> Result<()> {
    setup::run(setup::Scope::All)?;
    let other = other::build(other::DEVELOPMENT, &["--workspace"])?;
    build()?;
    let packages = setup::is_root().then(package::for_tests).transpose()?;
    let log = test(filter, packages.as_deref(), &other)?;
    let closing = step::last_lines(&log, CLOSING_LINES);
    println!("{closing}");
    std::fs::write(workspace::scratch("test-closing.txt")?, closing + "\n")?;
    Ok(())
}

fn build() -> Result<()> {
    Step {
        log: "build",
        title: "build the workspace and its tests (BoringSSL takes minutes the first time)",
        advice: "mend what the compiler says; `cargo xtask setup` checks the system packages; \
                 for a stale Cargo.lock run `cargo update --workspace`",
    }
    .run(workspace::cargo().args(["build", "--workspace", "--bins", "--tests", "--locked"]))?;
    Ok(())
}

fn test(filter: &[String], packages: Option<&Path>, other: &Path) -> Result<std::path::PathBuf> {
    let mut command = workspace::cargo();
    if nextest_is_there() {
        command.args(["nextest", "run", "--failure-output", "immediate-final"]);
    } else {
        println!("    cargo-nextest is not installed: `cargo test` runs the tests, slower");
        command.arg("test");
    }
    command.args(["--workspace", "--locked", "--no-fail-fast"]).args(filter);
    if std::env::var_os(SEED_VARIABLE).is_none() {
        command.env(SEED_VARIABLE, SEED);
    }
    if std::env::var_os(RESOLVED_VARIABLE).is_none()
        && let Some(folder) = resolved::unpacked()
    {
        command.env(RESOLVED_VARIABLE, folder);
    }
    name_binaries(&mut command, &workspace::target().join("debug"));
    command.env(other::VARIABLE, other);
    command.envs(packages.map(|folder| ("STOQ_PACKAGES", folder)));
    Step { log: "test", title: "run the tests", advice: "`cargo xtask test NAME` runs one again" }
        .run(&mut command)
}

/// Tells `command` where the daemons and their command line are, in the variables that tests, demo
/// and benchmarks read.
pub fn name_binaries(command: &mut std::process::Command, folder: &Path) {
    for (variable, program) in
        [("STOQD_BIN", "stoqd"), ("STOQCTL_BIN", "stoqctl"), ("HYPERMESHD_BIN", "hypermeshd")]
    {
        command.env(variable, folder.join(program));
    }
}

/// Whether `cargo nextest` can be used.
pub fn nextest_is_there() -> bool {
    workspace::answers("cargo-nextest", "--version")
}
