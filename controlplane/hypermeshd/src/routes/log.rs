//! The certificate log and the audit log, for whoever checks them from outside.

use axum::Extension;
use axum::extract::State;
use hypermesh_api::{
    AuditEntries, Consistency, ConsistencyQuery, Heads, LogEntries, OperatorRole, Proof,
    ProofQuery, RangeQuery, Refusal, path,
};

use super::From;
use crate::app::{Answer, App, Query};
use crate::caller::Need;

/// The newest signed heads.
#[utoipa::path(get, path = path::LOG_HEADS,
    responses((status = 200, body = Heads), (status = "default", body = Refusal)))]
pub async fn heads(State(app): State<App>, Extension(caller): From) -> Answer<Heads> {
    app.read(&caller, Need::Member, |core| core.log_heads()).await
}

/// Certificates of this issuer's log, in order.
#[utoipa::path(get, path = path::LOG_ENTRIES, params(RangeQuery),
    responses((status = 200, body = LogEntries), (status = "default", body = Refusal)))]
pub async fn entries(
    State(app): State<App>,
    Extension(caller): From,
    Query(range): Query<RangeQuery>,
) -> Answer<LogEntries> {
    app.read(&caller, Need::Member, move |core| core.log_entries(range)).await
}

/// A proof that a certificate is in this issuer's log.
#[utoipa::path(get, path = path::LOG_PROOF, params(ProofQuery),
    responses((status = 200, body = Proof), (status = "default", body = Refusal)))]
pub async fn proof(
    State(app): State<App>,
    Extension(caller): From,
    Query(query): Query<ProofQuery>,
) -> Answer<Proof> {
    app.read(&caller, Need::Member, move |core| core.log_proof(query)).await
}

/// A proof that a newer head continues an older one.
#[utoipa::path(get, path = path::LOG_CONSISTENCY, params(ConsistencyQuery),
    responses((status = 200, body = Consistency), (status = "default", body = Refusal)))]
pub async fn consistency(
    State(app): State<App>,
    Extension(caller): From,
    Query(query): Query<ConsistencyQuery>,
) -> Answer<Consistency> {
    app.read(&caller, Need::Member, move |core| core.log_consistency(query)).await
}

/// Entries of the audit log.
#[utoipa::path(get, path = path::AUDIT, params(RangeQuery),
    responses((status = 200, body = AuditEntries), (status = "default", body = Refusal)))]
pub async fn audit(
    State(app): State<App>,
    Extension(caller): From,
    Query(range): Query<RangeQuery>,
) -> Answer<AuditEntries> {
    app.read(&caller, Need::Role(OperatorRole::Viewer), move |core| core.audit_entries(range)).await
}
