//! What this daemon asks of the hypermeshds of other nodes, over STOQ, and what they may ask of it.

use axum::Json;
use hypermesh_api::{
    Client, Done, Endpoints, ErrorCode, IssuerRequest, IssuerRequestOf, OperatorRole, path,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::{Answer, App};
use crate::caller::{Caller, Need};
use crate::clock;
use crate::core::Core;
use crate::refused::Refused;

/// What is needed of a caller: nothing more of an issuer of the mesh, as it signs records and
/// revocations that every node takes anyway.
///
/// # Errors
/// [`ErrorCode::Forbidden`].
pub async fn need_of_issuer(app: &App, caller: &Caller, need: Need) -> Result<Need, Refused> {
    let Caller::Node { name } = caller else { return Ok(need) };
    let name = name.clone();
    let issues = app.core(move |core| Ok(core.mesh()?.chain.ledger().issuer(&name).is_some()));
    if issues.await? { Ok(Need::Member) } else { Ok(need) }
}

/// A change of the mesh by whoever may: made here by the sequencer, and sent there by an issuer that
/// follows it. Elsewhere the refusal says where to go.
///
/// # Errors
/// The refusal of the check, that of `job`, or [`ErrorCode::Unavailable`].
pub async fn change<B, T, F>(
    app: &App,
    caller: &Caller,
    need: Need,
    (path, action): (&str, String),
    body: B,
    job: F,
) -> Answer<T>
where
    B: Serialize + Send + 'static,
    T: DeserializeOwned + Send + 'static,
    F: FnOnce(&mut Core, B) -> Result<T, Refused> + Send + 'static,
{
    let need = need_of_issuer(app, caller, need).await?;
    let own = !matches!(caller, Caller::Node { .. }) && caller.check(need).is_ok();
    if own && app.core(|core| Ok(core.is_following_issuer())).await? {
        let made = match connect_sequencer(app).await? {
            Some(mut client) => client.post(path, &body).await.map_err(answered),
            None => Err(Refused::internal("a sequencer that follows")),
        };
        return app.change_checked(caller, format!("{action} at the sequencer"), |_| made).await;
    }
    app.change(caller, need, action, move |core| job(core, body)).await
}

/// The node that a caller may speak for: itself; this host for its own processes.
fn speaks_for(core: &mut Core, caller: &Caller) -> Result<String, Refused> {
    match caller {
        Caller::Node { name } => Ok(name.clone()),
        Caller::Local { .. } => Ok(core.mesh()?.standing.node.clone()),
        other => Err(Refused::new(
            ErrorCode::Forbidden,
            format!("expected the node itself, got {other}; run it on that host"),
        )),
    }
}

/// The sequencer's name, unless this daemon is it.
fn sequencer(core: &mut Core) -> Result<Option<String>, Refused> {
    let membership = core.mesh()?;
    if membership.standing.sequencer {
        return Ok(None);
    }
    let name = membership.sequencer().ok_or_else(|| {
        Refused::new(ErrorCode::Unavailable, "the host that decides the order of changes has left")
    })?;
    Ok(Some(name.to_owned()))
}

/// A connection to a peer's hypermeshd.
///
/// # Errors
/// [`ErrorCode::Unavailable`] when stoqd or the peer cannot be reached.
pub async fn connect(app: &App, peer: &str) -> Result<Client, Refused> {
    app.stoqd().peer(peer).await.map_err(|error| {
        Refused::new(ErrorCode::Unavailable, format!("cannot ask {peer} over STOQ: {error}"))
    })
}

/// A connection to the sequencer; none if this daemon is it.
///
/// # Errors
/// [`ErrorCode::Unavailable`].
pub async fn connect_sequencer(app: &App) -> Result<Option<Client>, Refused> {
    match app.core(sequencer).await? {
        Some(name) => connect(app, &name).await.map(Some),
        None => Ok(None),
    }
}

/// Takes a node out of the mesh by its own will.
///
/// # Errors
/// When the ledger refuses, or the sequencer cannot be reached.
pub async fn leave(app: &App, caller: &Caller) -> Answer<Done> {
    let asking = caller.clone();
    let node = app.core(move |core| speaks_for(core, &asking)).await?;
    let own = matches!(caller, Caller::Local { .. });
    let action = format!("leave {node}");
    let done = match connect_sequencer(app).await? {
        Some(mut client) => Json(client.post(path::LEAVE, &()).await.map_err(answered)?),
        None => {
            let job = move |core: &mut Core| core.leave(&node, clock::now_s());
            app.change_checked(caller, action, job).await?
        }
    };
    if own {
        app.core(|core| core.left()).await?;
    }
    Ok(done)
}

/// Says where a node is reached now.
///
/// # Errors
/// As [`leave`].
pub async fn set_endpoints(app: &App, caller: &Caller, request: Endpoints) -> Answer<Done> {
    let asking = caller.clone();
    let node = app.core(move |core| speaks_for(core, &asking)).await?;
    if let Some(mut client) = connect_sequencer(app).await? {
        return client.post(path::ENDPOINTS, &request).await.map(Json).map_err(answered);
    }
    let action = format!("set-endpoints {node}");
    app.change_checked(caller, action, move |core| core.set_endpoints(&node, request)).await
}

/// Has a member make an issuer's keys.
///
/// # Errors
/// When it cannot be reached, or refuses.
pub async fn issuer_request(app: &App, caller: &Caller, node: String) -> Answer<IssuerRequest> {
    let asked = node.clone();
    let job = move |core: &mut Core| {
        let membership = core.mesh()?;
        let mesh = membership.chain.ledger().mesh().map(|mesh| mesh.id.clone());
        let own = membership.standing.node == asked;
        Ok((IssuerRequestOf { mesh: mesh.unwrap_or_default(), node: asked }, own))
    };
    let (of, own) = app.core(job).await?;
    let action = format!("ask-issuer-keys {node}");
    if own {
        let need = Need::Role(OperatorRole::Admin);
        return app.change(caller, need, action, move |core| core.issuer_request(&of)).await;
    }
    let mut client = connect(app, &node).await?;
    client.post(path::ISSUER_REQUEST, &of).await.map(Json).map_err(answered)
}

/// A peer's refusal as it is; anything else as unavailable.
pub fn answered(error: hypermesh_api::ClientError) -> Refused {
    match error {
        hypermesh_api::ClientError::Refused(refusal) => refusal.into(),
        other => Refused::new(ErrorCode::Unavailable, other.to_string()),
    }
}
