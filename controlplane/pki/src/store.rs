//! How files get on disk: whole or not at all, with their mode from the first byte on.
//!
//! Called by the authority only. A file is written beside its destination, synced, then renamed.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::PkiError;

/// Mode of a private key: only its owner.
pub(crate) const SECRET: u32 = 0o600;
/// Mode of a certificate: anybody may read it.
pub(crate) const PUBLIC: u32 = 0o644;

/// Largest file that is read back: the two keys of ours in PEM are under 8 KiB.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What happens to a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Keep,
    Replace,
}

/// Makes a directory, and those above it, unless it is there.
pub(crate) fn create_directory(path: &Path, mode: u32) -> Result<(), PkiError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| failed(path, "create", source))
}

/// Writes `directory/name` atomically. With [`Existing::Keep`] an existing file is an error of
/// kind `AlreadyExists`, and untouched.
pub(crate) fn write(
    directory: &Path,
    name: &str,
    contents: &str,
    mode: u32,
    existing: Existing,
) -> io::Result<()> {
    let mut file: NamedTempFile = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    file.write_all(contents.as_bytes())?;
    file.as_file().sync_all()?;
    let path = directory.join(name);
    match existing {
        Existing::Keep => file.persist_noclobber(path)?,
        Existing::Replace => file.persist(path)?,
    };
    fs::File::open(directory)?.sync_all()
}

/// Reads `directory/name`, which is text of bounded length.
pub(crate) fn read(directory: &Path, name: &str) -> Result<String, PkiError> {
    let path = directory.join(name);
    let opened = fs::File::open(&path).map_err(|source| failed(&path, "read", source))?;
    let mut text = String::new();
    let read = opened.take(MAX_FILE_BYTES).read_to_string(&mut text);
    read.map_err(|source| failed(&path, "read", source))?;
    Ok(text)
}

pub(crate) fn failed(path: &Path, action: &'static str, source: io::Error) -> PkiError {
    PkiError::File { path: path.into(), action, source }
}
