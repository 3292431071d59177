//! What followers ask for: the commands, the ledger, the bundle.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::{Extension, Json};
use hypermesh_api::{
    BundleReply, Commands, Done, FromHeight, HeadReply, LedgerReport, MAX_REPORT_BYTES, Refusal,
    Snapshot, path,
};

use super::From;
use crate::app::{Answer, App, Body, Query};
use crate::caller::Need;
use crate::core::Heard;
use crate::recover;

/// Longest wait of a long poll in seconds: below what anything between two hosts gives up after.
const MAX_WAIT_S: u64 = 60;

/// The commands above a height; waits for one if there is none.
#[utoipa::path(get, path = path::COMMANDS, params(FromHeight),
    responses((status = 200, body = Commands), (status = "default", body = Refusal)))]
pub async fn commands(
    State(app): State<App>,
    Extension(caller): From,
    Query(from): Query<FromHeight>,
) -> Answer<Commands> {
    caller.check(Need::Member)?;
    let mut height = app.height();
    if app.core(move |core| core.has_no_news(from.above, from.term)).await? {
        let wait = Duration::from_secs(from.wait_s.min(MAX_WAIT_S));
        // No rise in time is no error: the answer is empty then.
        let _ = tokio::time::timeout(wait, height.wait_for(|height| *height > from.above)).await;
    }
    app.read(&caller, Need::Member, move |core| core.commands(from.above)).await
}

/// The ledger as it is now.
#[utoipa::path(get, path = path::SNAPSHOT,
    responses((status = 200, body = Snapshot), (status = "default", body = Refusal)))]
pub async fn snapshot(State(app): State<App>, Extension(caller): From) -> Answer<Snapshot> {
    app.read(&caller, Need::Member, |core| core.snapshot()).await
}

/// The signed state of the mesh.
#[utoipa::path(get, path = path::BUNDLE,
    responses((status = 200, body = BundleReply), (status = "default", body = Refusal)))]
pub async fn bundle(State(app): State<App>, Extension(caller): From) -> Answer<BundleReply> {
    app.read(&caller, Need::Member, |core| core.bundle()).await
}

/// What the ledger here comes to.
#[utoipa::path(get, path = path::LEDGER_HEAD,
    responses((status = 200, body = HeadReply), (status = "default", body = Refusal)))]
pub async fn head(State(app): State<App>, Extension(caller): From) -> Answer<HeadReply> {
    app.read(&caller, Need::Member, |core| core.ledger_head()).await
}

/// A member has another ledger than this sequencer. What it shows is signed; its word counts for nothing.
#[utoipa::path(post, path = path::LEDGER_HEAD, request_body = LedgerReport,
    responses((status = 200, body = Done), (status = "default", body = Refusal)))]
pub async fn report(
    State(app): State<App>,
    Extension(caller): From,
    Body(report): Body<LedgerReport>,
) -> Answer<Done> {
    caller.check(Need::Member)?;
    if let Some(head) = report.head {
        let heard = app.core(move |core| core.hear(&head.0)).await;
        recover::tell_doubt(&app).await;
        if matches!(heard?, Heard::Ended(_)) {
            return app.core(|core| Ok(Done { height: core.height() })).await.map(Json);
        }
    }
    let Some(set) = report.revocations else {
        return app.core(|core| Ok(Done { height: core.height() })).await.map(Json);
    };
    let actor = caller.to_string();
    app.core(move |core| core.keep_revocations(&actor, &set.0)).await.map(Json)
}

/// A report may hold a whole set of revocations.
pub fn report_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_REPORT_BYTES)
}
