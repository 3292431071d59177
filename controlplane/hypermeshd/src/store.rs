//! The daemon's durable state: one redb file, one transaction for each change.
//!
//! Owns the tables, the version of their schema and its migrations. A [`Change`] is written whole or
//! not at all, and when [`Store::write`] returns it survives a power cut. After an error of the disk
//! the file is closed, and opened again by the next use, so that a disk that was full for a while
//! needs no restart. Called by the core of the daemon only, off the async threads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use stoq_mesh::tree::Complete;

/// The version of the tables. Raised with a step in [`migrate`].
const SCHEMA: u64 = 1;

/// Memory for pages in bytes (16 MiB): the state of a mesh of 1000 nodes fits, and the daemon stays
/// small on an edge host. redb's own default is 1 GiB.
const CACHE_BYTES: usize = 16 << 20;

/// The most entries or leaves that one read returns: 1000 certificates of 4 KiB are 4 MB.
pub const MAX_RANGE: u64 = 1000;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const JOURNAL: TableDefinition<u64, &[u8]> = TableDefinition::new("journal");
const LEAVES: TableDefinition<u64, &[u8]> = TableDefinition::new("leaves");
const LATEST: TableDefinition<&[u8], u64> = TableDefinition::new("latest");
const NODES: TableDefinition<(u8, u64), &[u8; 32]> = TableDefinition::new("nodes");

/// Keys of the table of single values.
const SCHEMA_KEY: &str = "schema";
/// What this daemon is (see `crate::standing`).
pub const STANDING: &str = "standing";
/// The ledger at a height, from which the journal goes on.
pub const SNAPSHOT: &str = "snapshot";
/// The signed head of this issuer's log.
pub const HEAD: &str = "head";
/// The last bundle taken from an issuer.
pub const BUNDLE: &str = "bundle";

/// The term of the ledger: eight bytes, big-endian.
pub const TERM: &str = "term";
/// The newest head that the sequencer has signed, on a host that follows.
pub const LEDGER_HEAD: &str = "ledger head";
/// The head of a later term that this host's sequencer met: it orders nothing any more.
pub const SUPERSEDED: &str = "superseded";

/// Why the store does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged.
    #[error(
        "{}: expected the daemon's state, got: {reason}. Nothing in it can be trusted: the ledger, \
         the certificates issued and the place in the mesh are lost on this host. Restore a backup \
         (`stoqctl restore FILE`), or move the directory away and join again with a new token", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error(
        "{}: expected a schema of at most {SCHEMA}, got {got}; run the version that wrote it, or a newer one", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        got: u64,
    },
    /// Another daemon has it.
    #[error("{}: expected to be its only user, got: another process has it open; stop that first", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("{}: expected to use it, got: {reason}; see that the disk has room and works", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// What is written in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// An entry of the journal: its height, and it encoded.
    pub entry: Option<(u64, Vec<u8>)>,
    /// A certificate issued.
    pub leaf: Option<Leaf>,
    /// Nodes of the log's tree that are complete with it.
    pub nodes: Vec<Complete>,
    /// Single values, by key.
    pub values: Vec<(&'static str, Vec<u8>)>,
    /// Journal entries up to this height are no longer needed.
    pub trim: Option<u64>,
}

/// A certificate issued, as a leaf of this issuer's log.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its place in the log.
    pub index: u64,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Fingerprint of its keys.
    pub keys: [u8; 32],
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Mutex<Option<Database>>,
}

impl Store {
    /// Opens the store, makes it if there is none, and checks all of it.
    ///
    /// # Errors
    /// [`StoreError`]; a damaged file is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self { path: path.to_owned(), database: Mutex::new(None) };
        store.with(|_| Ok(()))?;
        Ok(store)
    }

    /// Writes a change; when it returns, the change survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Disk`] and the others; nothing was written then.
    pub fn write(&self, change: &Change) -> Result<(), StoreError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            apply(&transaction, change)?;
            Ok(transaction.commit()?)
        })
    }

    /// A single value.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn value(&self, key: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(META)?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    /// Entries of the journal above a height, in order, at most [`MAX_RANGE`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entries(&self, above: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.range(JOURNAL, above.saturating_add(1), MAX_RANGE)
    }

    /// Leaves of the log from an index on, in order, at most [`MAX_RANGE`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn leaves(&self, from: u64, limit: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.range(LEAVES, from, limit.min(MAX_RANGE))
    }

    /// A node of the log's tree.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn node(&self, level: u8, place: u64) -> Result<Option<[u8; 32]>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(NODES)?;
            Ok(table.get((level, place))?.map(|hash| *hash.value()))
        })
    }

    /// How many leaves there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn leaf_count(&self) -> Result<u64, StoreError> {
        self.with(|database| Ok(database.begin_read()?.open_table(LEAVES)?.len()?))
    }

    /// The last certificate issued for these keys, and its place in the log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn latest(&self, keys: &[u8; 32]) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let latest = transaction.open_table(LATEST)?.get(keys.as_slice())?;
            let Some(index) = latest.map(|index| index.value()) else { return Ok(None) };
            let leaf = transaction.open_table(LEAVES)?.get(index)?;
            Ok(leaf.map(|leaf| (index, leaf.value().to_vec())))
        })
    }

    fn range(
        &self,
        table: TableDefinition<u64, &[u8]>,
        from: u64,
        limit: u64,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.with(|database| {
            let table = database.begin_read()?.open_table(table)?;
            let mut found = Vec::new();
            for row in table.range(from..)?.take(limit) {
                let (key, value) = row?;
                found.push((key.value(), value.value().to_vec()));
            }
            Ok(found)
        })
    }

    /// Runs `use_of` on the open file, opening it first if need be.
    fn with<T>(
        &self,
        use_of: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => self.open_file()?,
        };
        let result = use_of(&database);
        match result {
            Ok(value) => {
                *slot = Some(database);
                Ok(value)
            }
            // redb takes nothing more after an error: the next use opens the file again.
            Err(error) => {
                drop(database);
                Err(self.error(error))
            }
        }
    }

    fn open_file(&self) -> Result<Database, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = builder.create(&self.path).map_err(|error| self.error(error.into()))?;
        match migrate(&database) {
            Ok(SCHEMA) => Ok(database),
            Ok(got) => Err(StoreError::Newer { path: self.path.clone(), got }),
            Err(error) => Err(self.error(error)),
        }
    }

    fn error(&self, error: redb::Error) -> StoreError {
        let path = self.path.clone();
        let reason = error.to_string();
        match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::Held { path },
            // A header that is no header comes as invalid data, a file cut short as its end.
            redb::Error::Io(source) if !is_damage(source.kind()) => {
                StoreError::Disk { path, reason }
            }
            redb::Error::PreviousIo => StoreError::Disk { path, reason },
            _ => StoreError::Damaged { path, reason },
        }
    }
}

fn is_damage(kind: std::io::ErrorKind) -> bool {
    matches!(kind, std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

fn apply(transaction: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    if let Some((height, entry)) = &change.entry {
        transaction.open_table(JOURNAL)?.insert(height, entry.as_slice())?;
    }
    if let Some(leaf) = &change.leaf {
        transaction.open_table(LEAVES)?.insert(leaf.index, leaf.certificate.as_slice())?;
        transaction.open_table(LATEST)?.insert(leaf.keys.as_slice(), leaf.index)?;
    }
    for node in &change.nodes {
        transaction.open_table(NODES)?.insert((node.level, node.place), &node.hash)?;
    }
    for (key, value) in &change.values {
        transaction.open_table(META)?.insert(key, value.as_slice())?;
    }
    if let Some(height) = change.trim {
        transaction.open_table(JOURNAL)?.retain_in(..=height, |_, _| false)?;
    }
    Ok(())
}

/// Makes the tables of a new file, brings those of an older version forward, and returns the schema
/// that the file has then.
fn migrate(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let schema = {
        let mut meta = transaction.open_table(META)?;
        let stored =
            meta.get(SCHEMA_KEY)?.map(|value| value.value().try_into().map(u64::from_be_bytes));
        match stored {
            // A new file; a later version takes the steps from the stored one to its own here.
            None => {
                meta.insert(SCHEMA_KEY, SCHEMA.to_be_bytes().as_slice())?;
                SCHEMA
            }
            Some(Ok(schema)) => schema,
            Some(Err(_)) => return Err(redb::Error::Corrupted("no version of the schema".into())),
        }
    };
    transaction.open_table(JOURNAL)?;
    transaction.open_table(LEAVES)?;
    transaction.open_table(LATEST)?;
    transaction.open_table(NODES)?;
    transaction.commit()?;
    Ok(schema)
}
