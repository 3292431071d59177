//! What the packages are checked for: the glibc that they need, and the distributions' own rules. Called
//! by the job once they are made.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::step::Step;
use crate::workspace;

/// The newest version of glibc whose symbols may be used: that of RHEL 9.
const GLIBC_MAX: (u32, u32) = (2, 34);

/// Refuses a binary that uses a symbol newer than [`GLIBC_MAX`].
///
/// # Errors
/// When it does, with the symbols; or when it cannot be read.
pub fn glibc(binary: &Path) -> Result<()> {
    let output = Command::new("objdump").arg("-T").arg(binary).output();
    let output = output.context("cannot start objdump; it is in binutils")?;
    ensure!(output.status.success(), "objdump cannot read {}", binary.display());
    let listing = String::from_utf8_lossy(&output.stdout);
    let needed = versions(&listing);
    let highest = needed.iter().map(|(version, _)| *version).max();
    let (major, minor) = highest.with_context(|| format!("{} uses no glibc", binary.display()))?;
    println!("    {}: glibc {major}.{minor}", binary.display());
    let newer: Vec<String> = needed
        .iter()
        .filter(|(version, _)| *version > GLIBC_MAX)
        .map(|((major, minor), symbol)| format!("{symbol} ({major}.{minor})"))
        .collect();
    ensure!(
        newer.is_empty(),
        "expected no symbol of glibc newer than {}.{}, got: {}\nwhat to do: build on the oldest \
         distribution that is to run it",
        GLIBC_MAX.0,
        GLIBC_MAX.1,
        newer.join(", ")
    );
    Ok(())
}

/// The versioned symbols of glibc that a binary takes from elsewhere, by the listing of `objdump -T`.
fn versions(listing: &str) -> Vec<((u32, u32), &str)> {
    let imported = listing.lines().filter(|line| line.contains("*UND*"));
    imported
        .filter_map(|line| {
            let mut words = line.split_whitespace().rev();
            let symbol = words.next()?;
            let version = words.next()?.trim_matches(['(', ')']).strip_prefix("GLIBC_")?;
            let mut numbers = version.split('.').map(str::parse);
            Some(((numbers.next()?.ok()?, numbers.next()?.ok()?), symbol))
        })
        .collect()
}

/// Runs lintian and rpmlint.
///
/// # Errors
/// When one of them has something to say that no override explains.
pub fn lint(packages: &[PathBuf]) -> Result<()> {
    let ending =
        |package: &&PathBuf, ending: &str| package.extension().is_some_and(|e| e == ending);
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--allow-root"]);
    lintian.args(packages.iter().filter(|package| ending(package, "deb")));
    Step {
        log: "lintian",
        title: "lintian",
        advice: "mend it, or say why not in packaging/deb/lintian-overrides",
    }
    .run(&mut lintian)?;
    let mut rpmlint = Command::new("rpmlint");
    rpmlint.arg("--strict").arg("--config").arg(workspace::root().join("packaging/rpmlint.toml"));
    rpmlint.args(packages.iter().filter(|package| ending(package, "rpm")));
    Step {
        log: "rpmlint",
        title: "rpmlint",
        advice: "mend it, or say why not in packaging/rpmlint.toml",
    }
    .run(&mut rpmlint)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.2.5) free
0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.36) arc4random
0000000000000000  w   D  *UND*\t0000000000000000              __gmon_start__
0000000000000000      DF *UND*\t0000000000000000 (GCC_3.0) _Unwind_Resume
00000000000a0000 g    DF .text\t0000000000000010 (GLIBC_2.99) ours
";

    #[test]
    fn symbols_of_glibc_are_found_with_their_versions_and_others_are_not() {
        assert_eq!(versions(LISTING), [((2, 2), "free"), ((2, 36), "arc4random")]);
    }
}
