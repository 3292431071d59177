//! Debian's compiler for the web, which comes with a `core` for the kernel's virtual machine.
//!
//! The packages are downloaded and unpacked below the target folder, by any user; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::toolchain::{Toolchain, folder};
use crate::setup::{find_program, is_root};
use crate::step::Step;

/// The compiler, its libraries, those for the other target, LLVM, and what strips an object.
const PACKAGES: &[&str] =
    &["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-dev-bpf", "libllvm22", "llvm-22"];

/// The library of the compiler itself; its version is a part of its name.
const COMPILER_LIBRARY: &str = "libstd-rust-web-";

/// A file that says that everything is unpacked.
const UNPACKED: &str = "unpacked";

/// Makes the compiler ready.
///
/// # Errors
/// When the packages cannot be had here, or do not work.
pub fn prepare() -> Result<Toolchain> {
    let folder = folder("debian")?;
    let root = folder.join("root");
    if !folder.join(UNPACKED).exists() {
        fetch(&folder)?;
    }
    let libraries = one_below(&root.join("usr/lib"), "-linux-gnu")?;
    let llvm = one_below(&libraries, "libLLVM.so.22.1")?;
    let toolchain = Toolchain {
        rustc: root.join("usr/bin/rustc"),
        cargo_arguments: Vec::new(),
        llvm,
        libraries,
        objcopy: root.join("usr/lib/llvm-22/bin/llvm-objcopy"),
        folder,
    };
    toolchain.ready()
}

fn fetch(folder: &Path) -> Result<()> {
    ensure!(
        find_program("apt-get").is_some() && find_program("dpkg-deb").is_some(),
        "this is no Debian"
    );
    let packages = folder.join("packages");
    let _ = fs::remove_dir_all(&packages);
    fs::create_dir_all(&packages)?;
    let names = names()?;
    Step {
        log: "ebpf-packages",
        title: "fetch Debian's compiler for the XDP program (140 MB, once)",
        advice: "run `apt-get update`; is there a network?",
    }
    .run(Command::new("apt-get").arg("download").args(names).current_dir(&packages))?;
    for package in fs::read_dir(&packages)? {
        let package = package?.path();
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(folder.join("root"));
        let status = unpack.status().context("cannot start dpkg-deb")?;
        ensure!(status.success(), "cannot unpack {}", package.display());
    }
    fs::remove_dir_all(&packages)?;
    fs::write(folder.join(UNPACKED), "")?;
    Ok(())
}

/// The packages' names, that of the compiler's own library as its present version has it.
fn names() -> Result<Vec<String>> {
    let mut library = compiler_library()?;
    if library.is_none() && is_root() {
        // A fresh system has no lists of packages yet.
        Step { log: "ebpf-update", title: "apt-get update", advice: "is there a network?" }
            .run(Command::new("apt-get").arg("update"))?;
        library = compiler_library()?;
    }
    let Some(library) = library else {
        bail!("the package rustc-web is not known here, or `apt-get update` has never run")
    };
    Ok(PACKAGES.iter().map(|name| (*name).to_owned()).chain([library]).collect())
}

/// The package of the compiler's own library, which the others need in their very version.
fn compiler_library() -> Result<Option<String>> {
    let mut ask = Command::new("apt-cache");
    ask.args(["depends", "--no-recommends", "--no-suggests", "libstd-rust-web-dev"]);
    let output = ask.output().context("cannot start apt-cache")?;
    Ok(library_in(&String::from_utf8_lossy(&output.stdout)))
}

fn library_in(depends: &str) -> Option<String> {
    let words = depends.split_whitespace();
    let mut libraries = words.filter_map(|word| {
        let version = word.strip_prefix(COMPILER_LIBRARY)?;
        version.starts_with(|first: char| first.is_ascii_digit()).then(|| word.to_owned())
    });
    libraries.next()
}

/// The one entry of a folder whose name ends so.
fn one_below(folder: &Path, ending: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}; remove its top folder", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let found = paths.find(|path| path.to_string_lossy().ends_with(ending));
    found.with_context(|| format!("nothing in {} ends with {ending}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_library_is_found_among_what_it_depends_on() {
        let depends = "libstd-rust-web-dev\n  Depends: libstd-rust-web-1.96\n  Replaces: x\n";
        assert_eq!(library_in(depends).as_deref(), Some("libstd-rust-web-1.96"));
        assert_eq!(library_in("  Depends: libstd-rust-web-dev\n"), None);
    }
}
