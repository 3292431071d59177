//! What outlives the process: the keys of connection IDs, and the number of this run in them. With
//! them a restarted daemon knows the connections of its earlier run and can end them at once.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use stoq::cid::{CID_KEYS_LEN, CidKeys};
use stoq::control::BootId;

use crate::broker::ConnectionIds;
use crate::durable;

const FILE: &str = "connection-ids";

/// Keys and numbers of this run.
#[derive(Debug)]
pub(super) struct State {
    pub keys: CidKeys,
    pub generation: u16,
    pub boot: BootId,
}

impl State {
    /// Reads the state in `directory`, and writes back that one run more has begun. Without a usable
    /// directory the run has keys of its own, and says what that costs. A process that takes over from
    /// another goes on under its boot identity, with another number whatever could be written.
    pub fn load(directory: &Path, elder: Option<(BootId, u16)>) -> Self {
        let path = directory.join(FILE);
        let (keys, generation) = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                let path = path.display();
                tracing::warn!(
                    "expected the keys of connection IDs in {path}, got: {error}; making new ones"
                );
            }
            (CidKeys::new(random()), 0)
        });
        let is_elders = |number| elder.is_some_and(|(_, generation)| generation == number);
        let generation = generation.wrapping_add(1);
        let generation = generation.wrapping_add(u16::from(is_elders(generation)));
        if let Err(error) = write(&path, &keys, generation) {
            let path = path.display();
            tracing::warn!(
                "cannot write {path}: {error}; after a restart, peers will notice it only by silence"
            );
        }
        Self { keys, generation, boot: elder.map_or_else(boot, |(boot, _)| boot) }
    }
}

impl State {
    /// What tells our connection IDs from others.
    pub fn connection_ids(&self) -> ConnectionIds {
        let keys = self.keys.tag_keys().into_iter().flatten();
        let keys = keys.map(|key| (key.number, key.secret)).collect();
        ConnectionIds { generation: self.generation, keys }
    }
}

fn boot() -> BootId {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let started_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    BootId { started_ns, random: u128::from_be_bytes(random()) }
}

/// Random bytes for keys. Without a generator there is no safe way to go on.
pub(super) fn random<const N: usize>() -> [u8; N] {
    stoq::random::bytes().unwrap_or_else(|error| {
        tracing::error!("the system's random generator failed: {error}");
        std::process::abort()
    })
}

fn read(path: &Path) -> io::Result<(CidKeys, u16)> {
    let bytes = fs::read(path)?;
    let Some((generation, keys)) = bytes.split_first_chunk::<2>() else {
        return Err(io::Error::other(format!("a file of {} bytes", bytes.len())));
    };
    let keys = CidKeys::from_bytes(keys).map_err(io::Error::other)?;
    Ok((keys, u16::from_be_bytes(*generation)))
}

fn write(path: &Path, keys: &CidKeys, generation: u16) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(2 + CID_KEYS_LEN);
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes.extend_from_slice(&keys.to_bytes());
    durable::replace(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_stay_and_the_run_counts() {
        let directory = tempfile::tempdir().unwrap();
        let first = State::load(directory.path(), None);
        let second = State::load(directory.path(), None);
        assert_eq!(first.keys, second.keys);
        assert_eq!(second.generation, first.generation + 1);
        assert!(second.boot.supersedes(&first.boot));
    }

    #[test]
    fn two_processes_at_once_have_two_numbers_without_a_directory_too() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("nowhere");
        let elder = State::load(&nowhere, None);
        let heir = State::load(&nowhere, Some((elder.boot, elder.generation)));
        assert_eq!(heir.boot, elder.boot);
        assert_ne!(heir.generation, elder.generation);
    }

    #[test]
    fn a_broken_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), b"not keys").unwrap();
        let first = State::load(directory.path(), None);
        assert_eq!(State::load(directory.path(), None).keys, first.keys);
    }

    #[test]
    fn a_missing_directory_does_not_keep_it_from_starting() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::load(&directory.path().join("nowhere"), None);
        assert_eq!(state.generation, 1);
    }
}
