//! The stage for resolv.conf(5): this server becomes the one that the host asks.
//!
//! Owns the file while it is applied, and the copy of what was there before. The forwarder reads that
//! copy, so that what the host asked before is asked still. The servers from before are not kept as
//! further servers: some resolvers ask all of them at once, and would tell them the mesh's names.
//! Called by `stoqctl`, as root.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use stoq_tuning::{Finding, Verdict};

use super::{Change, HostError};
use crate::forward::nameservers;

/// The file.
pub const PATH: &str = "/etc/resolv.conf";

/// Where its original is kept.
pub const ORIGINAL: &str = "/etc/resolv.conf.before-hypermesh";

/// First line of what this stage writes; by it the file is known again.
const MARK: &str = "# Written by hypermesh, which forwards to the resolvers from before.";

/// Second line when there was a file.
const KEPT: &str = "# The file from before is kept; to restore it: stoqctl names undo resolv-conf";

/// Second line when there was none.
const NONE: &str = "# There was no file before; to remove this one: stoqctl names undo resolv-conf";

/// Lines that go on to hold, whoever is asked.
const PRESERVED: [&str; 4] = ["search", "domain", "options", "sortlist"];

const STAGE: &str = "resolv-conf";

/// What is to stand in resolv.conf.
#[derive(Clone, Debug)]
pub struct ResolvConf {
    /// The file: [`PATH`].
    pub path: PathBuf,
    /// Where its original is kept: [`ORIGINAL`].
    pub original: PathBuf,
    /// Where names are served for this host: [`crate::LOOPBACK`].
    pub server: IpAddr,
}

impl ResolvConf {
    /// Whether the host asks here. Changes nothing, needs no root.
    #[must_use]
    pub fn check(&self) -> Finding {
        let is = match self.read() {
            Ok(Some(text)) if nameservers(&text) == [self.server] => {
                return Finding::good(STAGE, format!("the host asks {}", self.server));
            }
            Ok(Some(text)) => format!("the host asks {:?}", nameservers(&text)),
            Ok(None) => "no such file".to_owned(),
            Err(error) => error.to_string(),
        };
        Finding {
            stage: STAGE,
            verdict: Verdict::Advice,
            is,
            should: format!("the host asks {}", self.server),
            why: "programs of this host find the mesh's names only if their resolver asks here",
            mend: format!("stoqctl names apply {STAGE}"),
        }
    }

    /// Keeps the original and writes the file. Doing it again does no harm; if another program has
    /// written the file meanwhile, what that wrote is the original from then on.
    ///
    /// # Errors
    /// When the file is a link, because whoever made it will write again, and when a file cannot be
    /// read or written.
    pub fn apply(&self) -> Result<Change, HostError> {
        let before = self.read()?;
        let (ours, source) = match &before {
            Some(text) if is_ours(text) => (true, text.as_str()),
            Some(text) => (false, text.as_str()),
            None => (false, ""),
        };
        let was_none = before.is_none() || (ours && source.lines().nth(1) == Some(NONE));
        let text = self.text(source, if was_none { NONE } else { KEPT });
        if before.as_deref() == Some(&text) {
            return Ok(Change::None);
        }
        match &before {
            Some(original) if !ours => put(&self.original, original, Some(&self.path))?,
            None => remove(&self.original)?,
            _ => {}
        }
        put(&self.path, &text, Some(&self.path))?;
        Ok(Change::Made)
    }

    /// Restores the file exactly. What another program has written meanwhile stays.
    ///
    /// # Errors
    /// When the original is gone, and when a file cannot be read or written.
    pub fn undo(&self) -> Result<Change, HostError> {
        let text = match self.read() {
            Err(HostError::Managed { .. }) | Ok(None) => None,
            read => read?,
        };
        let Some(text) = text.filter(|text| is_ours(text)) else {
            let left = self.original.exists();
            remove(&self.original)?;
            return Ok(if left { Change::Made } else { Change::None });
        };
        if text.lines().nth(1) == Some(NONE) {
            remove(&self.path)?;
            return Ok(Change::Made);
        }
        let gone =
            || HostError::OriginalGone { original: self.original.clone(), path: self.path.clone() };
        let original = load(&self.original)?.ok_or_else(gone)?;
        put(&self.path, &original, Some(&self.original))?;
        remove(&self.original)?;
        Ok(Change::Made)
    }

    /// The file's text; `None` when there is none.
    fn read(&self) -> Result<Option<String>, HostError> {
        match fs::read_link(&self.path) {
            Ok(target) => Err(HostError::Managed {
                path: self.path.clone(),
                target,
                server: self.server.to_string(),
            }),
            Err(_) => load(&self.path),
        }
    }

    fn text(&self, source: &str, kept: &str) -> String {
        let preserved = |line: &&str| {
            line.split_whitespace().next().is_some_and(|word| PRESERVED.contains(&word))
        };
        let mut lines = vec![MARK.to_owned(), kept.to_owned()];
        lines.push(format!("nameserver {}", self.server));
        lines.extend(source.lines().filter(preserved).map(str::to_owned));
        lines.push(String::new());
        lines.join("\n")
    }
}

fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(MARK)
}

fn load(path: &Path) -> Result<Option<String>, HostError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "read", error)),
    }
}

fn remove(path: &Path) -> Result<(), HostError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, "remove", error)),
        _ => Ok(()),
    }
}

/// Writes a file as a whole, with the mode and the owner of `like`. A file that is mounted, as in
/// containers and network namespaces, cannot be replaced and is written in its place.
fn put(path: &Path, text: &str, like: Option<&Path>) -> Result<(), HostError> {
    let like = like.and_then(|like| fs::metadata(like).ok());
    let written = replace(path, text, like.as_ref()).or_else(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => fs::write(path, text),
        _ => Err(error),
    });
    written.map_err(|error| failed(path, "write", error))
}

fn replace(path: &Path, text: &str, like: Option<&fs::Metadata>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mode = like.map_or(0o644, |like| like.mode() & 0o7777);
    let mut file = tempfile::Builder::new()
        .prefix(".resolv.conf.")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    if let Some(like) = like {
        chown(file.path(), Some(like.uid()), Some(like.gid()))?;
    }
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(directory)?.sync_all()
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> HostError {
    HostError::File { path: path.into(), action, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const BEFORE: &str = "# mine\nsearch example.org\nnameserver 192.0.2.1\noptions edns0\n\n";

    fn stage(directory: &TempDir) -> ResolvConf {
        ResolvConf {
            path: directory.path().join("resolv.conf"),
            original: directory.path().join("original"),
            server: crate::LOOPBACK.into(),
        }
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn it_is_undone_exactly_however_often_it_was_applied() {
        let directory = TempDir::new().unwrap();
        let stage = stage(&directory);
        fs::write(&stage.path, BEFORE).unwrap();
        fs::set_permissions(&stage.path, Permissions::from_mode(0o640)).unwrap();
        assert_eq!(stage.check().verdict, Verdict::Advice);
        assert_eq!(stage.apply().unwrap(), Change::Made);
        assert_eq!(stage.apply().unwrap(), Change::None);
        assert_eq!(stage.check().verdict, Verdict::Good);
        let ours = text(&stage.path);
        assert_eq!(nameservers(&ours), [stage.server]);
        assert!(ours.contains("search example.org\noptions edns0\n"), "{ours}");
        let mut moved = stage.clone();
        moved.server = "127.0.92.54".parse().unwrap();
        assert_eq!(moved.apply().unwrap(), Change::Made, "another address, the same original");
        assert_eq!(stage.undo().unwrap(), Change::Made);
        assert_eq!(text(&stage.path), BEFORE);
        assert_eq!(fs::metadata(&stage.path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(stage.undo().unwrap(), Change::None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn where_there_was_no_file_there_is_none_afterwards() {
        let directory = TempDir::new().unwrap();
        let stage = stage(&directory);
        fs::write(&stage.original, "of an earlier life").unwrap();
        assert_eq!(stage.apply().unwrap(), Change::Made);
        assert_eq!(stage.apply().unwrap(), Change::None);
        assert_eq!(stage.undo().unwrap(), Change::Made);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_another_program_wrote_meanwhile_is_kept() {
        let directory = TempDir::new().unwrap();
        let stage = stage(&directory);
        fs::write(&stage.path, BEFORE).unwrap();
        stage.apply().unwrap();
        fs::write(&stage.path, "nameserver 192.0.2.2\n").unwrap();
        stage.apply().unwrap();
        stage.undo().unwrap();
        assert_eq!(text(&stage.path), "nameserver 192.0.2.2\n");
        stage.apply().unwrap();
        fs::write(&stage.path, "nameserver 192.0.2.3\n").unwrap();
        stage.undo().unwrap();
        assert_eq!(text(&stage.path), "nameserver 192.0.2.3\n");
        assert!(!stage.original.exists());
    }

    #[test]
    fn a_link_is_refused_and_says_how() {
        let directory = TempDir::new().unwrap();
        let stage = stage(&directory);
        let target = directory.path().join("stub");
        fs::write(&target, BEFORE).unwrap();
        symlink(&target, &stage.path).unwrap();
        let error = stage.apply().unwrap_err().to_string();
        assert!(
            error.contains("another program keeps") && error.contains("cp --remove"),
            "{error}"
        );
        assert_eq!(stage.undo().unwrap(), Change::None);
        assert_eq!(fs::read_link(&stage.path).unwrap(), target);
        assert_eq!(text(&target), BEFORE);
    }

    #[test]
    fn a_lost_original_is_said_and_nothing_is_removed() {
        let directory = TempDir::new().unwrap();
        let stage = stage(&directory);
        fs::write(&stage.path, BEFORE).unwrap();
        stage.apply().unwrap();
        fs::remove_file(&stage.original).unwrap();
        let error = stage.undo().unwrap_err().to_string();
        assert!(error.contains("nameserver ADDRESS"), "{error}");
        assert!(stage.path.exists());
    }
}
