//! The routes of the API and their OpenAPI description, from one list.
//!
//! Each handler says what it needs of its caller and hands the work to the core. The forms of
//! requests and responses are those of `hypermesh_api`.

mod ledger;
mod log;
mod members;
mod mesh;
mod names;
mod tokens;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Json, Router, middleware};
use hypermesh_api::{ErrorCode, MAX_REQUEST_BYTES, path};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::{Caller, Need};
use crate::metrics;
use crate::refused::Refused;

/// Who calls, as the listener said.
type From = Extension<Caller>;

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "hypermeshd",
    description = "The control plane of a STOQ mesh. Every response that is no success is a Refusal."
))]
struct Description;

fn described() -> (Router<App>, OpenApi) {
    let long = OpenApiRouter::new()
        .routes(routes!(mesh::restore))
        .layer(mesh::restore_limit())
        .layer(middleware::from_fn(for_this_host));
    let reports = OpenApiRouter::new()
        .routes(routes!(ledger::head, ledger::report))
        .layer(ledger::report_limit())
        .layer(middleware::from_fn(for_members));
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(mesh::status))
        .routes(routes!(mesh::issuer_request))
        .routes(routes!(mesh::found))
        .routes(routes!(mesh::join))
        .routes(routes!(mesh::leave))
        .routes(routes!(mesh::promote_request))
        .routes(routes!(mesh::promote))
        .routes(routes!(mesh::backup))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::enrol))
        .routes(routes!(tokens::renew))
        .routes(routes!(members::list))
        .routes(routes!(members::revoke))
        .routes(routes!(members::add_route))
        .routes(routes!(members::remove_route))
        .routes(routes!(members::set_endpoints))
        .routes(routes!(members::operators, members::set_operator))
        .routes(routes!(members::remove_operator))
        .routes(routes!(names::show))
        .routes(routes!(ledger::commands))
        .routes(routes!(ledger::snapshot))
        .routes(routes!(ledger::bundle))
        .routes(routes!(log::heads))
        .routes(routes!(log::entries))
        .routes(routes!(log::proof))
        .routes(routes!(log::consistency))
        .routes(routes!(log::audit))
        .merge(long)
        .merge(reports)
        .split_for_parts()
}

/// Before a long body is read: what a stranger sends would be held until the handler looks at who it is.
async fn for_this_host(caller: From, request: Request, next: Next) -> Result<Response, Refused> {
    caller.check(Need::Local)?;
    Ok(next.run(request).await)
}

/// Likewise where members may send long bodies.
async fn for_members(caller: From, request: Request, next: Next) -> Result<Response, Refused> {
    caller.check(Need::Member)?;
    Ok(next.run(request).await)
}

/// The OpenAPI description.
#[must_use]
pub fn description() -> OpenApi {
    described().1
}

/// The router that all listeners serve.
pub fn router(app: App) -> Router {
    let (router, description) = described();
    let description = Json(description);
    router
        .route(path::OPENAPI, get(move || std::future::ready(description.clone())))
        .fallback(no_route)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::count))
        .with_state(app)
}

async fn no_route() -> Refused {
    let known = path::OPENAPI;
    Refused::new(ErrorCode::NotFound, format!("expected a path of the API; {known} lists them"))
}
