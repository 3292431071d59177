//! What followers ask for: the commands, the ledger, the bundle.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use hypermesh_api::{BundleReply, Commands, FromHeight, Refusal, Snapshot, path};

use super::From;
use crate::app::{Answer, App, Query};
use crate::caller::Need;

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
    let wait = Duration::from_secs(from.wait_s.min(MAX_WAIT_S));
    // No rise in time is no error: the answer is empty then.
    let _ = tokio::time::timeout(wait, height.wait_for(|height| *height > from.above)).await;
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
