//! `cargo xtask package`: the .deb and the .rpm, into `target/package/`.
//!
//! The order is build ([`build`]), stage ([`stage`]: one folder that holds all that is in the packages),
//! pack (cargo-deb and cargo-generate-rpm, which read `packaging/package.toml` there), check ([`checks`]). The same
//! input gives the same bytes: times come from the commit, paths of this host are taken out. `cargo
//! xtask test` packs the binaries that it has built, for the tests that install packages.

mod build;
mod checks;
mod licences;
mod stage;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup;
use crate::step::{Step, timed};
use crate::workspace;

/// The programs of the packages.
pub const PROGRAMS: [&str; 3] = ["stoqd", "hypermeshd", "stoqctl"];

/// The two versions that the tests install: an upgrade is from the first to the second.
const TEST_VERSIONS: [&str; 2] = ["0.1.0", "0.1.1"];

/// How the payload is compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// What is shipped is small.
    Small,
    /// What is tested is there soon.
    Fast,
}

/// One pair of packages to be made.
struct Job<'a> {
    /// The folder of the binaries.
    binaries: &'a Path,
    version: &'a str,
    /// Where the packages go.
    out: PathBuf,
    effort: Effort,
    /// A folder whose files go beside the documents: bills of materials.
    bills: Option<PathBuf>,
}

/// Builds what ships and packs it; then checks the packages as the distributions do.
///
/// # Errors
/// When a tool cannot be had, something does not build, or a check finds something.
pub fn run() -> Result<()> {
    setup::run(setup::Scope::All)?;
    setup::run(setup::Scope::Package)?;
    let built = build::release()?;
    let out = workspace::target().join("package");
    let job = Job {
        binaries: &built,
        version: env!("CARGO_PKG_VERSION"),
        out: out.clone(),
        effort: Effort::Small,
        bills: Some(build::bills_of_materials()?),
    };
    let packages = make(&job)?;
    for program in PROGRAMS {
        timed(&format!("what {program} needs of glibc"), || checks::glibc(&built.join(program)))?;
    }
    checks::lint(&packages)?;
    for package in packages {
        println!("    {}", package.display());
    }
    Ok(())
}

/// Packs the debug binaries twice, as two versions, and returns the folder.
///
/// # Errors
/// When a tool cannot be had, or packing fails.
pub fn for_tests() -> Result<PathBuf> {
    let out = workspace::scratch("packages")?;
    let binaries = workspace::target().join("debug");
    for version in TEST_VERSIONS {
        let out = out.join(version);
        make(&Job { binaries: &binaries, version, out, effort: Effort::Fast, bills: None })?;
    }
    Ok(out)
}

/// Stages and packs; returns the .deb and the .rpm.
fn make(job: &Job<'_>) -> Result<Vec<PathBuf>> {
    let date = commit_date()?;
    if job.out.exists() {
        fs::remove_dir_all(&job.out)
            .with_context(|| format!("cannot empty {}", job.out.display()))?;
    }
    fs::create_dir_all(&job.out)?;
    let folder = job.out.join("stage");
    stage::fill(&folder, job, date)?;
    let deb = job.out.join(format!("stoq_{}-1_amd64.deb", job.version));
    let rpm = job.out.join(format!("stoq-{}-1.x86_64.rpm", job.version));
    pack_deb(&folder, &deb, job.effort, date)?;
    pack_rpm(&folder, &rpm, job.effort, date)?;
    fs::remove_dir_all(&folder)?;
    Ok(vec![deb, rpm])
}

fn pack_deb(folder: &Path, deb: &Path, effort: Effort, date: u64) -> Result<()> {
    let mut command = Command::new(tools::DEB.find()?);
    command.args(["--no-build", "--no-strip", "--no-separate-debug-symbols", "--output"]).arg(deb);
    if effort == Effort::Fast {
        command.arg("--fast");
    }
    pack("pack-deb", "pack the .deb", folder, &mut command, date)?;
    ensure!(deb.is_file(), "cargo-deb did not write {}", deb.display());
    Ok(())
}

fn pack_rpm(folder: &Path, rpm: &Path, effort: Effort, date: u64) -> Result<()> {
    let mut command = Command::new(tools::RPM.find()?);
    command.args(["generate-rpm", "--auto-req", "builtin", "--output"]).arg(rpm);
    if effort == Effort::Fast {
        command.args(["--payload-compress", "none"]);
    }
    pack("pack-rpm", "pack the .rpm", folder, &mut command, date)?;
    ensure!(rpm.is_file(), "cargo-generate-rpm did not write {}", rpm.display());
    Ok(())
}

fn pack(
    log: &'static str,
    title: &'static str,
    folder: &Path,
    command: &mut Command,
    date: u64,
) -> Result<()> {
    let advice = "look at packaging/package.toml, which says what goes where";
    // The tools ask cargo about a package that has nothing to do with our build.
    command.current_dir(folder).env("CARGO_TARGET_DIR", folder.join("target"));
    command.env("SOURCE_DATE_EPOCH", date.to_string());
    Step { log, title, advice }.run(command)?;
    Ok(())
}

/// When the commit was made, in seconds since 1970: the time of everything in the packages.
fn commit_date() -> Result<u64> {
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["log", "-1", "--format=%ct"]);
    let output = git.output().context("cannot start git")?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().with_context(|| {
        format!("expected the commit's time from `git log`, got {text:?}; is this a clone?")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_has_a_date() {
        // 2020-01-01: before the first commit.
        assert!(commit_date().unwrap() > 1_577_836_800);
    }
}
