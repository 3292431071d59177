//! `cargo xtask demo` and `cargo xtask bench`: set up, build what ships, hand over.
//!
//! The work is done by the binaries of `perf/`, which need system packages to build; this crate
//! only builds and starts them. It becomes the started program, so that a signal reaches it
//! directly and it cleans up after itself.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::other;
use crate::setup;
use crate::step::Step;
use crate::test::name_binaries;
use crate::workspace;

/// What the data plane alone runs.
const DATA_PLANE: &[&str] = &["stoqd", "stoqctl", "stoq-perf"];

/// What a mesh runs.
const MESH: &[&str] = &["stoqd", "hypermeshd", "stoqctl", "stoq-perf"];

/// Builds and becomes the demo.
///
/// # Errors
/// When a package is missing, something does not compile, or the demo cannot be started.
pub fn demo(options: &[String]) -> Result<()> {
    start("demo", options, DATA_PLANE)
}

/// Builds and becomes the benchmark `name`.
///
/// # Errors
/// As for [`demo`].
pub fn bench(name: &str, options: &[String]) -> Result<()> {
    let mut all = vec![name.to_owned()];
    all.extend_from_slice(options);
    start("stoq-perf", &all, if name == "revoke" { MESH } else { DATA_PLANE })
}

fn start(program: &str, options: &[String], packages: &[&str]) -> Result<()> {
    setup::run(setup::Scope::All)?;
    let packages: Vec<&str> = packages.iter().flat_map(|package| ["-p", package]).collect();
    let asks = options.first().is_some_and(|name| name == "continuity");
    let other = asks.then(|| {
        let release: Vec<&str> = packages.iter().copied().chain(["--release"]).collect();
        other::build(other::RELEASE, &release)
    });
    let other = other.transpose()?;
    Step {
        log: "build-release",
        title: "build the release binaries (BoringSSL takes minutes the first time)",
        advice: "mend what the compiler says; `cargo xtask setup` checks the system packages",
    }
    .run(workspace::cargo().args(["build", "--release", "--locked"]).args(packages))?;
    let folder = workspace::target().join("release");
    let binary = folder.join(program);
    let mut command = Command::new(&binary);
    command.current_dir(workspace::root()).args(options);
    name_binaries(&mut command, &folder);
    command.envs(other.map(|path| (other::VARIABLE, path)));
    Err(command.exec()).with_context(|| format!("cannot start {}", binary.display()))
}
