//! The state directory: its layout, its modes, and writing a file so that a crash leaves the old
//! one or the new one, whole.
//!
//! ```text
//! /var/lib/hypermesh         0700
//!   state.redb               journal, ledger snapshot, certificates issued, what this daemon is
//!   audit.log                the audit log
//!   identity.pem       0600  this node's certificate, keys and log proof; stoqd reads it
//!   root.crt                 the root's certificate; stoqd reads it
//!   restoring                while the state of a backup is completed by the members
//!   node.pem, issuer.pem, log.pem, zone.pem   0600  keys
//! ```

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where the state is unless the command line says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/hypermesh";

/// The socket of peers unless the command line says otherwise.
pub const DEFAULT_PEERS_SOCKET: &str = "/run/hypermesh/peers.sock";

/// The store's file.
pub const STORE: &str = "state.redb";
/// The audit log.
pub const AUDIT: &str = "audit.log";
/// Certificate, keys and log proof of this node.
pub const IDENTITY: &str = "identity.pem";
/// The root's certificate.
pub const ROOT: &str = "root.crt";
/// The node's keys, before there is a certificate and to renew it.
pub const NODE_KEYS: &str = "node.pem";
/// The issuer's keys.
pub const ISSUER_KEYS: &str = "issuer.pem";
/// The log's keys.
pub const LOG_KEYS: &str = "log.pem";
/// The key of the zones of names.
pub const ZONE_KEY: &str = "zone.pem";
/// That the state was restored and the members have still to be asked; the endpoints to be set then, a line each.
pub const RESTORING: &str = "restoring";

/// Longest file that is read whole, besides the store (64 KiB): a PEM file with a certificate, two
/// keys and a proof is below 24 KiB.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: expected to {what} it, got: {source}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// Makes the directory if there is none, and closes it to all other users.
    ///
    /// # Errors
    /// When it can be neither made nor closed.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| error(path, "make", source))?;
        let closed = std::fs::set_permissions(path, Permissions::from_mode(0o700));
        closed.map_err(|source| error(path, "close to other users", source))?;
        Ok(Self(path.to_owned()))
    }

    /// The path of a file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The text of a file; none if there is no such file.
    ///
    /// # Errors
    /// When it cannot be read, is too long, or no text.
    pub fn read(&self, name: &str) -> Result<Option<String>, FileError> {
        let path = self.path(name);
        let length = match std::fs::metadata(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(&path, "read", source)),
            Ok(metadata) => metadata.len(),
        };
        if length > MAX_FILE_BYTES {
            let long = format!("{length} bytes instead of at most {MAX_FILE_BYTES}");
            return Err(error(&path, "read", io::Error::other(long)));
        }
        let text = std::fs::read_to_string(&path);
        text.map(Some).map_err(|source| error(&path, "read", source))
    }

    /// Writes a file with `mode`: beside it first, then over it in one step. When it returns, the
    /// file survives a power cut.
    ///
    /// # Errors
    /// When it cannot be written; the old file is untouched then.
    pub fn write(&self, name: &str, mode: u32, content: &[u8]) -> Result<(), FileError> {
        let path = self.path(name);
        let beside = self.path(&format!(".{name}.new"));
        let written = write_beside(&beside, mode, content)
            .and_then(|()| std::fs::rename(&beside, &path))
            .and_then(|()| File::open(&self.0)?.sync_all());
        written.map_err(|source| error(&path, "write", source))
    }

    /// Removes a file, if it is there. When it returns, that survives a power cut.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        let path = self.path(name);
        match std::fs::remove_file(&path).and_then(|()| File::open(&self.0)?.sync_all()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(error(&path, "remove", source))
            }
            _ => Ok(()),
        }
    }
}

fn write_beside(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    // A crash may have left one, and its mode must not be taken over.
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(source),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn error(path: &Path, what: &'static str, source: io::Error) -> FileError {
    FileError { path: path.to_owned(), what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_directory_and_the_keys_are_closed_to_others() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/state");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let dir = Dir::open(&path).unwrap();
        dir.write(IDENTITY, 0o600, b"secret").unwrap();
        assert_eq!((mode(&path), mode(&dir.path(IDENTITY))), (0o700, 0o600));
    }

    #[test]
    fn a_file_is_replaced_whole_and_what_a_crash_left_is_no_obstacle() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        std::fs::write(dir.path(".root.crt.new"), "half").unwrap();
        dir.write(ROOT, 0o644, b"old").unwrap();
        dir.write(ROOT, 0o644, b"new").unwrap();
        assert_eq!(dir.read(ROOT).unwrap().unwrap(), "new");
        assert_eq!(dir.read(NODE_KEYS).unwrap(), None);
    }

    #[test]
    fn a_file_that_grew_beyond_reason_is_not_read() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        std::fs::write(dir.path(ROOT), vec![b'x'; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(dir.read(ROOT).unwrap_err().to_string().contains("at most"));
    }
}
