//! Who may do what: operators by their certificates, nodes by their links, strangers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use std::sync::Arc;

use hosts::{Host, PATIENCE, Root, code, read, refused};
use hypermesh_api::{
    AuditEntries, Base64, BlockingClient, BundleReply, Client, ClientError, Commands, Done,
    Endpoints, EnrolReply, EnrolRequest, ErrorCode, Members, NodeName, RenewReply, RenewRequest,
    Revoked, TokenRole, path,
};
use hypermeshd::{clock, pem, tls};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use stoq_identity::{CertificateInfo, Kind, NodeId, Options, PrivateKeys, Verifier};
use stoq_trustchain::{Enrolment, Request, ServerVerifier, Token, client_config, renewal_context};

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The API over TLS, as somebody with this identity.
fn over_tls(
    host: &Host,
    root: &Root,
    identity: Option<Identity>,
) -> Result<BlockingClient, ClientError> {
    let none: &[&[u8]] = &[];
    let (roots, mesh) = ([root.0.certificate()], root.0.mesh());
    let verifier = Verifier::with(&roots, mesh, none, Options::default()).unwrap();
    let verifier = Arc::new(ServerVerifier(Arc::new(verifier)));
    let config = client_config(verifier, identity, Arc::new(tls::Clock)).unwrap();
    let (connector, address) = (tokio_rustls::TlsConnector::from(Arc::new(config)), host.listen);
    BlockingClient::connect(async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("any").unwrap();
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| ClientError::Broken(error.to_string()))?;
        Client::over(stream, PATIENCE).await
    })
}

/// Enrols an operator by a token over TLS, as stoqctl does.
fn operator(host: &Host, root: &Root, name: &str, role: TokenRole) -> Identity {
    let (chain, keys) = enrolled(host, root, name, role);
    (chain, keys.classical_der())
}

fn enrolled(
    host: &Host,
    root: &Root,
    name: &str,
    role: TokenRole,
) -> (Vec<CertificateDer<'static>>, PrivateKeys) {
    let token = Token::from_text(&host.token(name, role, 600)).unwrap();
    let keys = PrivateKeys::generate().unwrap();
    let id = NodeId::new(&token.mesh, &token.name).unwrap();
    let request = Request::new(&keys, token.kind, &id, &token.hash().unwrap()).unwrap();
    let (request, at_s) = (request.to_bytes().unwrap(), clock::now_s());
    let enrolment = Enrolment { request: &request, endpoints: &[], at_s };
    let proof = Base64(token.prove(&enrolment).unwrap());
    let enrol = EnrolRequest { proof, request: Base64(request), endpoints: Vec::new(), at_s };
    let mut client = over_tls(host, root, None).unwrap();
    let reply: EnrolReply = client.post(path::ENROL, &enrol).unwrap();
    let leaf = pem::first_certificate("it", &reply.certificate).unwrap();
    let mesh = stoq_mesh::Bundle::from_bytes(&reply.bundle.0).unwrap();
    let chain = [leaf, mesh.issuers[0].certificate.clone()].map(CertificateDer::from).to_vec();
    (chain, keys)
}

fn last_audited(host: &Host) -> String {
    let audit: AuditEntries = host.client().get(path::AUDIT).unwrap();
    let last = audit.entries.last().unwrap();
    format!("{} {} {}", last.actor, last.action, last.result)
}

#[test]
fn a_viewer_reads_and_revokes_nobody() {
    let host = Host::start();
    let (root, _) = host.found("lab", "edge-a");
    let identity = operator(&host, &root, "eva", TokenRole::Viewer);
    let mut eva = over_tls(&host, &root, Some(identity)).unwrap();
    assert_eq!(eva.get::<Members>(path::MEMBERS).unwrap().members.len(), 1);
    let node = NodeName { node: "edge-a".into() };
    assert_eq!(code(eva.post::<_, Revoked>(path::REVOKE, &node)), ErrorCode::Forbidden);
    let audited = last_audited(&host);
    assert!(audited.contains("eva") && audited.contains("revoke edge-a"), "{audited}");
    assert!(audited.contains("refused"), "{audited}");
}

#[test]
fn an_admin_works_from_afar_until_revoked() {
    let host = Host::start();
    let (root, _) = host.found("lab", "edge-a");
    let identity = operator(&host, &root, "adam", TokenRole::Admin);
    let key = identity.1.clone_key();
    let again = (identity.0.clone(), key);
    let mut adam = over_tls(&host, &root, Some(identity)).unwrap();
    let route =
        hypermesh_api::Route { node: "edge-a".into(), prefix: "10.2.0.0/16".parse().unwrap() };
    adam.post::<_, Done>(path::ROUTE_ADD, &route).unwrap();
    host.client().post::<_, Revoked>(path::REVOKE, &NodeName { node: "adam".into() }).unwrap();
    let mut gone = over_tls(&host, &root, Some(again)).unwrap();
    let refusal = refused(gone.get::<Members>(path::MEMBERS));
    assert_eq!(refusal.code, ErrorCode::Forbidden);
    assert!(refusal.message.contains("revoked operator adam"), "{}", refusal.message);
}

/// What an operator asks for whose keys these are, at this time, as this kind and name.
fn renewal(root: &Root, keys: &PrivateKeys, (kind, name): (Kind, &str), at_s: u64) -> RenewRequest {
    let id = NodeId::new(root.0.mesh(), name).unwrap();
    let context = renewal_context(&keys.public().fingerprint(), at_s);
    let request = Request::new(keys, kind, &id, &context).unwrap();
    RenewRequest { request: Base64(request.to_bytes().unwrap()), at_s }
}

#[test]
fn an_operator_renews_his_own_certificate_and_no_other() {
    let host = Host::start();
    let (root, _) = host.found("lab", "edge-a");
    let (chain, keys) = enrolled(&host, &root, "eva", TokenRole::Viewer);
    let others = operator(&host, &root, "adam", TokenRole::Admin);
    let mut eva = over_tls(&host, &root, Some((chain, keys.classical_der()))).unwrap();
    let (now_s, kind) = (clock::now_s(), Kind::Operator(stoq_identity::OperatorRole::Viewer));
    let request = renewal(&root, &keys, (kind, "eva"), now_s);
    let reply: RenewReply = eva.post(path::RENEW, &request).unwrap();
    let renewed: Vec<_> =
        CertificateDer::pem_slice_iter(reply.certificate.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(renewed.len(), 2, "his, and the issuer's");
    let info = CertificateInfo::read(&renewed[0]).unwrap();
    assert_eq!((info.kind, &info.keys), (Some(kind), keys.public()));
    let mut again = over_tls(&host, &root, Some((renewed, keys.classical_der()))).unwrap();
    assert_eq!(again.get::<Members>(path::MEMBERS).unwrap().members.len(), 1);

    let mut refuses = |keys: &PrivateKeys, of: (Kind, &str), at_s: u64| {
        code(eva.post::<_, RenewReply>(path::RENEW, &renewal(&root, keys, of, at_s)))
    };
    assert_eq!(refuses(&keys, (kind, "adam"), now_s), ErrorCode::Forbidden);
    assert_eq!(refuses(&keys, (Kind::Node, "eva"), now_s), ErrorCode::Forbidden);
    assert_eq!(refuses(&keys, (kind, "eva"), now_s - 3600), ErrorCode::Clock);
    let foreign = PrivateKeys::generate().unwrap();
    assert_eq!(refuses(&foreign, (kind, "eva"), now_s), ErrorCode::Invalid);
    let mut adam = over_tls(&host, &root, Some(others)).unwrap();
    let recorded = adam.post::<_, RenewReply>(path::RENEW, &request);
    assert_eq!(code(recorded), ErrorCode::Forbidden);
    host.client().post::<_, Revoked>(path::REVOKE, &NodeName { node: "eva".into() }).unwrap();
    let request = renewal(&root, &keys, (kind, "eva"), clock::now_s());
    assert_eq!(code(again.post::<_, RenewReply>(path::RENEW, &request)), ErrorCode::Forbidden);
}

#[test]
fn a_node_certificate_is_none_of_an_operator() {
    let host = Host::start();
    let (root, _) = host.found("lab", "edge-a");
    let text = read(&host.state().join("identity.pem"));
    let leaf = CertificateDer::from(pem::first_certificate("it", &text).unwrap());
    let key = PrivateKeys::from_pem(&text).unwrap().classical_der();
    // TLS 1.3 tells the client of its refusal only with the first answer.
    let refused = match over_tls(&host, &root, Some((vec![leaf], key))) {
        Ok(mut client) => client.get::<Members>(path::MEMBERS).map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(ClientError::Broken(_))), "{refused:?}");
    let begin = std::time::Instant::now();
    while !last_audited(&host).contains("connect") {
        assert!(begin.elapsed() < PATIENCE, "{}", last_audited(&host));
    }
    assert!(last_audited(&host).contains("operator"), "{}", last_audited(&host));
}

#[test]
fn a_stranger_reads_nothing() {
    let host = Host::start();
    let (root, _) = host.found("lab", "edge-a");
    let mut stranger = over_tls(&host, &root, None).unwrap();
    for path in [path::STATUS, path::MEMBERS, path::BUNDLE, path::AUDIT, path::COMMANDS] {
        let got = stranger.get::<serde_json::Value>(path);
        assert_eq!(code(got), ErrorCode::Unauthenticated, "{path}");
    }
}

#[test]
fn a_long_body_is_not_waited_for_when_its_sender_may_not_send_it() {
    let host = Host::start();
    host.found("lab", "edge-a");
    let mut node = std::os::unix::net::UnixStream::connect(host.peers()).unwrap();
    node.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "{{\"peer\":\"edge-x\"}}\nPOST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 1073741824\r\n\r\n",
        path::RESTORE
    );
    std::io::Write::write_all(&mut node, head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut node, &mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
}

/// Whoever is refused, by whatever part of the daemon: counted by the reason, and on the record.
#[test]
fn every_refusal_is_counted_by_its_reason_and_audited() {
    let host = Host::start();
    let (root, _) = host.found("lab", "edge-a");
    let mut stranger = over_tls(&host, &root, None).unwrap();
    let mut node = host.as_peer("edge-x");
    let nothing = serde_json::json!({});
    let mut garbage = std::os::unix::net::UnixStream::connect(host.peers()).unwrap();
    std::io::Write::write_all(&mut garbage, b"no line of stoqd\n").unwrap();
    std::io::Read::read_to_end(&mut garbage, &mut Vec::new()).unwrap();
    let get = |client: &mut BlockingClient, path: &str| code(client.get::<Members>(path));
    let post =
        |client: &mut BlockingClient, path: &str| code(client.post::<_, Done>(path, &nothing));
    let before = host.refusals("unauthenticated");
    assert_eq!(get(&mut stranger, path::MEMBERS), ErrorCode::Unauthenticated);
    let node_name = NodeName { node: "edge-a".into() };
    let promoted = stranger.post::<_, Done>(path::PROMOTE_REQUEST, &node_name);
    assert_eq!(code(promoted), ErrorCode::Unauthenticated);
    assert_eq!(host.refusals("unauthenticated"), before + 2);
    assert_eq!(get(&mut stranger, "/v1/nothing"), ErrorCode::NotFound);
    assert_eq!(host.refusals("not_found"), 1);
    assert_eq!(post(&mut stranger, path::ENROL), ErrorCode::Invalid);
    assert_eq!(host.refusals("invalid"), 1);
    let join = hypermesh_api::JoinRequest { token: "x".into(), endpoints: Vec::new() };
    assert_eq!(code(node.post::<_, Done>(path::JOIN, &join)), ErrorCode::Forbidden);
    assert_eq!(host.refusals("forbidden"), 1);
    let audit: AuditEntries = host.client().get(path::AUDIT).unwrap();
    let lines: Vec<String> = audit
        .entries
        .iter()
        .filter(|entry| entry.result.starts_with("refused"))
        .map(|entry| format!("{}: {}", entry.actor, entry.action))
        .collect();
    for part in [
        "did not announce: connect",
        "127.0.0.1: read",
        "127.0.0.1: POST /v1/",
        "127.0.0.1: GET /v1/nothing",
        "node edge-x: POST ",
    ] {
        assert!(lines.iter().any(|line| line.contains(part)), "{part} is missing: {lines:?}");
    }
}

#[test]
fn a_stranger_who_is_refused_without_end_fills_no_log() {
    let host = Host::start();
    let (root, _) = host.found("lab", "edge-a");
    let mut stranger = over_tls(&host, &root, None).unwrap();
    let size = |host: &Host| host.client().get::<AuditEntries>(path::AUDIT).unwrap().size;
    let (before, counted) = (size(&host), host.refusals("unauthenticated"));
    for _ in 0..300 {
        assert_eq!(code(stranger.get::<Members>(path::MEMBERS)), ErrorCode::Unauthenticated);
    }
    assert_eq!(host.refusals("unauthenticated"), counted + 300);
    // Sixty in a minute, and one that counts the others; the test may see two minutes begin.
    assert!(size(&host) - before <= 2 * 61, "{} entries", size(&host) - before);
}

#[test]
fn a_node_follows_and_speaks_for_itself_alone() {
    let (a, b) = (Host::start(), Host::start());
    a.found("lab", "edge-a");
    b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    let mut peer = a.as_peer("edge-b");
    assert!(!peer.get::<Commands>(path::COMMANDS).unwrap().commands.is_empty());
    peer.get::<BundleReply>(path::BUNDLE).unwrap();
    let endpoints = Endpoints { endpoints: vec!["192.0.2.7:9292".parse().unwrap()] };
    peer.post::<_, Done>(path::ENDPOINTS, &endpoints).unwrap();
    let members: Members = a.client().get(path::MEMBERS).unwrap();
    assert_eq!(members.members[1].endpoints, endpoints.endpoints);
    let node = NodeName { node: "edge-a".into() };
    assert_eq!(code(peer.post::<_, Revoked>(path::REVOKE, &node)), ErrorCode::Forbidden);
    let backup = peer.post_bytes(path::BACKUP, Vec::new());
    assert_eq!(code(backup), ErrorCode::Forbidden);
}
