//! Line coverage of the critical paths, by `cargo llvm-cov`.
//!
//! Measured on the crates that hold protocol, forwarding and segmentation, identity, what is signed, and the
//! ledger. Lines of
//! tests do not count: only code that ships can be covered. Called by the gates.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, find_program};
use crate::step::Step;
use crate::style;
use crate::test::nextest_is_there;
use crate::tools::Tool;
use crate::workspace;

/// Fewest covered lines, in percent, in each of [`CRITICAL`].
const LINES_MIN_PERCENT: f64 = 80.0;

/// Package and folder of what must be covered.
const CRITICAL: &[(&str, &str)] = &[
    ("stoq", "dataplane/stoq/src"),
    ("stoq-tunnel", "dataplane/tunnel/src"),
    ("stoq-identity", "dataplane/identity/src"),
    ("stoq-mesh", "dataplane/mesh/src"),
    ("stoq-trustchain", "controlplane/trustchain/src"),
    ("stoq-audit", "controlplane/audit/src"),
    ("hypermesh-consensus", "consensus/src"),
];

/// What measures.
const LLVM_COV: Tool = Tool {
    name: "cargo-llvm-cov",
    version: "^0.9",
    options: &[],
    log: "install-llvm-cov",
    title: "install cargo-llvm-cov below the target folder",
};

/// How many of the least covered files are shown.
const LEAST_SHOWN: usize = 8;

/// Covered lines and all lines.
#[derive(Clone, Copy, Default)]
struct Count {
    covered: usize,
    all: usize,
}

impl Count {
    #[expect(clippy::cast_precision_loss, reason = "line counts are far below 2^52")]
    fn percent(self) -> f64 {
        if self.all == 0 { 0.0 } else { 100.0 * self.covered as f64 / self.all as f64 }
    }

    fn uncovered(self) -> usize {
        self.all - self.covered
    }
}

/// Runs the tests of the critical crates with instruments and checks what they reach.
///
/// # Errors
/// When a tool cannot be had, a test fails, or a crate is below [`LINES_MIN_PERCENT`].
pub fn check() -> Result<()> {
    let report = measure(&tool()?)?;
    let report =
        fs::read_to_string(&report).with_context(|| format!("cannot read {}", report.display()))?;
    let files = shipped_lines(&report)?;
    let mut low = Vec::new();
    for (package, folder) in CRITICAL {
        let count = total(&files, &workspace::root().join(folder));
        println!("    {package}: {:.1} % of {} lines", count.percent(), count.all);
        if count.percent() < LINES_MIN_PERCENT {
            low.push(*package);
        }
    }
    show_least_covered(&files);
    if low.is_empty() {
        return Ok(());
    }
    bail!(
        "fewer than {LINES_MIN_PERCENT} % of the lines covered in {}\nwhat to do: test what the \
         files above do; tests that need root count only when this runs as root",
        low.join(", ")
    )
}

/// Runs the tests and returns the report in lcov's format.
fn measure(tool: &Path) -> Result<PathBuf> {
    let report = workspace::scratch("coverage.lcov")?;
    let mut command = workspace::cargo();
    command.arg("llvm-cov");
    if nextest_is_there() {
        command.arg("nextest");
    }
    command.args(["--locked", "--lcov", "--output-path"]).arg(&report);
    command.args(CRITICAL.iter().flat_map(|(package, _)| ["-p", package]));
    command.env("PATH", with_folder_first(tool));
    if let Some((cov, profdata)) = llvm_tools() {
        command.env("LLVM_COV", cov).env("LLVM_PROFDATA", profdata);
    }
    if let Some(boringssl) = built_boringssl() {
        command.env("BORING_BSSL_PATH", boringssl.join("build"));
        command.env("BORING_BSSL_INCLUDE_PATH", boringssl.join("boringssl/include"));
    }
    Step {
        log: "coverage",
        title: "coverage of protocol, tunnel and identity",
        advice: "if `cargo xtask test` passes, look for what differs with instruments: timeouts, \
                 mostly",
    }
    .run(&mut command)?;
    Ok(report)
}

/// Finds cargo-llvm-cov, or installs it below the target folder.
fn tool() -> Result<PathBuf> {
    setup::run(setup::Scope::Coverage)?;
    LLVM_COV.find()
}

/// `PATH` with the folder of `tool` in front, so that cargo finds its subcommand.
fn with_folder_first(tool: &Path) -> OsString {
    let mut path = tool.parent().unwrap_or(tool).as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// `llvm-cov` and `llvm-profdata` of the LLVM that rustc was built with, from the system's packages
/// or from rustup's component: those of another version cannot read the profiles.
pub fn llvm_tools() -> Option<(PathBuf, PathBuf)> {
    let major = llvm_major(&rustc(&["-vV"])?)?;
    let of_system = |name: &str| find_program(&format!("{name}-{major}"));
    let of_rustup = |name: &str| {
        let folder = Path::new(rustc(&["--print", "target-libdir"])?.trim()).parent()?.join("bin");
        Some(folder.join(name)).filter(|program| program.is_file())
    };
    let find = |name: &str| of_system(name).or_else(|| of_rustup(name));
    Some((find("llvm-cov")?, find("llvm-profdata")?))
}

fn rustc(arguments: &[&str]) -> Option<String> {
    let output = Command::new("rustc").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()
}

/// The number in `LLVM version: 22.1.2` of `rustc -vV`.
fn llvm_major(verbose_version: &str) -> Option<u32> {
    let line = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

/// The BoringSSL that the ordinary build has made, so that the instrumented build, which has a
/// target folder of its own, need not spend minutes on another. The newest when there are several.
fn built_boringssl() -> Option<PathBuf> {
    let builds = fs::read_dir(workspace::target().join("debug/build")).ok()?;
    builds
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("boring-sys-"))
        .map(|entry| entry.path().join("out"))
        .filter(|out| out.join("boringssl/include/openssl/x509v3.h").is_file())
        .filter_map(|out| {
            let library = fs::metadata(out.join("build/libssl.a")).ok()?;
            Some((library.modified().ok()?, out))
        })
        .max()
        .map(|(_, out)| out)
}

/// The count of each file in an lcov report (geninfo(1)), lines of tests left out.
fn shipped_lines(report: &str) -> Result<BTreeMap<PathBuf, Count>> {
    let mut files: BTreeMap<PathBuf, Count> = BTreeMap::new();
    let mut apart = Vec::new();
    for record in report.split("end_of_record") {
        let Some(path) = record.lines().find_map(|line| line.strip_prefix("SF:")) else {
            continue;
        };
        let path = PathBuf::from(path);
        if !CRITICAL.iter().any(|(_, folder)| path.starts_with(workspace::root().join(folder))) {
            continue;
        }
        let tests = style::test_only(&path)?;
        apart.extend(tests.modules.iter().map(|module| module_path(&path, module)));
        let shipped = |line: &usize| !tests.lines.iter().any(|range| range.contains(line));
        files.insert(path, count_lines(record, shipped));
    }
    files.retain(|path, _| !apart.iter().any(|module| is_module_file(path, module)));
    Ok(files)
}

/// Counts the `DA:line,hits` of one file whose line numbers are `shipped`.
fn count_lines(record: &str, shipped: impl Fn(&usize) -> bool) -> Count {
    let mut count = Count::default();
    for data in record.lines().filter_map(|line| line.strip_prefix("DA:")) {
        let mut numbers = data.split(',').map(str::parse::<usize>);
        let (Some(Ok(line)), Some(Ok(hits))) = (numbers.next(), numbers.next()) else { continue };
        if shipped(&line) {
            count.all += 1;
            count.covered += usize::from(hits > 0);
        }
    }
    count
}

/// Where module `name`, declared in `file`, is: a path without ending.
fn module_path(file: &Path, name: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default();
    let folder = file.parent().unwrap_or(file);
    if stem == "lib" || stem == "main" || stem == "mod" {
        folder.join(name)
    } else {
        folder.join(stem).join(name)
    }
}

fn is_module_file(file: &Path, module: &Path) -> bool {
    file.with_extension("") == module || file.starts_with(module)
}

fn total(files: &BTreeMap<PathBuf, Count>, folder: &Path) -> Count {
    let inside = files.iter().filter(|(path, _)| path.starts_with(folder));
    inside.fold(Count::default(), |sum, (_, count)| Count {
        covered: sum.covered + count.covered,
        all: sum.all + count.all,
    })
}

fn show_least_covered(files: &BTreeMap<PathBuf, Count>) {
    let mut files: Vec<_> = files.iter().filter(|(_, count)| count.uncovered() > 0).collect();
    files.sort_by_key(|(_, count)| std::cmp::Reverse(count.uncovered()));
    for (path, count) in files.iter().take(LEAST_SHOWN) {
        let path = workspace::relative(path).display();
        println!(
            "    {:4} lines uncovered ({:.0} %) in {path}",
            count.uncovered(),
            count.percent()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shipped_lines_count() {
        let count = count_lines("SF:/x\nDA:1,4\nDA:2,0\nDA:9,0\n", |line| *line < 9);
        assert_eq!((count.covered, count.all), (1, 2));
        assert!((count.percent() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_crate_without_lines_is_not_covered() {
        assert!(Count::default().percent() < LINES_MIN_PERCENT);
    }

    #[test]
    fn the_llvm_of_rustc_is_read_from_its_version() {
        assert_eq!(llvm_major("rustc 1.95.0\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_found() {
        let beside_lib = module_path(Path::new("/a/src/lib.rs"), "tests");
        assert!(is_module_file(Path::new("/a/src/tests.rs"), &beside_lib));
        assert!(is_module_file(Path::new("/a/src/tests/deep.rs"), &beside_lib));
        let below = module_path(Path::new("/a/src/cid.rs"), "tests");
        assert!(is_module_file(Path::new("/a/src/cid/tests.rs"), &below));
        assert!(!is_module_file(Path::new("/a/src/cid/key.rs"), &below));
    }
}
