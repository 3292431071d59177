//! The binaries that ship, and the bills of materials. Called by the job.
//!
//! Paths of this host are taken out of both, and each binary says which crates it was made of
//! (cargo-auditable), so that a scanner finds an advisory in what is installed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::arch::Architecture;
use super::{PROGRAMS, commit_date, tools};
use crate::step::Step;
use crate::workspace;

/// The name under which cargo-cyclonedx writes, beside each manifest of the workspace.
const BILL: &str = "stoq-sbom.cdx";

/// Builds the programs and returns their folder.
///
/// # Errors
/// When the tool cannot be had, or something does not compile.
pub fn release(architecture: &Architecture) -> Result<PathBuf> {
    let tool = tools::AUDITABLE.find()?;
    let target = folder(architecture);
    let mut command = std::process::Command::new(tool);
    command.current_dir(workspace::root()).args(["auditable", "build", "--release", "--locked"]);
    command.args(PROGRAMS.iter().flat_map(|program| ["-p", program]));
    architecture.build(&mut command);
    let remapped = remapped(&target);
    let flags: Vec<String> =
        remapped.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")).collect();
    let c_flags: Vec<String> =
        remapped.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect();
    command.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", flags.join(" "));
    command.env("CFLAGS", c_flags.join(" ")).env("CXXFLAGS", c_flags.join(" "));
    // Not the commit's: mimalloc has the time of its compilation in it, and what an earlier commit has compiled
    // is used again.
    command.env("SOURCE_DATE_EPOCH", "0");
    Step {
        log: "build-package",
        title: "build what ships (BoringSSL takes minutes the first time)",
        advice: "mend what the compiler says; `cargo xtask setup` checks the system packages, `rustup \
                 target add` brings another architecture's libraries",
    }
    .run(&mut command)?;
    let built = if architecture.is_foreign() { target.join(architecture.triple) } else { target };
    Ok(built.join("release"))
}

/// Where the programs are built. A folder of its own: with other flags, cargo would build what `cargo build
/// --release` left again. One for each architecture, so that two can be built at a time.
fn folder(architecture: &Architecture) -> PathBuf {
    let target = workspace::target();
    if architecture.is_foreign() {
        target.join(format!("package-build-{}", architecture.deb))
    } else {
        target.join("package-build")
    }
}

/// The paths of this host that must not be in what ships.
pub fn paths_of_this_host(architecture: &Architecture) -> Vec<String> {
    remapped(&folder(architecture)).into_iter().map(|(from, _)| from).collect()
}

/// Folders of this host and what they are called in the binaries; the longest first, for they lie in
/// each other.
fn remapped(target: &Path) -> Vec<(String, &'static str)> {
    let mut folders: Vec<(String, &'static str)> = vec![
        (target.display().to_string(), "/build"),
        (workspace::root().display().to_string(), "/stoq"),
    ];
    folders.extend(cargo_home().map(|home| (home.display().to_string(), "/cargo")));
    // The last that fits wins (rustc and gcc alike).
    folders.sort_by_key(|(from, _)| from.len());
    folders
}

/// Where cargo keeps its own.
pub fn cargo_home() -> Option<PathBuf> {
    let named = env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")))
}

/// Writes what each program is made of, as CycloneDX, and returns the folder.
///
/// # Errors
/// When the tool cannot be had, or does not write them.
pub fn bills_of_materials() -> Result<PathBuf> {
    let mut command = std::process::Command::new(tools::BILLS.find()?);
    command.current_dir(workspace::root()).args(["cyclonedx", "--format", "json"]);
    command.args(["--override-filename", BILL]);
    command.env("SOURCE_DATE_EPOCH", commit_date()?.to_string());
    Step {
        log: "sbom",
        title: "write the bills of materials",
        advice: "`cargo metadata --locked` must work",
    }
    .run(&mut command)?;
    let folder = workspace::scratch("sbom")?;
    fs::create_dir_all(&folder)?;
    let written = workspace::files("json")?;
    let name = format!("{BILL}.json");
    let written = written.iter().filter(|path| path.ends_with(&name));
    for path in written {
        take(path, &folder)?;
    }
    for program in PROGRAMS {
        let bill = folder.join(format!("{program}.cdx.json"));
        ensure!(bill.is_file(), "cargo-cyclonedx did not write {}", bill.display());
    }
    Ok(folder)
}

/// Takes a bill away from the sources; one of a program goes into `folder`, without paths of this host.
fn take(path: &Path, folder: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    fs::remove_file(path)?;
    let package = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if PROGRAMS.contains(&&*package) {
        let text = text.replace(&workspace::root().display().to_string(), "/stoq");
        fs::write(folder.join(format!("{package}.cdx.json")), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_folders_in_each_other_the_inner_is_named_last() {
        let target = workspace::root().join("target/package-build");
        let remapped = remapped(&target);
        let place = |name| remapped.iter().position(|(_, to)| *to == name).unwrap();
        assert!(place("/stoq") < place("/build"));
    }
}
