//! The whole state as one file, and back.
//!
//! ```text
//! "hypermesh backup 1\n"  files: name, mode, content (postcard)  SHA-256 of all before it
//! ```
//!
//! Made while nothing is written, so the store in it is as a power cut would have left it, which redb
//! opens. It holds the keys: whoever has it is this node.

use std::fs;
use std::io;

use aws_lc_rs::digest::{SHA256, digest};
use hypermesh_api::{ErrorCode, MAX_BACKUP_BYTES};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::core::Core;
use crate::files;
use crate::refused::Refused;

const MAGIC: &[u8] = b"hypermesh backup 1\n";
const CHECKSUM_BYTES: usize = 32;

/// The store comes last: without it, an interrupted restore leaves a host without a mesh, which may
/// be restored again.
const FILES: [&str; 8] = [
    files::AUDIT,
    files::IDENTITY,
    files::ROOT,
    files::NODE_KEYS,
    files::ISSUER_KEYS,
    files::LOG_KEYS,
    files::ZONE_KEY,
    files::STORE,
];

#[derive(Serialize, Deserialize)]
struct Contents {
    files: Vec<(String, Vec<u8>)>,
}

/// Makes a backup.
///
/// # Errors
/// When there is nothing to back up, a file cannot be read, or it is too much.
pub fn make(core: &mut Core) -> Result<Vec<u8>, Refused> {
    core.mesh()?;
    let mut files = Vec::new();
    for name in FILES {
        match fs::read(core.dir.path(name)) {
            Ok(content) => files.push((name.to_owned(), content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(storage(name, &error)),
        }
    }
    let body = postcard::to_stdvec(&Contents { files }).map_err(Refused::internal)?;
    let mut backup = [MAGIC, &body].concat();
    let checksum = digest(&SHA256, &backup);
    backup.extend_from_slice(checksum.as_ref());
    if backup.len() > MAX_BACKUP_BYTES {
        let text = format!(
            "the state is {} bytes, more than a backup may be; stop the daemon and copy its directory",
            backup.len()
        );
        return Err(Refused::new(ErrorCode::TooLarge, text));
    }
    Ok(backup)
}

/// Takes a backup over, where there is no mesh yet. A sequencer that was restored orders nothing before it
/// has asked the members what came after the backup ([`crate::recover`]).
///
/// # Errors
/// When there is a mesh, or the file is damaged: nothing was changed then.
pub fn restore(core: &mut Core, backup: &[u8]) -> Result<(), Refused> {
    core.no_mesh()?;
    let files = read(backup)?;
    core.dir.write(files::RESTORING, 0o600, &[])?;
    for (name, content) in files {
        let mode = if name == files::ROOT { 0o644 } else { 0o600 };
        core.dir.write(name, mode, &content)?;
    }
    *core = Core::open(core.dir.clone())?;
    if core.others()?.is_empty() {
        core.resume(clock::now_s())?;
    }
    Ok(())
}

fn read(backup: &[u8]) -> Result<Vec<(&'static str, Vec<u8>)>, Refused> {
    let damaged = |got: &str| {
        let text = format!("expected a whole backup of hypermeshd, got {got}; use another copy");
        Refused::new(ErrorCode::Invalid, text)
    };
    let (whole, checksum) =
        backup.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("a shorter file"))?;
    let body = whole.strip_prefix(MAGIC).ok_or_else(|| damaged("another file"))?;
    if digest(&SHA256, whole).as_ref() != checksum {
        return Err(damaged("one that was changed or cut"));
    }
    let contents: Contents = postcard::from_bytes(body).map_err(|_| damaged("another form"))?;
    let mut found = Vec::new();
    for name in FILES {
        let content = contents.files.iter().find(|(of, _)| of == name);
        found.extend(content.map(|(_, content)| (name, content.clone())));
    }
    if found.last().is_none_or(|(name, _)| *name != files::STORE) {
        return Err(damaged("one without the state"));
    }
    Ok(found)
}

fn storage(name: &str, error: &io::Error) -> Refused {
    Refused::new(ErrorCode::Storage, format!("{name}: expected to read it, got: {error}"))
}
