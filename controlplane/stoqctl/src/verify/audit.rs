//! `stoqctl audit verify`: that nobody changed the log of who did what, or cut its end off.

use std::path::Path;
use std::time::SystemTime;

use hypermesh_api::{AuditEntries, Heads, path};
use serde::Serialize;
use stoq_audit::Options;
use stoq_identity::Policy;

use super::Root;
use crate::failure::Failure;
use crate::hypermesh::{Way, connect};
use crate::output::answer;

/// Entries that may stand behind the last head: a crash between the two leaves one.
const UNSIGNED_MAX: u64 = 1;

/// What was found to hold.
#[derive(Debug, Serialize)]
struct Report {
    /// Entries that are in the chain.
    entries: u64,
    /// Signed heads that fit it.
    heads: u64,
    /// Entries behind the last head.
    unsigned: u64,
}

/// Carries out the command.
pub fn verify(way: &Way, authority: &Path, json: bool) -> Result<(), Failure> {
    let root = Root::read(authority)?;
    let mut client = connect(way)?;
    let heads: Heads = client.get(path::LOG_HEADS)?;
    let keys = root.log_keys(&heads, SystemTime::now())?;
    let audit: AuditEntries = client.get(&format!("{}?from=0&limit={}", path::AUDIT, u32::MAX))?;
    let options =
        Options { keys: &keys, policy: Policy::Hybrid, known: &[], unsigned_max: UNSIGNED_MAX };
    let found = stoq_audit::verify(audit.log.0.as_slice(), &options)
        .map_err(|error| Failure::Refused(format!("the audit log: {error}")))?;
    if found.entries != audit.size {
        return Err(Failure::Refused(format!(
            "expected the {} entries that hypermeshd says the audit log has, got {}: ask again, then \
             look for what was removed",
            audit.size, found.entries
        )));
    }
    let report = Report { entries: found.entries, heads: found.heads, unsigned: found.unsigned };
    answer(json, &report, |report| {
        format!(
            "The audit log verifies: {} entries under {} signed heads.\n",
            report.entries, report.heads
        )
    })
}
