//! The certificate log and the audit log, for whoever checks them.

use hypermesh_api::{
    AuditEntries, Base64, Consistency, ConsistencyQuery, Heads, LogEntries, LogEntry, Proof,
    ProofQuery, RangeQuery,
};

use super::Core;
use crate::pem;
use crate::refused::Refused;
use crate::store::MAX_RANGE;

impl Core {
    /// The newest heads.
    ///
    /// # Errors
    /// On a host that issues nothing.
    pub fn log_heads(&mut self) -> Result<Heads, Refused> {
        let membership = self.mesh()?;
        let head = membership.issuer()?.head().to_bytes().map_err(Refused::internal)?;
        let ledger = membership.chain.ledger();
        let logs = ledger.issuers().map(|(_, issuer)| pem::certificate(&issuer.log_certificate));
        let root = ledger.mesh().map(|mesh| pem::certificate(&mesh.root)).unwrap_or_default();
        Ok(Heads { heads: vec![Base64(head)], logs: logs.collect(), root })
    }

    /// Certificates of the log in order.
    ///
    /// # Errors
    /// On a host that issues nothing.
    pub fn log_entries(&mut self, range: RangeQuery) -> Result<LogEntries, Refused> {
        let size = self.mesh()?.issuer()?.size();
        let leaves = self.store.leaves(range.from, limit(range.limit))?;
        let entry = |(index, der)| LogEntry { index, certificate: Base64(der) };
        Ok(LogEntries { entries: leaves.into_iter().map(entry).collect(), size })
    }

    /// A proof that a certificate is in the log.
    ///
    /// # Errors
    /// When it is not.
    pub fn log_proof(&mut self, query: ProofQuery) -> Result<Proof, Refused> {
        let path = self.mesh()?.issuer()?.inclusion(query.index, query.size)?;
        Ok(Proof { path: hashes(&path) })
    }

    /// A proof that the log only grew.
    ///
    /// # Errors
    /// When there are no such trees.
    pub fn log_consistency(&mut self, query: ConsistencyQuery) -> Result<Consistency, Refused> {
        let path = self.mesh()?.issuer()?.consistency(query.from, query.to)?;
        Ok(Consistency { path: hashes(&path) })
    }

    /// Entries of the audit log.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn audit_entries(&mut self, range: RangeQuery) -> Result<AuditEntries, Refused> {
        self.book.entries(range.from, limit(range.limit))
    }
}

fn hashes(path: &[[u8; 32]]) -> Vec<Base64> {
    path.iter().map(|hash| Base64(hash.to_vec())).collect()
}

/// None asked for means as many as there may be.
fn limit(asked: u64) -> u64 {
    if asked == 0 { MAX_RANGE } else { asked.min(MAX_RANGE) }
}
