//! Reads what the stages judge: files below `/proc`, `/sys` and `/dev`, and the firewall's rules.
//!
//! Called by the stages. A [`Host`] may be another root directory, with the files of another host.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Most bytes read of one file or answer: a firewall with thousands of rules, or the socket table
/// of a busy host, is below.
const MAX_BYTES: u64 = 4 << 20;

/// Most entries looked at in one directory: more cores or interfaces than any edge host has.
const MAX_ENTRIES: usize = 1024;

/// What the firewall says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruleset {
    /// The text of `nft list ruleset`.
    Nftables(String),
    /// It could not be asked, and why.
    Unknown(String),
}

/// A host to look at.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    ruleset: Ruleset,
}

impl Host {
    /// This host, now.
    #[must_use]
    pub fn this() -> Self {
        Self { root: PathBuf::from("/"), ruleset: list_ruleset() }
    }

    /// The host whose `/proc`, `/sys` and `/dev` are below `root`.
    #[must_use]
    pub fn at(root: &Path, ruleset: Ruleset) -> Self {
        Self { root: root.into(), ruleset }
    }

    pub(crate) fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The trimmed text of a file such as `proc/version`; `None` when it can not be read.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let mut text = Vec::new();
        let file = fs::File::open(self.root.join(path)).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The value of a sysctl such as `net.core.rmem_max`.
    pub(crate) fn sysctl(&self, key: &str) -> Option<String> {
        self.read(&format!("proc/sys/{}", key.replace('.', "/")))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The names in a directory, sorted; empty when it can not be read.
    pub(crate) fn entries(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(path)) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.take(MAX_ENTRIES).collect();
        names.sort();
        names
    }
}

fn list_ruleset() -> Ruleset {
    let spawned = Command::new("nft")
        .args(["list", "ruleset"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Ruleset::Unknown(format!("nft can not be run: {error}")),
    };
    let mut text = String::new();
    let read = child.stdout.take().map(|out| out.take(MAX_BYTES).read_to_string(&mut text));
    match (read, child.wait()) {
        (Some(Ok(_)), Ok(status)) if status.success() => Ruleset::Nftables(text),
        (_, Ok(status)) => Ruleset::Unknown(format!("nft ended with {status}")),
        (_, Err(error)) => Ruleset::Unknown(format!("nft can not be awaited: {error}")),
    }
}
