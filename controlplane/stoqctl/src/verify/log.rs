//! `stoqctl log verify`: that the log of certificates is what its signed heads say, certificate by
//! certificate, and that every head is signed by a log of the mesh.

use std::path::Path;
use std::time::SystemTime;

use hypermesh_api::{BlockingClient, Heads, LogEntries, path};
use serde::Serialize;
use stoq_identity::{CertificateInfo, Policy};
use stoq_mesh::tree::{Tree, leaf_hash};
use stoq_mesh::{Signed, Signer, Signers, TreeHead};

use super::{Root, short};
use crate::failure::Failure;
use crate::hypermesh::{Way, connect};
use crate::mesh::show::date;
use crate::output::{answer, progress};

/// How many certificates are asked for at a time: what hypermeshd gives at most.
const PAGE: u64 = 1000;

/// Most certificates that are read: 10,000 nodes for two months of daily renewals.
const ENTRIES_MAX: u64 = 1_000_000;

/// What was found to hold.
#[derive(Debug, Serialize)]
struct Report {
    /// MESH-ID.
    mesh: String,
    /// Heads whose signatures hold.
    heads: Vec<ShownHead>,
    /// Certificates that were read and found in the tree under this host's head.
    certificates: u64,
}

#[derive(Debug, Serialize)]
struct ShownHead {
    log: String,
    size: u64,
    root: String,
    at_s: u64,
    /// Whether every certificate under it was read.
    complete: bool,
}

/// Carries out the command.
pub fn verify(way: &Way, authority: &Path, json: bool) -> Result<(), Failure> {
    let root = Root::read(authority)?;
    let mut client = connect(way)?;
    let answered: Heads = client.get(path::LOG_HEADS)?;
    let heads = open_heads(&root, &answered)?;
    progress("Reading every certificate of this host's log ...");
    let tree = read_log(&mut client, &root, &heads)?;
    let shown = |head: &TreeHead| ShownHead {
        log: short(&head.log),
        size: head.size,
        root: short(&head.root),
        at_s: head.at_s,
        complete: tree.as_ref().is_some_and(|(log, _)| *log == head.log),
    };
    let report = Report {
        mesh: root.mesh.clone(),
        heads: heads.iter().map(shown).collect(),
        certificates: tree.map_or(0, |(_, size)| size),
    };
    answer(json, &report, render)
}

/// The heads, each signed by a log whose certificate leads to the root.
fn open_heads(root: &Root, answered: &Heads) -> Result<Vec<TreeHead>, Failure> {
    let mut signers = Signers::new(&root.mesh, Policy::Hybrid);
    for keys in root.log_keys(answered, SystemTime::now())? {
        let added = signers.add(Signer::Log, keys);
        added.map_err(|error| Failure::Refused(error.to_string()))?;
    }
    let heads = answered.heads.iter().map(|bytes| {
        let signed = Signed::<TreeHead>::from_bytes(&bytes.0);
        let signed = signed.map_err(|error| Failure::Refused(error.to_string()))?;
        signed.open(&signers).map_err(|error| Failure::Refused(error.to_string()))
    });
    heads.collect()
}

/// Reads this host's own log and finds the head that it comes to. A host that issues nothing has
/// none.
fn read_log(
    client: &mut BlockingClient,
    root: &Root,
    heads: &[TreeHead],
) -> Result<Option<([u8; 32], u64)>, Failure> {
    let mut tree = Tree::new();
    let largest = heads.iter().map(|head| head.size).max().unwrap_or(0);
    if largest > ENTRIES_MAX {
        let text = format!("expected at most {ENTRIES_MAX} certificates in a log, got {largest}");
        return Err(Failure::Refused(text));
    }
    let matches = |tree: &Tree| {
        let mut found = heads.iter().filter(|head| head.size == tree.size() && head.size > 0);
        found.find(|head| head.root == tree.root()).map(|head| (head.log, head.size))
    };
    let mut last = None;
    loop {
        let from = tree.size();
        let page: LogEntries =
            client.get(&format!("{}?from={from}&limit={PAGE}", path::LOG_ENTRIES))?;
        for entry in &page.entries {
            if entry.index != tree.size() {
                let (expected, got) = (tree.size(), entry.index);
                return Err(Failure::Refused(format!(
                    "expected certificate {expected} of the log, got number {got}: it leaves some out"
                )));
            }
            check_entry(root, entry.index, &entry.certificate.0)?;
            tree.append(leaf_hash(&entry.certificate.0));
            last = matches(&tree).or(last);
        }
        if page.entries.is_empty() || tree.size() >= page.size.min(largest) {
            break;
        }
    }
    if last.is_none() && tree.size() > 0 {
        return Err(Failure::Refused(format!(
            "the {} certificates of this host's log come to root {}, and no signed head says so: the \
             log was changed, or heads were withheld",
            tree.size(),
            short(&tree.root())
        )));
    }
    Ok(last)
}

fn check_entry(root: &Root, index: u64, der: &[u8]) -> Result<(), Failure> {
    let wrong = |why: String| Failure::Refused(format!("certificate {index} of the log: {why}"));
    let info = CertificateInfo::read(der).map_err(|error| wrong(error.to_string()))?;
    match info.id {
        Some(id) if id.mesh() == root.mesh => Ok(()),
        Some(id) => Err(wrong(format!("expected one of mesh {}, got {id}", root.mesh))),
        None => Err(wrong("expected one of a node, got a root's".to_owned())),
    }
}

fn render(report: &Report) -> String {
    let mut text = format!("mesh {}: the log verifies\n", report.mesh);
    for head in &report.heads {
        let read = if head.complete { "every certificate read" } else { "signature verified" };
        text += &format!(
            "  log {}  {} certificates  root {}  signed {}  {read}\n",
            head.log,
            head.size,
            head.root,
            date(head.at_s)
        );
    }
    text
}
