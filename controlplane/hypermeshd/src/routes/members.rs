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
    let revoked = app.change(&caller, ADMIN, action, move |core| core.revoke(&of.node, now_s));
    let mut reply = revoked.await?;
    // At once, not at the next look: every second counts here.
    reply.0.not_pushed = push::push(&app).await.err().map(|error| error.to_string());
    Ok(reply)
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
    app.change(&caller, ADMIN, action, move |core| core.add_route(route)).await
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
    app.change(&caller, ADMIN, action, move |core| core.remove_route(route)).await
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
    app.change(&caller, ADMIN, action, move |core| core.set_operator(&request, now_s)).await
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
    let revoked = app.change(&caller, ADMIN, action, move |core| core.revoke(&of.name, now_s));
    let mut reply = revoked.await?;
    reply.0.not_pushed = push::push(&app).await.err().map(|error| error.to_string());
    Ok(reply)
}
