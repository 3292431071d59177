//! Members, their routes and endpoints, and operators.

use axum::Extension;
use axum::extract::State;
use hypermesh_api::{
    Done, Endpoints, Members, NodeName, OperatorCertificate, OperatorName, OperatorRequest,
    OperatorRole, Operators, Refusal, Revoked, Route, path,
};

use super::From;
use crate::app::{Answer, App, Body};
use crate::caller::Need;
use crate::core::Core;
use crate::{clock, peers, push};

const VIEWER: Need = Need::Role(OperatorRole::Viewer);
const ADMIN: Need = Need::Role(OperatorRole::Admin);

/// All members.
#[utoipa::path(get, path = path::MEMBERS,
    responses((status = 200, body = Members), (status = "default", body = Refusal)))]
pub async fn list(State(app): State<App>, Extension(caller): From) -> Answer<Members> {
    app.read(&caller, VIEWER, |core| core.members()).await
}

/// Cuts a node off for good.
#[utoipa::path(post, path = path::REVOKE, request_body = NodeName,
    responses((status = 200, body = Revoked), (status = "default", body = Refusal)))]
pub async fn revoke(
    State(app): State<App>,
    Extension(caller): From,
    Body(of): Body<NodeName>,
) -> Answer<Revoked> {
    let now_s = clock::now_s();
    let action = format!("revoke {}", of.node);
    let way = (path::REVOKE, action);
    let job = move |core: &mut Core, of: NodeName| core.revoke(&of.node, now_s);
    let revoked = peers::change(&app, &caller, ADMIN, way, of, job);
    let mut reply = revoked.await?;
    push_revocation(&app, &mut reply.0).await;
    Ok(reply)
}

/// Pushes at once, not at the next look: every second counts here. What was revoked at the sequencer
/// is pushed there, and here when it arrives.
async fn push_revocation(app: &App, reply: &mut Revoked) {
    if *app.height().borrow() >= reply.height {
        reply.not_pushed = push::push(app).await.err().map(|error| error.to_string());
    }
}

/// Puts a network behind a node.
#[utoipa::path(post, path = path::ROUTE_ADD, request_body = Route,
    responses((status = 200, body = Done), (status = "default", body = Refusal)))]
pub async fn add_route(
    State(app): State<App>,
    Extension(caller): From,
    Body(route): Body<Route>,
) -> Answer<Done> {
    let action = format!("add-route {} {}", route.node, route.prefix);
    let way = (path::ROUTE_ADD, action);
    peers::change(&app, &caller, ADMIN, way, route, Core::add_route).await
}

/// Takes a network away from a node.
#[utoipa::path(post, path = path::ROUTE_REMOVE, request_body = Route,
    responses((status = 200, body = Done), (status = "default", body = Refusal)))]
pub async fn remove_route(
    State(app): State<App>,
    Extension(caller): From,
    Body(route): Body<Route>,
) -> Answer<Done> {
    let action = format!("remove-route {} {}", route.node, route.prefix);
    let way = (path::ROUTE_REMOVE, action);
    peers::change(&app, &caller, ADMIN, way, route, Core::remove_route).await
}

/// Says where the calling node is reached now.
#[utoipa::path(post, path = path::ENDPOINTS, request_body = Endpoints,
    responses((status = 200, body = Done), (status = "default", body = Refusal)))]
pub async fn set_endpoints(
    State(app): State<App>,
    Extension(caller): From,
    Body(request): Body<Endpoints>,
) -> Answer<Done> {
    peers::set_endpoints(&app, &caller, request).await
}

/// All operators.
#[utoipa::path(get, path = path::OPERATORS,
    responses((status = 200, body = Operators), (status = "default", body = Refusal)))]
pub async fn operators(State(app): State<App>, Extension(caller): From) -> Answer<Operators> {
    app.read(&caller, VIEWER, |core| core.operators()).await
}

/// Gives an operator a role and a certificate.
#[utoipa::path(post, path = path::OPERATORS, request_body = OperatorRequest,
    responses((status = 200, body = OperatorCertificate), (status = "default", body = Refusal)))]
pub async fn set_operator(
    State(app): State<App>,
    Extension(caller): From,
    Body(request): Body<OperatorRequest>,
) -> Answer<OperatorCertificate> {
    let now_s = clock::now_s();
    let action = format!("set-role {} {:?}", request.name, request.role);
    let way = (path::OPERATORS, action);
    let job = move |core: &mut Core, request: OperatorRequest| core.set_operator(&request, now_s);
    peers::change(&app, &caller, ADMIN, way, request, job).await
}

/// Takes an operator's rights away for good.
#[utoipa::path(post, path = path::OPERATOR_REMOVE, request_body = OperatorName,
    responses((status = 200, body = Revoked), (status = "default", body = Refusal)))]
pub async fn remove_operator(
    State(app): State<App>,
    Extension(caller): From,
    Body(of): Body<OperatorName>,
) -> Answer<Revoked> {
    let now_s = clock::now_s();
    let action = format!("remove-operator {}", of.name);
    let way = (path::OPERATOR_REMOVE, action);
    let job = move |core: &mut Core, of: OperatorName| core.revoke(&of.name, now_s);
    let revoked = peers::change(&app, &caller, ADMIN, way, of, job);
    let mut reply = revoked.await?;
    push_revocation(&app, &mut reply.0).await;
    Ok(reply)
}
