//! The nightly compiler of rustup with the sources of its library, of which `core` is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::toolchain::{Toolchain, folder};

/// Makes the compiler ready.
///
/// # Errors
/// When it, or the sources, are not installed, or do not work.
pub fn prepare() -> Result<Toolchain> {
    let sysroot = sysroot()?;
    ensure!(
        sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file(),
        "its library's sources are missing: `rustup component add rust-src --toolchain nightly`"
    );
    let libraries = sysroot.join("lib");
    let toolchain = Toolchain {
        rustc: sysroot.join("bin/rustc"),
        cargo_arguments: vec!["-Zbuild-std=core".to_owned()],
        llvm: llvm(&libraries)?,
        objcopy: objcopy(&libraries.join("rustlib"))?,
        libraries,
        folder: folder("nightly")?,
    };
    toolchain.ready()
}

fn sysroot() -> Result<PathBuf> {
    let mut ask = Command::new("rustup");
    ask.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    let output = ask.output().context("there is no rustup")?;
    ensure!(output.status.success(), "there is no nightly: `rustup toolchain install nightly`");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// The library of LLVM, whose name holds its version and the compiler's.
fn llvm(libraries: &Path) -> Result<PathBuf> {
    find(libraries, |name| name.starts_with("libLLVM.so."))
}

/// The program comes with the compiler, in the folder of the host's target.
fn objcopy(rustlib: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(rustlib).with_context(|| format!("cannot read {}", rustlib.display()))?;
    let mut programs = entries.flatten().map(|entry| entry.path().join("bin/rust-objcopy"));
    match programs.find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => bail!("no rust-objcopy in {}", rustlib.display()),
    }
}

fn find(folder: &Path, is_it: fn(&str) -> bool) -> Result<PathBuf> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let found = paths.find(|path| path.file_name().is_some_and(|n| is_it(&n.to_string_lossy())));
    found.with_context(|| format!("no libLLVM in {}", folder.display()))
}
