//! `cargo xtask ebpf`: compiles the XDP program, or checks that the object that is checked in is what
//! its sources make.
//!
//! The product is built with that object and needs none of this. To compile it takes a compiler with a
//! `core` for the kernel's virtual machine, and a linker; there are two ways to get them, each with a
//! module here, and both stay below the target folder. What they make is byte for byte the same on
//! every host, for one version of the compiler, so the versions are kept beside the object.

mod debian;
mod nightly;
mod toolchain;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::step::{self, Step};
use crate::workspace;
use toolchain::Toolchain;

/// A way to get a compiler: its name, and how it is made ready. An error says why it is no way here.
type Route = (&'static str, fn() -> Result<Toolchain>);

/// The first that works is taken. Debian's is a released compiler, so its object is checked in.
const ROUTES: &[Route] = &[("Debian's packages", debian::prepare), ("nightly", nightly::prepare)];

/// The program's own workspace.
const PROGRAM: &str = "ebpf/program/Cargo.toml";

/// Compiles the program with the first compiler that can be had, or checks it.
///
/// # Errors
/// When there is none, or as for [`check`].
pub fn run(only_check: bool) -> Result<()> {
    if only_check { check() } else { rebuild() }
}

fn rebuild() -> Result<()> {
    let mut refused = Vec::new();
    for (name, prepare) in ROUTES {
        let toolchain = match prepare() {
            Ok(toolchain) => toolchain,
            Err(error) => {
                refused.push(format!("{name}: {error:#}"));
                continue;
            }
        };
        let made = compile(&toolchain)?;
        fs::copy(&made, object()).with_context(|| format!("cannot copy {}", made.display()))?;
        fs::write(record(), toolchain.versions()?).context("cannot write the versions")?;
        println!("    ebpf/stoq.bpf.o is made by {name}");
        return Ok(());
    }
    bail!("no compiler for the XDP program can be had here\n{}", refused.join("\n"))
}

/// Compiles the program again and compares. Where no compiler of the recorded version can be had, it
/// says so and passes.
///
/// # Errors
/// When the program does not compile, or is not the object that is checked in.
pub fn check() -> Result<()> {
    let recorded = fs::read_to_string(record()).context("cannot read ebpf/stoq.bpf.versions")?;
    let mut skipped = Vec::new();
    for (name, prepare) in ROUTES {
        let toolchain = match prepare() {
            Ok(toolchain) => toolchain,
            Err(error) => {
                skipped.push(format!("{name}: {error:#}"));
                continue;
            }
        };
        let versions = toolchain.versions()?;
        if versions == recorded {
            return compare(&toolchain);
        }
        let (is, was) = (one_line(&versions), one_line(&recorded));
        skipped.push(format!("{name}: is {is}, but the object was made by {was}"));
    }
    println!(
        "==> the XDP program is NOT compiled again and compared\n    {}",
        skipped.join("\n    ")
    );
    Ok(())
}

fn compare(toolchain: &Toolchain) -> Result<()> {
    let made = compile(toolchain)?;
    let read =
        |path: PathBuf| fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
    if read(made)? == read(object())? {
        println!("    ebpf/stoq.bpf.o is what its sources make");
        return Ok(());
    }
    bail!(
        "ebpf/stoq.bpf.o is not what its sources make\n\
         what to do: run `cargo xtask ebpf`, test, and check the object in with the sources"
    )
}

/// Compiles and strips; returns where the object is.
fn compile(toolchain: &Toolchain) -> Result<PathBuf> {
    Step {
        log: "ebpf",
        title: "compile the XDP program",
        advice: "mend what the compiler says; remove the folder `ebpf` below the target folder when \
                 its tools are broken",
    }
    .run(&mut toolchain.build(&workspace::root().join(PROGRAM)))?;
    step::timed("leave out what is for debuggers", || toolchain.strip())
}

fn object() -> PathBuf {
    workspace::root().join("ebpf/stoq.bpf.o")
}

fn record() -> PathBuf {
    workspace::root().join("ebpf/stoq.bpf.versions")
}

fn one_line(versions: &str) -> String {
    versions.trim().replace('\n', ", ")
}

/// Clippy on the program: for this host, because it has none for the other.
///
/// # Errors
/// When clippy says something.
pub fn clippy() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["clippy", "--manifest-path", PROGRAM, "--locked", "--target-dir"]);
    command.arg(toolchain::folder("clippy")?).args(["--", "-D", "warnings"]);
    Step {
        log: "ebpf-clippy",
        title: "clippy on the XDP program",
        advice: "mend what clippy says",
    }
    .run(&mut command)?;
    Ok(())
}

/// The program's form.
///
/// # Errors
/// When it is another.
pub fn format() -> Result<()> {
    let advice = "run `cargo fmt --manifest-path ebpf/program/Cargo.toml`";
    let mut command = workspace::cargo();
    command.args(["fmt", "--manifest-path", PROGRAM, "--check", "--", "--color=never"]);
    Step { log: "ebpf-format", title: "format of the XDP program", advice }.run(&mut command)?;
    Ok(())
}
