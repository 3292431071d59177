//! What was there before: the file from which everything that a stage changed can be restored, by
//! another process and after a reboot.
//!
//! A reboot restores every setting by itself, and what is found after it may be somebody's choice since.
//! So the record names the boot that it is of, and what it says of an earlier one is over.
//!
//! Owns the file and its lock. The first value of a setting is kept until it is undone, however often
//! it is applied again. The file is written whole, before anything is changed, and is gone when
//! nothing is left to restore. Called by `tune` only.
//!
//! The directory may belong to the user that the daemon runs as. What root writes to the host from
//! it must therefore be root's: a file of another owner, a link or anything that is no file is
//! refused, and whatever it says, only a [`Setting`] can be named in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::setting::{Change, Setting};

/// The form of the file. Another number is another form, and no guess is made about it.
const VERSION: u32 = 2;

/// Largest file: [`MAX_ENTRIES`] entries of under 512 bytes. Only the tables of a few interfaces are
/// longer, and there are far fewer other entries then.
const MAX_BYTES: u64 = 512 * MAX_ENTRIES as u64;

/// Most settings: a few interfaces with an interrupt for each of 1024 queues.
const MAX_ENTRIES: usize = 4096;

/// Why the record cannot be used.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Reading, writing or locking failed.
    #[error("{}: expected to {action} it, got: {source}", path.display())]
    File {
        /// The file or its directory.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// How.
        source: io::Error,
    },
    /// Another process changes settings now.
    #[error("expected to be alone, but another `stoqctl tune` holds {}; wait for its end", .0.display())]
    Busy(PathBuf),
    /// It is no record of this user and this version.
    #[error(
        "{}: expected a record of what was changed (version {VERSION}), got {got}; to give up what \
         it could restore, move it away",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        got: String,
    },
    /// More settings than a record takes.
    #[error("expected at most {MAX_ENTRIES} settings in a record; undo what is applied first")]
    Full,
}

/// The file's contents.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// The boot in which the settings were changed; nothing where the kernel does not tell.
    boot: Option<String>,
    settings: Vec<StoredSetting>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSetting {
    what: Setting,
    #[serde(flatten)]
    entry: Entry,
}

/// What is known of one setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The value before the first change.
    pub(crate) was: String,
    /// The stages that changed it, or whose changes could alter it.
    pub(crate) stages: BTreeSet<String>,
}

/// The open record; no other process can change it meanwhile.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    boot: Option<String>,
    entries: BTreeMap<Setting, Entry>,
    over: Vec<Setting>,
    _lock: Flock<File>,
}

impl Record {
    /// Opens the record, empty when there is no file. Its directory is made if `make` says so;
    /// `None` if there is neither. `boot` is the boot that it is now, if the kernel says.
    pub(crate) fn open(
        path: &Path,
        make: bool,
        boot: Option<String>,
    ) -> Result<Option<Self>, RecordError> {
        let directory = directory(path);
        if make {
            fs::create_dir_all(directory).map_err(failed(directory, "make"))?;
        }
        let opened = match File::open(directory) {
            Err(error) if !make && error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed(directory, "open"))?,
        };
        let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => RecordError::Busy(directory.into()),
            errno => failed(directory, "lock")(errno.into()),
        })?;
        let (then, mut entries) = load(path)?;
        let mut over = Vec::new();
        // A boot that is not named may be this one.
        if then.is_some() && boot.is_some() && then != boot {
            over = std::mem::take(&mut entries).into_keys().collect();
        }
        Ok(Some(Self { path: path.into(), boot, entries, over, _lock: lock }))
    }

    /// What a reboot has restored since it was recorded, and is recorded no more.
    pub(crate) fn over(&self) -> &[Setting] {
        &self.over
    }

    /// What is recorded, in the order in which it is to be restored.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Setting, &Entry)> {
        self.entries.iter()
    }

    /// Notes what was there before `stage` makes `change`. Returns whether the stage held it not yet.
    pub(crate) fn hold(&mut self, stage: &str, change: &Change) -> bool {
        let entry = self.entries.entry(change.what.clone());
        let was = change.was.clone();
        let entry = entry.or_insert_with(|| Entry { was, stages: BTreeSet::new() });
        entry.stages.insert(stage.to_owned())
    }

    /// Forgets that `stage` changed the setting; what no stage holds is forgotten.
    pub(crate) fn release(&mut self, stage: &str, what: &Setting) {
        let Some(entry) = self.entries.get_mut(what) else { return };
        entry.stages.remove(stage);
        if entry.stages.is_empty() {
            self.entries.remove(what);
        }
    }

    /// Writes the file, or removes it when nothing is recorded.
    pub(crate) fn save(&self) -> Result<(), RecordError> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(RecordError::Full);
        }
        if !self.entries.is_empty() {
            return self.write().map_err(failed(&self.path, "write"));
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&self.path, "remove")(error))
            }
            _ => Ok(()),
        }
    }

    /// Replaces the file as a whole: after a power cut it is the old one or the new one.
    fn write(&self) -> io::Result<()> {
        let settings = self
            .entries
            .iter()
            .map(|(what, entry)| StoredSetting { what: what.clone(), entry: entry.clone() });
        let boot = self.boot.clone();
        let stored = Stored { version: VERSION, boot, settings: settings.collect() };
        let directory = directory(&self.path);
        let mut file = tempfile::Builder::new()
            .prefix(".tuning.")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(directory)?;
        file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(directory)?.sync_all()
    }
}

/// The boot and the settings of the file; no settings without a file.
fn load(path: &Path) -> Result<(Option<String>, BTreeMap<Setting, Entry>), RecordError> {
    let foreign = |got: String| RecordError::Foreign { path: path.into(), got };
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((None, BTreeMap::new()));
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(foreign("a symbolic link".to_owned()));
        }
        Err(error) => return Err(failed(path, "read")(error)),
    };
    let metadata = file.metadata().map_err(failed(path, "read"))?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(foreign(format!("a file of user id {}", metadata.uid())));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(failed(path, "read"))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(foreign(format!("more than {MAX_BYTES} bytes")));
    }
    let stored: Stored = serde_json::from_slice(&text).map_err(|e| foreign(e.to_string()))?;
    if stored.version != VERSION {
        return Err(foreign(format!("version {}", stored.version)));
    }
    let settings = stored.settings;
    if let Some(bad) = settings.iter().find(|setting| !setting.what.is_named_well()) {
        return Err(foreign(format!(
            "the interface {:?}",
            bad.what.interface().unwrap_or_default()
        )));
    }
    let settings = settings.into_iter().map(|setting| (setting.what, setting.entry)).collect();
    Ok((stored.boot, settings))
}

/// The directory of the record; of a mere name, the current one.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::File { path, action, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn change(was: &str) -> Change {
        let what = Setting::ThreadedNapi { interface: "wan".into() };
        Change { what, was: was.into(), to: "1".into() }
    }

    fn open(path: &Path) -> Record {
        Record::open(path, true, None).unwrap().unwrap()
    }

    #[test]
    fn the_first_value_is_kept_and_the_file_goes_with_the_last_setting() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state/tuning.json");
        assert!(Record::open(&path, false, None).unwrap().is_none(), "nothing is made to be read");
        let mut record = open(&path);
        assert!(record.hold("a", &change("0")));
        assert!(!record.hold("a", &change("7")));
        assert!(record.hold("b", &change("8")));
        record.save().unwrap();
        drop(record);

        let mut record = open(&path);
        let (_, entry) = record.entries().next().unwrap();
        assert_eq!((entry.was.as_str(), entry.stages.len()), ("0", 2));
        record.release("a", &change("").what);
        record.save().unwrap();
        assert!(path.exists(), "another stage holds it still");
        record.release("b", &change("").what);
        record.save().unwrap();
        assert!(!path.exists());
        record.save().unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn two_processes_do_not_record_at_once() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("tuning.json");
        let _held = open(&path);
        assert!(matches!(Record::open(&path, true, None), Err(RecordError::Busy(_))));
    }

    #[test]
    fn what_is_no_record_is_refused_and_stays() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("tuning.json");
        let setting = |interface: &str| {
            let what = format!(r#"{{"setting":"threaded-napi","interface":"{interface}"}}"#);
            format!(
                r#"{{"version":2,"boot":null,"settings":[{{"what":{what},"was":"0","stages":["x"]}}]}}"#
            )
        };
        let long = "x".repeat(MAX_BYTES as usize + 1);
        for (text, part) in [
            ("", "EOF"),
            ("{", "EOF"),
            (r#"{"version":1,"boot":null,"settings":[]}"#, "version 1"),
            (
                r#"{"version":2,"boot":null,"settings":[{"what":{"setting":"file","path":"/etc/x"},"was":"","stages":[]}]}"#,
                "unknown variant",
            ),
            (
                r#"{"version":2,"boot":null,"settings":[{"what":{"setting":"sysctl","key":"kernel.core_pattern"},"was":"","stages":[]}]}"#,
                "unknown variant",
            ),
            (setting("../../../../etc").as_str(), "the interface"),
            (setting("").as_str(), "the interface"),
            (&long, "more than"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Record::open(&path, true, None).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("move it away"), "{error}");
            assert!(path.exists());
        }
        fs::write(&path, setting("wan")).unwrap();
        assert_eq!(open(&path).entries().count(), 1);
    }

    #[test]
    fn what_is_of_an_earlier_boot_is_over() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("tuning.json");
        let boot = |id: &str| Record::open(&path, true, Some(id.to_owned())).unwrap().unwrap();
        let mut record = boot("first");
        record.hold("a", &change("0"));
        record.save().unwrap();
        drop(record);
        let seen = |record: Record| (record.entries().count(), record.over().len());
        assert_eq!(seen(boot("first")), (1, 0));
        assert_eq!(seen(open(&path)), (1, 0), "a boot without a name may be the same");
        let record = boot("second");
        assert_eq!((record.entries().count(), record.over()), (0, &[change("").what][..]));
        record.save().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn links_and_things_that_are_no_files_are_refused() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("tuning.json");
        symlink("/etc/passwd", &path).unwrap();
        let error = Record::open(&path, true, None).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Record::open(&path, true, None).is_err());
    }
}
