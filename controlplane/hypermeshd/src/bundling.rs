//! Makes the signed bundle from the ledger, on an issuer.
//!
//! What did not change is not signed again: a record keeps its signature until its member changes,
//! the set of revocations until its sequence rises.

use std::collections::HashMap;

use hypermesh_api::ErrorCode;
use hypermesh_consensus::{
    Ledger, Member, Mesh as LedgerMesh, Policy as LedgerPolicy, RevokedKind as LedgerKind,
};
use ipnet::IpNet;
use stoq_identity::{Options, Policy, Verifier};
use stoq_mesh::{
    Bundle, IssuerCertificates, Mesh, Record, RevocationStore, Revocations, Revoked, RevokedKind,
    Signed,
};

use crate::clock;
use crate::issuer::Issuer;
use crate::refused::Refused;

/// What was signed before.
#[derive(Debug, Default)]
pub struct Bundler {
    /// By member, with the height at which its record last changed. As many as there are members.
    records: HashMap<String, (u64, Signed<Record>)>,
    revocations: Option<(u64, Signed<Revocations>)>,
}

impl Bundler {
    /// The bundle of the ledger, encoded, with its number (see [`crate::term::number`]).
    ///
    /// # Errors
    /// When the ledger is empty, or something cannot be signed.
    pub fn bundle(
        &mut self,
        ledger: &Ledger,
        issuer: &Issuer,
        number: u64,
    ) -> Result<Vec<u8>, Refused> {
        let mesh = ledger.mesh().ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
        let policy = policy(mesh.policy);
        let bundle = Bundle {
            mesh: Mesh {
                id: mesh.id.clone(),
                name: mesh.name.clone(),
                prefix: mesh.prefix,
                ipv4: mesh.ipv4,
                policy,
            },
            number,
            root: mesh.root.clone(),
            issuers: issuers(ledger),
            records: self.records(ledger, issuer)?,
            revocations: self.revocations(ledger, issuer)?,
            heads: vec![issuer.head().clone()],
        };
        bundle.to_bytes().map_err(Refused::internal)
    }

    fn records(
        &mut self,
        ledger: &Ledger,
        issuer: &Issuer,
    ) -> Result<Vec<Signed<Record>>, Refused> {
        self.records.retain(|node, _| ledger.member(node).is_some());
        let mut records = Vec::with_capacity(ledger.members().len());
        for (node, member) in ledger.members() {
            let known = self.records.get(node).filter(|(changed, _)| *changed == member.changed);
            let signed = match known {
                Some((_, signed)) => signed.clone(),
                None => {
                    let record = record(ledger, node, member);
                    let signed = Signed::sign(&record, issuer.keys()).map_err(Refused::internal)?;
                    self.records.insert(node.to_owned(), (member.changed, signed.clone()));
                    signed
                }
            };
            records.push(signed);
        }
        Ok(records)
    }

    fn revocations(
        &mut self,
        ledger: &Ledger,
        issuer: &Issuer,
    ) -> Result<Signed<Revocations>, Refused> {
        let sequence = ledger.revocation_sequence();
        if let Some((known, signed)) = &self.revocations
            && *known == sequence
        {
            return Ok(signed.clone());
        }
        let mesh = ledger.mesh().map(|mesh| mesh.id.clone()).unwrap_or_default();
        let entries = ledger.revocations().map(|revoked| Revoked {
            keys: *revoked.keys,
            kind: kind(revoked.revocation.kind),
            node: revoked.revocation.node.clone(),
            at_s: revoked.revocation.at_s,
        });
        let set = Revocations { mesh, sequence, entries: entries.collect() };
        let signed = Signed::sign(&set, issuer.keys()).map_err(Refused::internal)?;
        self.revocations = Some((sequence, signed.clone()));
        Ok(signed)
    }
}

/// The number of an encoded bundle.
///
/// # Errors
/// When it is none.
pub fn number(bytes: &[u8]) -> Result<u64, Refused> {
    Bundle::from_bytes(bytes).map(|bundle| bundle.number).map_err(Refused::internal)
}

/// The policy as certificates know it.
#[must_use]
pub const fn policy(policy: LedgerPolicy) -> Policy {
    match policy {
        LedgerPolicy::Hybrid => Policy::Hybrid,
        LedgerPolicy::Classical => Policy::Classical,
    }
}

/// A member's tunnel addresses, each alone.
#[must_use]
pub fn addresses(ledger: &Ledger, member: &Member) -> Vec<IpNet> {
    addresses_of(ledger, member.index)
}

/// The tunnel addresses with a number, each alone.
#[must_use]
pub fn addresses_of(ledger: &Ledger, index: u32) -> Vec<IpNet> {
    let addresses = ledger.addresses(index);
    let both = addresses.map(|a| [Some(a.ipv6.into()), a.ipv4.map(Into::into)]);
    both.into_iter().flatten().flatten().map(|address: std::net::IpAddr| address.into()).collect()
}

/// Verifies a bundle under the root of the mesh.
///
/// # Errors
/// Why it does not count.
pub fn verify(mesh: &LedgerMesh, bytes: &[u8]) -> Result<(), Refused> {
    let bundle = Bundle::from_bytes(bytes).map_err(Refused::internal)?;
    let refused =
        |error: &dyn std::fmt::Display| Refused::new(ErrorCode::Refused, error.to_string());
    let options = Options { policy: policy(mesh.policy), ..Options::default() };
    let none: &[&[u8]] = &[];
    let verifier =
        Verifier::with(&[&mesh.root], &mesh.id, none, options).map_err(|e| refused(&e))?;
    let verified = bundle.verify(&verifier, &RevocationStore::new(), clock::system_time());
    verified.map(drop).map_err(|error| refused(&error))
}

const fn kind(kind: LedgerKind) -> RevokedKind {
    match kind {
        LedgerKind::Node => RevokedKind::Node,
        LedgerKind::Operator => RevokedKind::Operator,
        LedgerKind::Issuer => RevokedKind::Issuer,
        LedgerKind::Log => RevokedKind::Log,
    }
}

fn record(ledger: &Ledger, node: &str, member: &Member) -> Record {
    Record {
        mesh: ledger.mesh().map(|mesh| mesh.id.clone()).unwrap_or_default(),
        node: node.to_owned(),
        number: member.changed,
        keys: member.keys,
        addresses: addresses(ledger, member),
        routes: member.routes.iter().copied().collect(),
        endpoints: member.endpoints.clone(),
    }
}

fn issuers(ledger: &Ledger) -> Vec<IssuerCertificates> {
    let certificates = ledger.issuers().map(|(_, issuer)| IssuerCertificates {
        certificate: issuer.certificate.clone(),
        log: issuer.log_certificate.clone(),
    });
    certificates.collect()
}
