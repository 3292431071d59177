//! Tokens, and what they and certificates are exchanged for.

use axum::Extension;
use axum::extract::State;
use hypermesh_api::{
    EnrolReply, EnrolRequest, ErrorCode, OperatorRole, Refusal, RenewReply, RenewRequest,
    TokenReply, TokenRequest, TokenRole, Tokens, path,
};

use super::From;
use crate::app::{Answer, App, Body};
use crate::caller::{Caller, Need};
use crate::core::Core;
use crate::refused::Refused;
use crate::{clock, peers};

/// All tokens, without their secrets.
#[utoipa::path(get, path = path::TOKENS,
    responses((status = 200, body = Tokens), (status = "default", body = Refusal)))]
pub async fn list(State(app): State<App>, Extension(caller): From) -> Answer<Tokens> {
    app.read(&caller, Need::Role(OperatorRole::Viewer), |core| core.tokens()).await
}

/// Makes a token.
#[utoipa::path(post, path = path::TOKENS, request_body = TokenRequest,
    responses((status = 200, body = TokenReply), (status = "default", body = Refusal)))]
pub async fn create(
    State(app): State<App>,
    Extension(caller): From,
    Body(request): Body<TokenRequest>,
) -> Answer<TokenReply> {
    // A token for an operator gives a role, and no one gives more than he has.
    let need = match request.role {
        TokenRole::Node => OperatorRole::Operator,
        TokenRole::Viewer | TokenRole::Operator | TokenRole::Admin => OperatorRole::Admin,
    };
    let action = format!("make-token {}", request.node);
    let now_s = clock::now_s();
    let job = move |core: &mut Core, request: TokenRequest| core.create_token(&request, now_s);
    peers::change(&app, &caller, Need::Role(need), (path::TOKENS, action), request, job).await
}

/// Exchanges a token for a certificate.
#[utoipa::path(post, path = path::ENROL, request_body = EnrolRequest,
    responses((status = 200, body = EnrolReply), (status = "default", body = Refusal)))]
pub async fn enrol(
    State(app): State<App>,
    Extension(caller): From,
    Body(request): Body<EnrolRequest>,
) -> Answer<EnrolReply> {
    app.check_pace(&caller)?;
    let now_s = clock::now_s();
    let action = "enrol".to_owned();
    let enrolled = app.change_checked(&caller, action, move |core| core.enrol(&request, now_s));
    let reply = enrolled.await?;
    app.metrics().issued.inc();
    Ok(reply)
}

/// Renews the certificate of the calling node or operator; or of the node that signed the request, which may come
/// without a link when its certificate has expired meanwhile.
#[utoipa::path(post, path = path::RENEW, request_body = RenewRequest,
    responses((status = 200, body = RenewReply), (status = "default", body = Refusal)))]
pub async fn renew(
    State(app): State<App>,
    Extension(caller): From,
    Body(request): Body<RenewRequest>,
) -> Answer<RenewReply> {
    let (name, operates) = match &caller {
        Caller::Node { name } => (name.clone(), false),
        Caller::Operator { name, .. } => (name.clone(), true),
        Caller::Anonymous { .. } => {
            app.check_pace(&caller)?;
            (Core::asks_to_renew(&request)?, false)
        }
        _ => {
            let text = format!("expected the node or the operator itself, got {caller}");
            return Err(Refused::new(ErrorCode::Forbidden, text));
        }
    };
    let now_s = clock::now_s();
    let action = format!("renew {name}");
    let renewed = app.change_checked(&caller, action, move |core| match operates {
        true => core.renew_operator(&name, &request, now_s),
        false => core.renew(&name, &request, now_s),
    });
    let reply = renewed.await?;
    app.metrics().issued.inc();
    Ok(reply)
}
