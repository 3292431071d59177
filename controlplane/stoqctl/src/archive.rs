//! `stoqctl backup` and `stoqctl restore`: the control plane's state as one file.
//!
//! hypermeshd makes and takes the bytes; this module owns the file, which holds keys and is therefore
//! private from its first byte.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use hypermesh_api::{Done, Endpoints, FoundReply, MAX_BACKUP_BYTES, path};
use serde::Serialize;
use serde_json::json;

use crate::cli::{Backup, Host};
use crate::failure::Failure;
use crate::hypermesh::{Way, connect};
use crate::mesh::Sockets;
use crate::mesh::host::{Prepared, endpoints, prepare};
use crate::output::{answer, progress};
use crate::rotation::Shelf;

/// `stoqctl backup FILE` and `stoqctl backup --into DIR`.
pub fn backup(way: &Way, wanted: &Backup, json: bool) -> Result<(), Failure> {
    let (file, length, removed) = match (&wanted.file, &wanted.into) {
        (_, Some(directory)) => {
            let shelf = Shelf::open(directory)?;
            let part = shelf.part();
            let length = take(way, &part)?;
            let file = shelf.put(&part, SystemTime::now())?;
            (file, length, shelf.prune(wanted.keep.into())?)
        }
        (Some(file), None) => (file.clone(), take(way, file)?, 0),
        (None, None) => return Err(Failure::Usage("expected FILE or --into DIR, got none".into())),
    };
    let answered = json!({ "file": file, "bytes": length, "removed": removed });
    answer(json, &answered, |_| {
        let shown = file.display();
        format!(
            "{length} bytes written to {shown}. It holds this node's keys: keep it as safe as them.\n\
             On another host, without state: stoqctl restore {shown}\n"
        )
    })
}

/// Writes a backup to `file`, which must not exist, and returns its length in bytes.
fn take(way: &Way, file: &Path) -> Result<usize, Failure> {
    // First the connection: a backup that cannot be made leaves no file.
    let mut client = connect(way)?;
    let mut out = new_private_file(file)?;
    progress("Waiting for hypermeshd to write its state together ...");
    let taken = client.post_bytes(path::BACKUP, Vec::new()).map_err(Failure::from);
    let stored = taken.and_then(|bytes| {
        let synced = out.write_all(&bytes).and_then(|()| out.sync_all());
        synced.map(|()| bytes.len()).map_err(|error| Failure::writing(file.to_owned(), &error))
    });
    stored.inspect_err(|_| {
        // Half a backup is worse than none; if it cannot be removed, the failure says which it is.
        let _ = fs::remove_file(file);
    })
}

/// What this host is again.
#[derive(Debug, Serialize)]
struct Restored {
    #[serde(flatten)]
    reply: FoundReply,
    #[serde(flatten)]
    host: Prepared,
}

/// `stoqctl restore FILE`.
pub fn restore(sockets: Sockets, file: &Path, host: &Host, json: bool) -> Result<(), Failure> {
    let bytes = read(file).map_err(|error| {
        let shown = file.display();
        Failure::Usage(format!("{shown}: expected a backup of stoqctl, got: {error}"))
    })?;
    sockets.hypermesh.local()?;
    let mut client = connect(sockets.hypermesh)?;
    progress("Waiting for hypermeshd to check the backup and take it over ...");
    let restored = client.post_bytes(path::RESTORE, bytes)?;
    let reply: FoundReply = serde_json::from_slice(&restored)
        .map_err(|error| Failure::Refused(format!("expected what was restored, got: {error}")))?;
    let moved = Endpoints { endpoints: endpoints(host) };
    let told: Result<Done, _> = client.post(path::ENDPOINTS, &moved);
    if let Err(error) = told {
        progress(&format!("The mesh does not know yet where this host is: {error}"));
    }
    let mut host = prepare(sockets, host, &reply)?;
    host.wait_for_link(sockets.stoqd);
    host.settle_names(sockets.hypermesh);
    answer(json, &Restored { reply, host }, |Restored { reply, host }| {
        format!(
            "Restored: node {} of mesh {}.\n{}\
             It takes changes again once it has asked the members for what came after the backup.\n\
             Never run the host that the backup is from again: two of one name would contradict \
             each other.\n",
            reply.node,
            reply.mesh,
            host.shown()
        )
    })
}

/// A file that did not exist and that only this user may read.
pub fn new_private_file(path: &Path) -> Result<fs::File, Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| Failure::writing(path.to_owned(), &error))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_BACKUP_BYTES as u64 + 1;
    fs::File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BACKUP_BYTES {
        return Err(io::Error::other(format!("more than {MAX_BACKUP_BYTES} bytes")));
    }
    Ok(bytes)
}
