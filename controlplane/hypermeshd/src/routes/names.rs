//! The mesh's names on this host.

use axum::Extension;
use axum::extract::State;
use hypermesh_api::{Names, OperatorRole, Refusal, path};

use super::From;
use crate::app::{Answer, App};
use crate::caller::Need;

/// Where names are asked, for which domains, and by what their signatures are verified.
#[utoipa::path(get, path = path::NAMES,
    responses((status = 200, body = Names), (status = "default", body = Refusal)))]
pub async fn show(State(app): State<App>, Extension(caller): From) -> Answer<Names> {
    let names = app.names().answers_for();
    app.read(&caller, Need::Role(OperatorRole::Viewer), move |_| Ok(names)).await
}
