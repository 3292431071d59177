//! A directory of backups: each has the time for a name, and so many of the newest stay.
//!
//! For `stoqctl backup --into`, which a timer runs. A backup comes in by a rename, so that whoever copies the
//! directory elsewhere never finds half of one. Files of other names are nobody's business here.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::Failure;

/// Before the time in a backup's name.
const PREFIX: &str = "hypermesh-";

/// After it.
const SUFFIX: &str = ".backup";

/// Digits of the time, in seconds since 1970: with so many, the order of names is that of times.
const DIGITS: usize = 12;

/// What is being written.
const PART: &str = "hypermesh.part";

/// Entries of the directory at most: ten times what `--keep` takes, so that reaching it means that the
/// directory is used for something else.
const ENTRIES_MAX: usize = 10_000;

/// The directory.
#[derive(Debug)]
pub struct Shelf<'a> {
    directory: &'a Path,
}

impl<'a> Shelf<'a> {
    /// Makes the directory, for this user alone, unless it is there; what an interrupted backup left is
    /// removed.
    pub fn open(directory: &'a Path) -> Result<Self, Failure> {
        let shelf = Self { directory };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| Failure::writing(directory.to_owned(), &error))?;
        match fs::remove_file(shelf.part()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::writing(shelf.part(), &error))
            }
            _ => Ok(shelf),
        }
    }

    /// Where the next backup is written.
    pub fn part(&self) -> PathBuf {
        self.directory.join(PART)
    }

    /// Gives a complete backup its name. One of the same second is replaced.
    pub fn put(&self, part: &Path, now: SystemTime) -> Result<PathBuf, Failure> {
        let at_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let path = self.directory.join(format!("{PREFIX}{at_s:0DIGITS$}{SUFFIX}"));
        let named = fs::rename(part, &path).and_then(|()| File::open(self.directory)?.sync_all());
        named.map_err(|error| Failure::writing(path.clone(), &error))?;
        Ok(path)
    }

    /// Removes all but the newest `keep` backups, and returns how many that were.
    pub fn prune(&self, keep: usize) -> Result<usize, Failure> {
        let failed = |error: &io::Error| Failure::writing(self.directory.to_owned(), error);
        let mut names = Vec::new();
        for (at, entry) in fs::read_dir(self.directory).map_err(|e| failed(&e))?.enumerate() {
            if at >= ENTRIES_MAX {
                let text =
                    format!("expected a directory of backups alone, got {ENTRIES_MAX} files");
                return Err(failed(&io::Error::other(text)));
            }
            let name = entry.map_err(|error| failed(&error))?.file_name();
            names.extend(name.into_string().ok().filter(|name| is_backup(name)));
        }
        names.sort_unstable();
        let old = &names[..names.len().saturating_sub(keep)];
        for name in old {
            fs::remove_file(self.directory.join(name)).map_err(|error| failed(&error))?;
        }
        Ok(old.len())
    }
}

fn is_backup(name: &str) -> bool {
    let time = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    time.is_some_and(|time| time.len() == DIGITS && time.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;
    use tempfile::TempDir;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_newest_stay_and_files_of_others_are_left_alone() {
        let folder = TempDir::new().unwrap();
        let directory = folder.path().join("backups");
        let shelf = Shelf::open(&directory).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        let others = ["hypermesh-1.backup", "hypermesh-00000000000x.backup", "notes"];
        for name in others {
            fs::write(directory.join(name), name).unwrap();
        }
        for at_s in [999_999_999, 1_000_000_000, 10_000_000_000] {
            fs::write(shelf.part(), at_s.to_string()).unwrap();
            shelf.put(&shelf.part(), UNIX_EPOCH + Duration::from_secs(at_s)).unwrap();
        }
        assert_eq!(shelf.prune(3).unwrap(), 0);
        assert_eq!(shelf.prune(2).unwrap(), 1);
        let backups: Vec<_> =
            names(&directory).into_iter().filter(|name| is_backup(name)).collect();
        assert_eq!(backups, ["hypermesh-001000000000.backup", "hypermesh-010000000000.backup"]);
        assert!(others.iter().all(|name| directory.join(name).exists()));
    }

    #[test]
    fn what_an_interrupted_backup_left_is_gone_and_a_directory_of_something_else_is_refused() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(PART), "half").unwrap();
        let shelf = Shelf::open(folder.path()).unwrap();
        assert!(!shelf.part().exists());
        assert!(Shelf::open(Path::new("/dev/null/x")).is_err());
        for n in 0..ENTRIES_MAX {
            fs::write(folder.path().join(n.to_string()), "").unwrap();
        }
        fs::write(folder.path().join("one more"), "").unwrap();
        assert!(shelf.prune(1).unwrap_err().to_string().contains("backups alone"));
    }
}
