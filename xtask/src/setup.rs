//! System packages: which ones are missing, and how to get them.
//!
//! Each is found by what it is for (a program on the path, a header, a library), never by asking
//! the package manager, so that a hand-made installation counts too. `test`, `gates`, `demo` and
//! `bench` call this first.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::Step;

/// For what a package is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// To build, and to run tests, demo and benchmarks.
    All,
    /// To measure coverage; only the gates do.
    Coverage,
    /// To check packages; only their making does.
    Package,
    /// To build and start programs for 64-bit ARM on another host.
    Cross,
}

/// How it shows that something is there.
enum Probe {
    /// A program on the path or in an `sbin` folder.
    Program(&'static str),
    /// libclang, which bindgen loads to read BoringSSL's headers.
    Libclang,
    /// Clang's own headers (`stddef.h` and the like), which libclang needs beside itself.
    ClangHeaders,
    /// `llvm-cov` and `llvm-profdata` of the LLVM that rustc was built with.
    LlvmOfRustc,
}

struct Need {
    probe: Probe,
    scope: Scope,
    /// Whether nothing can be built without it; the others are for tests, demo and benchmarks.
    to_build: bool,
    apt: &'static str,
    dnf: &'static str,
}

const fn build(probe: Probe, apt: &'static str, dnf: &'static str) -> Need {
    Need { probe, scope: Scope::All, to_build: true, apt, dnf }
}

const fn run_time(program: &'static str, apt: &'static str, dnf: &'static str) -> Need {
    Need { probe: Probe::Program(program), scope: Scope::All, to_build: false, apt, dnf }
}

const fn package(program: &'static str, apt: &'static str, dnf: &'static str) -> Need {
    Need { probe: Probe::Program(program), scope: Scope::Package, to_build: true, apt, dnf }
}

const fn cross(program: &'static str, apt: &'static str, dnf: &'static str) -> Need {
    Need { probe: Probe::Program(program), scope: Scope::Cross, to_build: true, apt, dnf }
}

const NEEDS: &[Need] = &[
    build(Probe::Program("cmake"), "cmake", "cmake"),
    build(Probe::Program("make"), "make", "make"),
    build(Probe::Program("g++"), "g++", "gcc-c++"),
    build(Probe::Program("git"), "git", "git"),
    build(Probe::Libclang, "libclang-dev", "clang-devel"),
    build(Probe::ClangHeaders, "libclang-dev", "clang"),
    run_time("ip", "iproute2", "iproute"),
    run_time("tc", "iproute2", "iproute-tc"),
    run_time("iperf3", "iperf3", "iperf3"),
    run_time("ethtool", "ethtool", "ethtool"),
    run_time("nft", "nftables", "nftables"),
    run_time("tcpdump", "tcpdump", "tcpdump"),
    run_time("strace", "strace", "strace"),
    run_time("ping", "iputils-ping", "iputils"),
    run_time("fping", "fping", "fping"),
    run_time("curl", "curl", "curl"),
    run_time("dbus-daemon", "dbus-daemon", "dbus-daemon"),
    run_time("dig", "bind9-dnsutils", "bind-utils"),
    run_time("delv", "bind9-dnsutils", "bind-utils"),
    run_time("debootstrap", "debootstrap", "debootstrap"),
    run_time("systemd-nspawn", "systemd-container", "systemd-container"),
    run_time("systemd-analyze", "systemd", "systemd"),
    run_time("rpm", "rpm", "rpm"),
    package("lintian", "lintian", "lintian"),
    package("rpmlint", "rpmlint", "rpmlint"),
    cross("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", "gcc-aarch64-linux-gnu"),
    cross("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu", "gcc-c++-aarch64-linux-gnu"),
    cross("qemu-aarch64-static", "qemu-user-static", "qemu-user-static-aarch64"),
    Need {
        probe: Probe::LlvmOfRustc,
        scope: Scope::Coverage,
        to_build: true,
        apt: "llvm-22",
        dnf: "llvm",
    },
];

/// Installs what is missing for `scope`, or says how to.
///
/// # Errors
/// When something without which nothing can be built is missing and may not be installed from
/// here: the error is the command to run. What only tests and demo need is a printed warning.
pub fn run(scope: Scope) -> Result<()> {
    let missing = missing(scope);
    if missing.is_empty() {
        println!("==> system packages: nothing is missing");
        return Ok(());
    }
    let manager = Manager::find();
    let packages = packages(&missing, &manager);
    match manager {
        Some(manager) if is_root() => manager.install(&packages)?,
        _ => return refuse(&missing, &advice(&packages, manager.as_ref())),
    }
    let still: Vec<_> = self::missing(scope).iter().map(|need| need.probe.name()).collect();
    if still.is_empty() {
        return Ok(());
    }
    bail!("installed {}, but did not find {}", packages.join(" "), still.join(", "))
}

fn missing(scope: Scope) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| need.scope == scope && !need.probe.is_there()).collect()
}

fn refuse(missing: &[&Need], advice: &str) -> Result<()> {
    let names: Vec<_> = missing.iter().map(|need| need.probe.name()).collect();
    let names = names.join(", ");
    if missing.iter().any(|need| need.to_build) {
        bail!("missing: {names}\nwhat to do: {advice}");
    }
    println!("==> missing for some of the tests: {names}\n    what to do: {advice}");
    Ok(())
}

fn packages(missing: &[&Need], manager: &Option<Manager>) -> Vec<&'static str> {
    let dnf = matches!(manager, Some(Manager::Dnf));
    let mut packages: Vec<_> =
        missing.iter().map(|need| if dnf { need.dnf } else { need.apt }).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn advice(packages: &[&str], manager: Option<&Manager>) -> String {
    let packages = packages.join(" ");
    match manager {
        Some(Manager::Apt) => {
            format!("sudo apt-get update && sudo apt-get install -y {packages}")
        }
        Some(Manager::Dnf) => format!("sudo dnf install -y {packages}"),
        None => format!("install what your system calls (Debian's names): {packages}"),
    }
}

/// The package managers that this knows.
enum Manager {
    Apt,
    Dnf,
}

impl Manager {
    fn find() -> Option<Self> {
        if find_program("apt-get").is_some() {
            Some(Self::Apt)
        } else {
            find_program("dnf").map(|_| Self::Dnf)
        }
    }

    fn install(&self, packages: &[&str]) -> Result<()> {
        let network = "look at the package manager's message above; is there a network?";
        let mut install = Command::new(match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
        });
        install.args(["install", "-y"]);
        if matches!(self, Self::Apt) {
            Step { log: "apt-update", title: "apt-get update", advice: network }
                .run(Command::new("apt-get").arg("update"))?;
            install.arg("--no-install-recommends").env("DEBIAN_FRONTEND", "noninteractive");
        }
        println!("    to install: {}", packages.join(" "));
        Step { log: "install", title: "install system packages", advice: network }
            .run(install.args(packages))?;
        Ok(())
    }
}

impl Probe {
    fn name(&self) -> &'static str {
        match self {
            Self::Program(name) => name,
            Self::Libclang => "libclang",
            Self::ClangHeaders => "clang's headers",
            Self::LlvmOfRustc => "llvm-cov of rustc's LLVM",
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Self::Program(name) => find_program(name).is_some(),
            Self::Libclang => has_libclang(),
            Self::ClangHeaders => has_clang_headers(),
            Self::LlvmOfRustc => crate::coverage::llvm_tools().is_some(),
        }
    }
}

/// Finds a program on the path, or where only root's path looks.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

fn has_libclang() -> bool {
    let mut folders = llvm_folders("lib");
    folders.extend(env::var_os("LIBCLANG_PATH").map(PathBuf::from));
    folders.extend(["/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from));
    folders.extend(entries("/usr/lib").into_iter().filter(|path| is_multiarch(path)));
    let is_libclang = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libclang.so") || name.starts_with("libclang-") && name.contains(".so")
    };
    folders.iter().any(|folder| entries(folder).iter().any(is_libclang))
}

fn has_clang_headers() -> bool {
    let mut folders = llvm_folders("lib/clang");
    folders.extend(["/usr/lib/clang", "/usr/lib64/clang"].map(PathBuf::from));
    let versions = folders.iter().flat_map(entries);
    versions.map(|version| version.join("include/stddef.h")).any(|header| header.is_file())
}

fn is_multiarch(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-linux-gnu")
}

/// `/usr/lib/llvm-*/below`, and Fedora's `/usr/lib64/llvm*/below`.
fn llvm_folders(below: &str) -> Vec<PathBuf> {
    let roots = entries("/usr/lib").into_iter().chain(entries("/usr/lib64"));
    roots
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("llvm")))
        .map(|path| path.join(below))
        .collect()
}

/// What is in a folder; nothing when it cannot be read.
fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Whether this process may install packages.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_uid(&status) == Some(0)
}

/// The second number of the `Uid:` line of `/proc/PID/status` (proc_pid_status(5)).
fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_uid_is_the_second() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(0));
        assert_eq!(effective_uid("Uid:\t0\t1000\t0\t0\n"), Some(1000));
        assert_eq!(effective_uid("Gid:\t0\t0\t0\t0\n"), None);
    }

    #[test]
    fn a_program_is_found_by_name_and_a_missing_one_is_not() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-here").is_none());
        assert!(!Probe::Program("no-such-program-here").is_there());
    }

    #[test]
    fn packages_are_named_once_and_as_the_manager_calls_them() {
        let missing: Vec<&Need> = NEEDS.iter().filter(|need| need.apt == "iproute2").collect();
        assert_eq!(packages(&missing, &Some(Manager::Apt)), ["iproute2"]);
        assert_eq!(packages(&missing, &Some(Manager::Dnf)), ["iproute", "iproute-tc"]);
    }

    #[test]
    fn what_cannot_be_built_without_is_an_error_with_the_command() {
        let cmake: Vec<&Need> = NEEDS.iter().filter(|need| need.apt == "cmake").collect();
        let command = advice(&packages(&cmake, &None), Some(&Manager::Apt));
        let error = refuse(&cmake, &command).unwrap_err().to_string();
        assert!(error.contains("sudo apt-get install -y cmake") || error.contains(&command));
        let ping: Vec<&Need> = NEEDS.iter().filter(|need| need.apt == "iputils-ping").collect();
        assert!(refuse(&ping, "").is_ok());
    }
}
