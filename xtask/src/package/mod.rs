//! `cargo xtask package`: the .deb and the .rpm, into `target/package/`, for this host or another architecture
//! ([`arch`]).
//!
//! The order is build ([`build`]), stage ([`stage`]: one folder that holds all that is in the packages),
//! pack (cargo-deb and cargo-generate-rpm, which read `packaging/package.toml` there), check ([`checks`]). The same
//! input gives the same bytes: times come from the commit, paths of this host are taken out; [`again`]
//! shows it. `cargo xtask test` packs the binaries that it has built, for the tests that install packages.

mod again;
mod arch;
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
use arch::Architecture;

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
    architecture: &'static Architecture,
    version: &'a str,
    /// Where the packages go.
    out: PathBuf,
    effort: Effort,
    /// A folder whose files go beside the documents: bills of materials.
    bills: Option<PathBuf>,
}

/// Builds what ships for `target` (as rustc calls it; else for this host) and packs it, checked as the
/// distributions do. With `twice` it is then built and packed at another path, for the same bytes.
///
/// # Errors
/// When a tool cannot be had, something does not build, or a check finds something.
pub fn run(target: Option<&str>, twice: bool) -> Result<()> {
    let architecture = Architecture::named(target)?;
    setup::run(setup::Scope::All)?;
    setup::run(setup::Scope::Package)?;
    if architecture.is_foreign() {
        setup::run(setup::Scope::Cross)?;
    }
    let built = build::release(architecture)?;
    let job = Job {
        binaries: &built,
        architecture,
        version: env!("CARGO_PKG_VERSION"),
        out: workspace::target().join("package"),
        effort: Effort::Small,
        bills: Some(build::bills_of_materials()?),
    };
    let packages = make(&job)?;
    checks::lint(&packages)?;
    if twice {
        checks::same_bytes(&packages, &again::packages(architecture)?)?;
    }
    for package in packages {
        let sum = stage::run(Command::new("sha256sum").arg(&package))?;
        println!("    {} bytes, sha256 {}", fs::metadata(&package)?.len(), shown(&sum));
    }
    Ok(())
}

/// Packs the debug binaries as two versions, the second twice for the same bytes, and returns the folder.
///
/// # Errors
/// When a tool cannot be had, packing fails, or what is packed twice differs.
pub fn for_tests() -> Result<PathBuf> {
    let out = workspace::scratch("packages")?;
    let binaries = workspace::target().join("debug");
    let architecture = Architecture::host()?;
    let pack = |version, out| {
        let (binaries, effort) = (binaries.as_path(), Effort::Fast);
        make(&Job { binaries, architecture, version, out, effort, bills: None })
    };
    let [before, after] = TEST_VERSIONS;
    pack(before, out.join(before))?;
    let packages = pack(after, out.join(after))?;
    let again = workspace::scratch("packages-again")?;
    checks::same_bytes(&packages, &pack(after, again.clone())?)?;
    fs::remove_dir_all(again)?;
    Ok(out)
}

/// Stages and packs; returns the .deb and the .rpm.
fn make(job: &Job<'_>) -> Result<Vec<PathBuf>> {
    let date = commit_date()?;
    let deb_ending = format!("_{}.deb", job.architecture.deb);
    let rpm_ending = format!(".{}.rpm", job.architecture.rpm);
    fs::create_dir_all(&job.out)?;
    remove_former(&job.out, &[&deb_ending, &rpm_ending])?;
    let folder = job.out.join("stage");
    stage::fill(&folder, job, date)?;
    if job.effort == Effort::Small {
        timed("what the programs need, and no path of this host in them", || {
            check_programs(&folder.join("bin"), job.architecture)
        })?;
    }
    let deb = job.out.join(format!("stoq_{}-1{deb_ending}", job.version));
    let rpm = job.out.join(format!("stoq-{}-1{rpm_ending}", job.version));
    pack_deb(&folder, &deb, job, date)?;
    pack_rpm(&folder, &rpm, job, date)?;
    fs::remove_dir_all(&folder)?;
    Ok(vec![deb, rpm])
}

/// Removes what a run before has left: its stage, and packages for the same architecture, of whatever version.
fn remove_former(out: &Path, endings: &[&str]) -> Result<()> {
    let stage = out.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| stage.display().to_string())?;
    }
    for file in stage::entries(out)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if endings.iter().any(|ending| name.ends_with(ending)) {
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

/// Looks at each program as it is packed, and starts it.
fn check_programs(bin: &Path, architecture: &Architecture) -> Result<()> {
    let paths = build::paths_of_this_host(architecture);
    for program in PROGRAMS {
        let program = bin.join(program);
        checks::libraries(&program, architecture)?;
        checks::paths(&program, &paths)?;
        let version = stage::run(architecture.program(&program).arg("--version"))?;
        println!("    {}", shown(&version));
    }
    Ok(())
}

/// What a command printed, in one line.
fn shown(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).trim().to_owned()
}

fn pack_deb(folder: &Path, deb: &Path, job: &Job<'_>, date: u64) -> Result<()> {
    let mut command = Command::new(tools::DEB.find()?);
    command.args(["--no-build", "--no-strip", "--no-separate-debug-symbols", "--output"]).arg(deb);
    command.args(["--target", job.architecture.triple]);
    if job.effort == Effort::Fast {
        command.arg("--fast");
    }
    pack("pack-deb", "pack the .deb", folder, &mut command, date)?;
    ensure!(deb.is_file(), "cargo-deb did not write {}", deb.display());
    Ok(())
}

fn pack_rpm(folder: &Path, rpm: &Path, job: &Job<'_>, date: u64) -> Result<()> {
    let mut command = Command::new(tools::RPM.find()?);
    command.args(["generate-rpm", "--auto-req", "builtin", "--output"]).arg(rpm);
    command.args(["--arch", job.architecture.rpm]);
    if job.effort == Effort::Fast {
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
    fn packages_of_another_architecture_stay_where_they_are() {
        let out = workspace::scratch("unit-former").unwrap();
        fs::create_dir_all(out.join("stage")).unwrap();
        for name in ["stoq_0.1.0-1_amd64.deb", "stoq_0.0.9-1_arm64.deb", "stoq-0.1.0-1.x86_64.rpm"]
        {
            fs::write(out.join(name), "").unwrap();
        }
        remove_former(&out, &["_amd64.deb", ".x86_64.rpm"]).unwrap();
        assert_eq!(stage::entries(&out).unwrap(), [out.join("stoq_0.0.9-1_arm64.deb")]);
    }

    #[test]
    fn the_commit_has_a_date() {
        // 2020-01-01: before the first commit.
        assert!(commit_date().unwrap() > 1_577_836_800);
    }
}
