//! The licences of the crates that are in the programs: their texts, each once, with the names of those that
//! it is for. Made for the packages by [`super::stage`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::PROGRAMS;
use super::stage::{entries, run};
use crate::workspace;

/// How the names of files that are licences begin.
const BEGINNINGS: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];

/// Most bytes of one licence; the longest known is BoringSSL's, below 32 KiB.
const TEXT_MAX: u64 = 256 << 10;

/// The list of all crates with their licences' names, then the texts.
///
/// # Errors
/// When cargo cannot tell the crates, or the sources of one are not there.
pub fn texts() -> Result<String> {
    let mut tree = workspace::cargo();
    tree.args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}|{l}"]);
    let listed = run(tree.args(PROGRAMS.iter().flat_map(|program| ["-p", program])))?;
    let crates = foreign(&String::from_utf8_lossy(&listed));
    ensure!(!crates.is_empty(), "`cargo tree` names no crate of others");
    let sources = sources()?;
    let mut by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut all = String::from("Crates in these programs, and their licences.\n\n");
    for (name, licence) in &crates {
        all += &format!("{name}: {licence}\n");
        let folder = sources.iter().map(|folder| folder.join(name)).find(|path| path.is_dir());
        let folder = folder.with_context(|| format!("no sources of {name}; run `cargo fetch`"))?;
        for text in licences_in(&folder)? {
            by_text.entry(text).or_default().insert(name.clone());
        }
    }
    for (text, names) in &by_text {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        all += &format!("\n{}\n{}\n\n{text}\n", "=".repeat(80), names.join(", "));
    }
    Ok(all)
}

/// `NAME-VERSION` and licence of the crates that are not of this workspace, by the lines of `cargo tree`.
fn foreign(listing: &str) -> BTreeSet<(String, String)> {
    let lines = listing.lines().filter_map(|line| line.split_once('|'));
    // Our own have their path in parentheses.
    let foreign = lines.filter(|(package, _)| !package.contains("(/"));
    foreign
        .filter_map(|(package, licence)| {
            let mut words = package.split_whitespace();
            let name = words.next()?;
            let version = words.next()?.strip_prefix('v')?;
            // A crate that was named before is marked so behind the last column.
            let licence = licence.trim_end_matches(" (*)");
            Some((format!("{name}-{version}"), licence.to_owned()))
        })
        .collect()
}

/// Where cargo keeps the sources of crates.
fn sources() -> Result<Vec<PathBuf>> {
    let home = super::build::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    entries(&home.join("registry/src"))
}

/// The licences in a crate, and in what it brings along of others (`deps/NAME/`).
fn licences_in(folder: &Path) -> Result<Vec<String>> {
    let mut folders = vec![folder.to_owned()];
    let brought = folder.join("deps");
    if brought.is_dir() {
        folders.extend(entries(&brought)?);
    }
    let mut texts = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let files = entries(folder)?;
        for file in files.iter().filter(|file| is_licence(file)) {
            let text = fs::read(file).with_context(|| file.display().to_string())?;
            texts.push(String::from_utf8_lossy(&text).replace('\r', "").trim().to_owned());
        }
    }
    Ok(texts)
}

fn is_licence(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    let is_short = || file.metadata().is_ok_and(|data| data.is_file() && data.len() <= TEXT_MAX);
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) && is_short()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_crates_are_left_out_and_others_are_named_once() {
        let listing = "stoqd v0.1.0 (/src/dataplane/stoqd)|Apache-2.0 OR MIT\n\
                       anyhow v1.0.1|MIT OR Apache-2.0\nanyhow v1.0.1|MIT OR Apache-2.0 (*)\n";
        let expected = ("anyhow-1.0.1".to_owned(), "MIT OR Apache-2.0".to_owned());
        assert_eq!(foreign(listing), BTreeSet::from([expected]));
    }
}
