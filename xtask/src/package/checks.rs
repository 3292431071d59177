//! What the packages are checked for: the libraries that the programs need, paths of this host in them, and the
//! distributions' own rules. Called by the job.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::arch::Architecture;
use crate::step::Step;
use crate::workspace;

/// The libraries that the manifest names as dependencies (`depends`), as the loader knows them.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6"];

/// The loader itself comes with glibc; its name ends differently on each architecture.
const LOADER: &str = "ld-linux-";

/// The newest versions of symbols that may be used, of each library: those of RHEL 9 (glibc 2.34, GCC 11).
const NEWEST: [(&str, &[u32]); 4] =
    [("GLIBC", &[2, 34]), ("GLIBCXX", &[3, 4, 29]), ("CXXABI", &[1, 3, 13]), ("GCC", &[11, 0, 0])];

/// A symbol that a binary takes from elsewhere.
#[derive(Debug, PartialEq, Eq)]
struct Symbol<'a> {
    name: &'a str,
    /// The library's name for its versions.
    family: &'a str,
    version: Vec<u32>,
}

/// Refuses a binary that needs a library other than [`LIBRARIES`], or a symbol newer than [`NEWEST`].
///
/// # Errors
/// When it does, with what it needs; or when it cannot be read.
pub fn libraries(binary: &Path, architecture: &Architecture) -> Result<()> {
    let mut objdump = Command::new(architecture.tool("objdump"));
    objdump.args(["-T", "-p"]).arg(binary);
    let listing = super::stage::run(&mut objdump).context("objdump is in binutils")?;
    let listing = String::from_utf8_lossy(&listing);
    let needed: Vec<&str> = needed(&listing).collect();
    let other = needed.iter().find(|name| !LIBRARIES.contains(name) && !name.starts_with(LOADER));
    if let Some(other) = other {
        bail!(
            "expected {} to need no library but {}, got {other}\nwhat to do: name its package in \
             packaging/package.toml (`depends`) and the library here",
            binary.display(),
            LIBRARIES.join(", ")
        );
    }
    let symbols = symbols(&listing);
    let newest = NEWEST.iter().filter_map(|(family, _)| newest(&symbols, family));
    let newest: Vec<String> = newest.map(|symbol| symbol.to_string()).collect();
    ensure!(!newest.is_empty(), "{} uses no glibc", binary.display());
    println!("    {}: {}", name(binary), newest.join(", "));
    refuse_newer(&symbols)
}

fn refuse_newer(symbols: &[Symbol<'_>]) -> Result<()> {
    let newer = symbols.iter().filter(|symbol| !symbol.is_old_enough());
    let newer: Vec<String> = newer.map(Symbol::to_string).collect();
    let bounds = NEWEST.map(|(family, version)| format!("{family}_{}", dotted(version)));
    ensure!(
        newer.is_empty(),
        "expected no symbol newer than {}, got: {}\nwhat to do: build on the oldest distribution that \
         is to run it",
        bounds.join(", "),
        newer.join(", ")
    );
    Ok(())
}

impl Symbol<'_> {
    fn is_old_enough(&self) -> bool {
        NEWEST.iter().any(|(family, newest)| *family == self.family && *self.version <= **newest)
    }
}

impl std::fmt::Display for Symbol<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}_{} ({})", self.family, dotted(&self.version), self.name)
    }
}

fn dotted(version: &[u32]) -> String {
    version.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

fn newest<'a, 'b>(symbols: &'a [Symbol<'b>], family: &str) -> Option<&'a Symbol<'b>> {
    symbols.iter().filter(|symbol| symbol.family == family).max_by_key(|symbol| &symbol.version)
}

/// The libraries that a binary names, by the listing of `objdump -p`.
fn needed(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim)
}

/// The versioned symbols that a binary takes from elsewhere, by the listing of `objdump -T`.
fn symbols(listing: &str) -> Vec<Symbol<'_>> {
    let imported = listing.lines().filter(|line| line.contains("*UND*"));
    imported
        .filter_map(|line| {
            let mut words = line.split_whitespace().rev();
            let name = words.next()?;
            let version = words.next()?.strip_prefix('(')?.strip_suffix(')')?;
            let (family, version) = version.split_once('_')?;
            let version = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
            Some(Symbol { name, family, version })
        })
        .collect()
}

/// Refuses a binary in which one of `paths` of this host is left: it would have other bytes elsewhere.
///
/// # Errors
/// When there is one; or when the binary cannot be read.
pub fn paths(binary: &Path, paths: &[String]) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| binary.display().to_string())?;
    let is_in = |path: &&String| bytes.windows(path.len()).any(|part| part == path.as_bytes());
    if let Some(path) = paths.iter().find(is_in) {
        bail!(
            "expected no path of this host in {}, got {path}\nwhat to do: `strings` shows where; \
             take `env!(\"CARGO_MANIFEST_DIR\")` and the like out of what ships",
            name(binary)
        );
    }
    Ok(())
}

/// Refuses packages of which one has other bytes than the one of the same name among `again`.
///
/// # Errors
/// When they differ, with both; or when one cannot be read.
pub fn same_bytes(packages: &[PathBuf], again: &[PathBuf]) -> Result<()> {
    for package in packages {
        let other = again.iter().find(|other| name(other) == name(package));
        let other = other.with_context(|| format!("{} was not made again", name(package)))?;
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        ensure!(
            read(package)? == read(other)?,
            "expected the same bytes, got two files that differ: {} and {}\nwhat to do: `diffoscope` \
             shows where",
            package.display(),
            other.display()
        );
        println!("    the same bytes: {}", name(package));
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs lintian and rpmlint, and shows what they say.
///
/// # Errors
/// When one of them has something to say that no override explains.
pub fn lint(packages: &[PathBuf]) -> Result<()> {
    let ending =
        |package: &&PathBuf, ending: &str| package.extension().is_some_and(|e| e == ending);
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--allow-root"]);
    lintian.args(packages.iter().filter(|package| ending(package, "deb")));
    let log = Step {
        log: "lintian",
        title: "lintian",
        advice: "mend it, or say why not in packaging/deb/lintian-overrides",
    }
    .run(&mut lintian)?;
    let said = fs::read_to_string(log)?;
    println!("    {}", if said.is_empty() { "nothing to say" } else { said.trim_end() });
    let mut rpmlint = Command::new("rpmlint");
    rpmlint.arg("--strict").arg("--config").arg(workspace::root().join("packaging/rpmlint.toml"));
    rpmlint.args(packages.iter().filter(|package| ending(package, "rpm")));
    let log = Step {
        log: "rpmlint",
        title: "rpmlint",
        advice: "mend it, or say why not in packaging/rpmlint.toml",
    }
    .run(&mut rpmlint)?;
    println!("    {}", crate::step::last_lines(&log, 1).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
  NEEDED               libc.so.6
  NEEDED               ld-linux-x86-64.so.2
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.2.5) free
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.36) arc4random
0000000000000000      DF *UND*\t0000000000000000 (GLIBCXX_3.4.29) _ZSt9terminatev
0000000000000000  w   D  *UND*\t0000000000000000              __gmon_start__
00000000000a0000 g    DF .text\t0000000000000010 (GLIBC_2.99) ours
";

    #[test]
    fn what_a_binary_takes_from_elsewhere_is_found_and_its_own_is_not() {
        let found = symbols(LISTING);
        let names: Vec<&str> = found.iter().map(|symbol| symbol.name).collect();
        assert_eq!(names, ["free", "arc4random", "_ZSt9terminatev"]);
        assert_eq!(newest(&found, "GLIBC").unwrap().to_string(), "GLIBC_2.36 (arc4random)");
        assert_eq!(needed(LISTING).collect::<Vec<_>>(), ["libc.so.6", "ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn what_rhel_9_does_not_have_is_refused_by_name_and_what_it_has_is_not() {
        let mut found = symbols(LISTING);
        let error = refuse_newer(&found).unwrap_err().to_string();
        assert!(error.contains("GLIBC_2.36 (arc4random)"), "{error}");
        assert!(!error.contains("free") && !error.contains("terminate"), "{error}");
        found.retain(|symbol| symbol.name != "arc4random");
        refuse_newer(&found).unwrap();
        found.push(Symbol { name: "other", family: "OPENSSL", version: vec![1] });
        refuse_newer(&found).unwrap_err();
    }

    #[test]
    fn a_path_of_this_host_is_refused() {
        let binary = workspace::scratch("unit-paths").unwrap();
        fs::write(&binary, b"\0\x7fELF /home/someone/src/main.rs\0").unwrap();
        let error = paths(&binary, &["/elsewhere".into(), "/home/someone".into()]).unwrap_err();
        assert!(error.to_string().contains("/home/someone"), "{error}");
        paths(&binary, &["/elsewhere".into()]).unwrap();
    }

    #[test]
    fn packages_that_differ_or_are_missing_are_refused() {
        let file = |folder: &str, content: &str| {
            let folder = workspace::scratch("unit-same-bytes").unwrap().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("a.deb"), content).unwrap();
            folder.join("a.deb")
        };
        let (first, same, other) = (file("1", "x"), file("2", "x"), file("3", "y"));
        let packages = [first];
        same_bytes(&packages, &[same]).unwrap();
        same_bytes(&packages, &[other]).unwrap_err();
        same_bytes(&packages, &[]).unwrap_err();
    }
}
