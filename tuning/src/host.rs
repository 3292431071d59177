//! Reads what the stages judge: files below `/proc`, `/sys` and `/dev`, the firewall's rules, and
//! what network drivers answer.
//!
//! Called by the stages; settings are changed through it by `setting` alone. A [`Host`] may be
//! another root directory, with the files and the drivers of another host.

use std::cell::OnceCell;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::ethtool::{Ethtool, Kernel};

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

/// A host to look at, and to set.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    /// Asked for when it is first looked at: that starts a program.
    ruleset: OnceCell<Ruleset>,
    ethtool: Box<dyn Ethtool>,
}

impl Host {
    /// This host, now.
    #[must_use]
    pub fn this() -> Self {
        Self { root: PathBuf::from("/"), ruleset: OnceCell::new(), ethtool: Box::new(Kernel) }
    }

    /// The host whose `/proc`, `/sys` and `/dev` are below `root`, with these drivers.
    #[must_use]
    pub fn at(root: &Path, ruleset: Ruleset, ethtool: Box<dyn Ethtool>) -> Self {
        Self { root: root.into(), ruleset: ruleset.into(), ethtool }
    }

    pub(crate) fn ethtool(&self) -> &dyn Ethtool {
        &*self.ethtool
    }

    pub(crate) fn ruleset(&self) -> &Ruleset {
        self.ruleset.get_or_init(list_ruleset)
    }

    /// The trimmed text of a file such as `proc/version`; `None` when it can not be read.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        self.try_read(path).ok()
    }

    /// The trimmed text of a file.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn try_read(&self, path: &str) -> io::Result<String> {
        let mut text = Vec::new();
        let file = fs::File::open(self.root.join(path))?;
        file.take(MAX_BYTES).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// Writes a file of the kernel's, which must be there, with one call.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).truncate(true).open(self.root.join(path))?;
        file.write_all(text.as_bytes())
    }

    /// Writes a file that need not be there, nor its directory.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn place(&self, path: &str, text: &str) -> io::Result<()> {
        let path = self.root.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)
    }

    /// Removes a file, if it is there, and its directory, if that is empty then.
    ///
    /// # Errors
    /// What the kernel says of the file; a directory with other files in it is no error.
    pub(crate) fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.root.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // It stays where other drop-ins are in it.
        let _others = path.parent().map(fs::remove_dir);
        Ok(())
    }

    /// Whether this is the host that the process runs on, not the files of another.
    pub(crate) fn is_this(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Which boot this is; `None` where the kernel does not say.
    pub(crate) fn boot(&self) -> Option<String> {
        self.read("proc/sys/kernel/random/boot_id").filter(|id| !id.is_empty())
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
