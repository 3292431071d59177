//! What the daemon is, and what changes that: founding, joining, promoting, leaving, backups.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hypermesh_api::{
    AddIssuerRequest, Done, FoundReply, FoundRequest, IssuerRequest, IssuerRequestOf, JoinReply,
    JoinRequest, MAX_BACKUP_BYTES, NodeName, OperatorRole, Refusal, Status, path,
};

use super::From;
use crate::app::{Answer, App, Body};
use crate::caller::Need;
use crate::refused::Refused;
use crate::{backup, clock, join, peers};

const ADMIN: Need = Need::Role(OperatorRole::Admin);

/// What this daemon is and how it fares.
#[utoipa::path(get, path = path::STATUS,
    responses((status = 200, body = Status), (status = "default", body = Refusal)))]
pub async fn status(State(app): State<App>, Extension(caller): From) -> Answer<Status> {
    let (seen, uptime_s) = (app.stoqd().seen(), app.started().elapsed().as_secs());
    let mut warned = app.names().warnings();
    warned.extend(app.heads().warnings());
    let job = move |core: &mut crate::core::Core| {
        let mut status = core.status();
        status.uptime_s = uptime_s;
        status.warnings.extend(seen.error.clone());
        status.warnings.extend(warned);
        status.stoqd = seen;
        Ok(status)
    };
    app.read(&caller, Need::Member, job).await
}

/// Makes the keys of an issuer and its log, and returns what the root signs.
#[utoipa::path(post, path = path::ISSUER_REQUEST, request_body = IssuerRequestOf,
    responses((status = 200, body = IssuerRequest), (status = "default", body = Refusal)))]
pub async fn issuer_request(
    State(app): State<App>,
    Extension(caller): From,
    Body(of): Body<IssuerRequestOf>,
) -> Answer<IssuerRequest> {
    // An issuer may ask its peers: the root signs what it asks for, or not.
    let need = peers::need_of_issuer(&app, &caller, Need::Local).await?;
    let action = format!("make-issuer-keys {}", of.node);
    app.change(&caller, need, action, move |core| core.issuer_request(&of)).await
}

/// Founds a mesh.
#[utoipa::path(post, path = path::FOUND, request_body = FoundRequest,
    responses((status = 200, body = FoundReply), (status = "default", body = Refusal)))]
pub async fn found(
    State(app): State<App>,
    Extension(caller): From,
    Body(request): Body<FoundRequest>,
) -> Answer<FoundReply> {
    let action = format!("found {} at {}", request.name, request.node);
    app.change(&caller, Need::Local, action, move |core| core.found(&request)).await
}

/// Joins a mesh by a token.
#[utoipa::path(post, path = path::JOIN, request_body = JoinRequest,
    responses((status = 200, body = JoinReply), (status = "default", body = Refusal)))]
pub async fn join(
    State(app): State<App>,
    Extension(caller): From,
    Body(request): Body<JoinRequest>,
) -> Answer<JoinReply> {
    caller.check(Need::Local)?;
    join::join(&app, &caller, request).await
}

/// Takes this node out of the mesh.
#[utoipa::path(post, path = path::LEAVE,
    responses((status = 200, body = Done), (status = "default", body = Refusal)))]
pub async fn leave(State(app): State<App>, Extension(caller): From) -> Answer<Done> {
    peers::leave(&app, &caller).await
}

/// Makes the keys of an issuer at another member, and returns what the root signs.
#[utoipa::path(post, path = path::PROMOTE_REQUEST, request_body = NodeName,
    responses((status = 200, body = IssuerRequest), (status = "default", body = Refusal)))]
pub async fn promote_request(
    State(app): State<App>,
    Extension(caller): From,
    Body(of): Body<NodeName>,
) -> Answer<IssuerRequest> {
    caller.check(ADMIN)?;
    peers::issuer_request(&app, &caller, of.node).await
}

/// Makes a member an issuer.
#[utoipa::path(post, path = path::PROMOTE, request_body = AddIssuerRequest,
    responses((status = 200, body = Done), (status = "default", body = Refusal)))]
pub async fn promote(
    State(app): State<App>,
    Extension(caller): From,
    Body(request): Body<AddIssuerRequest>,
) -> Answer<Done> {
    let action = format!("promote {}", request.node);
    let job = |core: &mut crate::core::Core, request| core.promote(&request);
    peers::change(&app, &caller, ADMIN, (path::PROMOTE, action), request, job).await
}

/// The first backup of each hour is written to the audit log: an entry and its signed head are 3 KB, and a timer
/// asks every few minutes, so that the log would be most of what is backed up.
const BACKUPS_AUDITED_S: i64 = 60 * 60;

/// The whole state as one file.
#[utoipa::path(post, path = path::BACKUP, responses(
    (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
    (status = "default", body = Refusal)))]
pub async fn backup(State(app): State<App>, Extension(caller): From) -> Result<Response, Refused> {
    let (last_s, now_s) = (app.metrics().backed_up_s.get(), clock::now_s());
    let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
    let is_in_the_audit_log = last_s / BACKUPS_AUDITED_S == now_s / BACKUPS_AUDITED_S;
    let bytes = if is_in_the_audit_log && caller.check(Need::Local).is_ok() {
        app.core(backup::make).await?
    } else {
        let made = app.change(&caller, Need::Local, "backup".into(), backup::make);
        let Json(bytes) = made.await?;
        bytes
    };
    app.metrics().backed_up_s.set(now_s);
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Takes a backup over where there is no mesh yet.
#[utoipa::path(post, path = path::RESTORE,
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = FoundReply), (status = "default", body = Refusal)))]
pub async fn restore(
    State(app): State<App>,
    Extension(caller): From,
    bytes: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Answer<FoundReply> {
    let bytes = bytes
        .map_err(|error| Refused::new(hypermesh_api::ErrorCode::TooLarge, error.body_text()))?;
    let job = move |core: &mut crate::core::Core| {
        backup::restore(core, &bytes)?;
        core.founded()
    };
    app.change(&caller, Need::Local, "restore".into(), job).await
}

/// A backup is longer than any other body.
pub fn restore_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_BACKUP_BYTES)
}
