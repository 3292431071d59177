//! The joiner's half of enrolment: reach a hypermeshd that the token names, see that it belongs to
//! the token's mesh before anything is revealed, exchange a proof of the token for a certificate.

use std::sync::Arc;
use std::time::Duration;

use hypermesh_api::{
    Base64, Client, EnrolReply, EnrolRequest, ErrorCode, JoinReply, JoinRequest, path,
};
use rustls::pki_types::ServerName;
use stoq_identity::{Kind, NodeId, Policy};
use stoq_trustchain::{Enrolment, Request, RootFingerprint, Token, client_config, tls_reason};
use tokio::net::TcpStream;

use crate::app::{Answer, App};
use crate::caller::{Caller, Need};
use crate::core::Joined;
use crate::refused::Refused;
use crate::tls::Clock;
use crate::{clock, files, identity, peers};

/// How long to wait for a connection and the handshake: as long as a packet may be resent twice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the issuer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Joins the mesh of a token.
///
/// # Errors
/// What is wrong with the token, the server, or the clock.
pub async fn join(app: &App, caller: &Caller, request: JoinRequest) -> Answer<JoinReply> {
    app.core(|core| core.no_mesh()).await?;
    let token = Token::from_text(&request.token).map_err(invalid)?;
    if token.kind != Kind::Node {
        return Err(invalid("expected a node's token, got one of an operator"));
    }
    let asked = app.core({
        let hash = token.hash().map_err(Refused::internal)?;
        let (mesh, name) = (token.mesh.clone(), token.name.clone());
        move |core| {
            let id = NodeId::new(&mesh, &name).map_err(invalid)?;
            let keys = identity::keys_or_new(&core.dir, files::NODE_KEYS)?;
            let request = Request::new(&keys, Kind::Node, &id, &hash).map_err(Refused::internal)?;
            request.to_bytes().map_err(Refused::internal)
        }
    });
    let asked = asked.await?;
    let (endpoints, at_s) = (request.endpoints, clock::now_s());
    let enrolment = Enrolment { request: &asked, endpoints: &endpoints, at_s };
    let proof = token.prove(&enrolment).map_err(Refused::internal)?;
    let enrol = EnrolRequest { proof: Base64(proof), request: Base64(asked), endpoints, at_s };
    let (reply, root) = enrol_at_any(&token, &enrol).await?;
    let joined = Joined { node: token.name.clone(), root, reply };
    let action = format!("join {}", token.mesh);
    app.change(caller, Need::Local, action, move |core| core.take_membership(joined)).await
}

/// Tries the token's addresses in order; a refusal ends it, an unreachable address does not.
async fn enrol_at_any(
    token: &Token,
    request: &EnrolRequest,
) -> Result<(EnrolReply, Vec<u8>), Refused> {
    let mut last = invalid("expected an address in the token, got none");
    for address in &token.addresses {
        match enrol_at(address, token, request).await {
            Err(error) if error.0.code == ErrorCode::Unavailable => last = error,
            other => return other,
        }
    }
    Err(last)
}

async fn enrol_at(
    address: &str,
    token: &Token,
    request: &EnrolRequest,
) -> Result<(EnrolReply, Vec<u8>), Refused> {
    let (mut client, root) = reach(address, token.root).await?;
    match client.post(path::ENROL, request).await {
        Ok(reply) => Ok((reply, root)),
        Err(error) => Err(peers::answered(error)),
    }
}

/// A connection to the API of a host whose mesh has the root with this fingerprint, and that root (DER).
///
/// # Errors
/// [`ErrorCode::Unavailable`] when it cannot be reached, [`ErrorCode::Unauthenticated`] when it is of
/// another mesh, [`ErrorCode::Clock`] when the two clocks disagree.
pub async fn reach(address: &str, root: [u8; 32]) -> Result<(Client, Vec<u8>), Refused> {
    let unavailable = |error: &dyn std::fmt::Display| {
        let text =
            format!("cannot reach the mesh at {address}: {error}; see that TCP 9292 is open there");
        Refused::new(ErrorCode::Unavailable, text)
    };
    let verifier = Arc::new(RootFingerprint::new(root, Policy::Hybrid));
    let config = client_config(Arc::clone(&verifier) as _, None, Arc::new(Clock));
    let config = config.map_err(Refused::internal)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    // No name is verified: the root's fingerprint is.
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        connector.connect(name, stream).await
    };
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(handshake(address, &error).unwrap_or_else(|| unavailable(&error)));
        }
        Err(_) => return Err(unavailable(&format!("no answer in {CONNECT_TIMEOUT:?}"))),
    };
    let root = verifier.root().map(<[u8]>::to_vec);
    let root = root.ok_or_else(|| Refused::internal("a handshake without a root"))?;
    let client = Client::over(stream, ANSWER_TIMEOUT).await.map_err(|e| unavailable(&e))?;
    Ok((client, root))
}

/// Why the server is not of the token's mesh, or the two clocks disagree; none if it is another
/// error of the connection.
fn handshake(address: &str, error: &std::io::Error) -> Option<Refused> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let reason = tls_reason(tls)?;
    let text = format!("{address}: {reason}; nothing was sent to it");
    let clock = matches!(
        reason,
        stoq_trustchain::TlsReason::Verify(
            stoq_identity::VerifyError::NotYetValid { .. }
                | stoq_identity::VerifyError::Expired { .. }
        )
    );
    let code = if clock { ErrorCode::Clock } else { ErrorCode::Unauthenticated };
    Some(Refused::new(code, text))
}

fn invalid(error: impl std::fmt::Display) -> Refused {
    Refused::new(ErrorCode::Invalid, error.to_string())
}
