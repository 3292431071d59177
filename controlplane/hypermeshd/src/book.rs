//! The audit log's file: appended to, made durable, and read back.
//!
//! Each entry is followed by a signed head, so that what was told to anyone is covered. On an issuer
//! the log's keys sign, elsewhere the node's.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use hypermesh_api::{AuditEntries, AuditEntry, Base64, ErrorCode};
use stoq_audit::{Chain, Event, Line, Outcome};
use stoq_identity::PrivateKeys;

use crate::clock;
use crate::files::{self, Dir};
use crate::refused::Refused;

/// The open log.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    file: File,
    chain: Chain,
    keys: Option<PrivateKeys>,
    /// Bytes up to the end of the last whole line.
    bytes: u64,
    failed: Option<String>,
}

impl Book {
    /// Opens the log, makes it if there is none, and cuts off a last line that a crash has torn.
    ///
    /// # Errors
    /// When it cannot be read, or more is wrong with it than a torn line.
    pub fn open(dir: &Dir) -> Result<Self, Refused> {
        let path = dir.path(files::AUDIT);
        let storage = |error: &dyn std::fmt::Display| {
            Refused::new(ErrorCode::Storage, format!("{}: {error}", path.display()))
        };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(&path).map_err(|error| storage(&error))?;
        let found = Chain::recover(BufReader::new(&file), &[]).map_err(|error| storage(&error))?;
        if let Some(torn) = &found.torn {
            if !torn.may_be_cut {
                return Err(storage(torn));
            }
            tracing::warn!(%torn, "cut a torn line off the audit log");
            file.set_len(found.bytes).map_err(|error| storage(&error))?;
        }
        let (chain, bytes) = (found.chain, found.bytes);
        Ok(Self { path, file, chain, keys: None, bytes, failed: None })
    }

    /// Signs heads with these keys from now on.
    pub fn sign_with(&mut self, keys: Option<PrivateKeys>) {
        self.keys = keys;
    }

    /// Writes an entry and a head over it; durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written; then the log is as before, and the status says so.
    pub fn write(&mut self, actor: &str, action: &str, outcome: Outcome) -> Result<(), Refused> {
        let written = self.append(actor, action, outcome);
        self.failed = written.as_ref().err().map(ToString::to_string);
        written
    }

    fn append(&mut self, actor: &str, action: &str, outcome: Outcome) -> Result<(), Refused> {
        let at_s = clock::now_s();
        let (verb, subject) = action.split_once(' ').unwrap_or((action, ""));
        let event = Event {
            at_s,
            actor: actor.to_owned(),
            action: verb.to_owned(),
            subject: subject.to_owned(),
            result: outcome,
        };
        let mut chain = self.chain.clone();
        let mut text = Line::Entry(chain.append(event)).to_text();
        if let Some(keys) = &self.keys {
            let head = chain.head(at_s, keys).map_err(Refused::internal)?;
            text += &Line::Head(head).to_text();
        }
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What was written of it would break the chain.
            let _ = self.file.set_len(self.bytes);
            let text = format!("{}: expected to append to it, got: {error}", self.path.display());
            return Err(Refused::new(ErrorCode::Storage, text));
        }
        self.chain = chain;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// What the operator should know of it.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.failed.as_ref().map(|failed| format!("an entry of the audit log is missing: {failed}"))
    }

    /// Entries from a number on, with the heads between them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn entries(&self, from: u64, limit: u64) -> Result<AuditEntries, Refused> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut entries, mut log) = (Vec::new(), Vec::new());
        let file = File::open(&self.path).map_err(Refused::internal)?;
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(Refused::internal)?;
            let (number, entry) = match serde_json::from_slice(&line).map_err(Refused::internal)? {
                Line::Entry(entry) => (entry.number, Some(entry)),
                Line::Head(head) => (head.number, None),
            };
            if number < from {
                continue;
            }
            if entry.is_some() && entries.len() >= limit {
                break;
            }
            entries.extend(entry.map(shown));
            log.extend_from_slice(&line);
            log.push(b'\n');
        }
        Ok(AuditEntries { entries, size: self.chain.number(), log: Base64(log) })
    }
}

fn shown(entry: stoq_audit::Entry) -> AuditEntry {
    let result = match entry.result {
        Outcome::Done => "done".to_owned(),
        Outcome::Refused(reason) => format!("refused: {reason}"),
    };
    AuditEntry {
        number: entry.number,
        at_s: entry.at_s,
        actor: entry.actor,
        action: format!("{} {}", entry.action, entry.subject).trim_end().to_owned(),
        result,
    }
}
