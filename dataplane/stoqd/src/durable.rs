//! Files that outlive the process: replaced as a whole, so that after a crash or a power cut there is the
//! old one or the new one, never a part.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file by one that only its owner may read.
///
/// # Errors
/// What the kernel said; the old file is there then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Reads a file of at most so many bytes; `None` if there is none.
///
/// # Errors
/// What the kernel said, or that the file is longer.
pub fn read(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("a file of more than {most} bytes")));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_its_size_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(read(&path, 10).unwrap(), None);
        replace(&path, b"old").unwrap();
        // What a crash in the middle of a write leaves.
        fs::write(path.with_extension("new"), b"half of").unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"old");
        replace(&path, b"the new one").unwrap();
        assert_eq!(read(&path, 11).unwrap().unwrap(), b"the new one");
        assert!(read(&path, 10).is_err());
    }
}
