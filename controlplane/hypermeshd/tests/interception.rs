//! A node of the mesh that was taken over stands between a joiner and the issuer: the joiner takes it
//! for a member, as it is one, and sends it its enrolment.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hosts::{Host, Root, read, refused};
use hypermesh_api::{
    Base64, EnrolReply, EnrolRequest, ErrorCode, Members, State, Status, TokenRole, path,
};
use hypermeshd::{pem, tls};
use rustls::pki_types::CertificateDer;
use stoq_identity::{NodeId, PrivateKeys};
use stoq_mesh::Bundle;
use stoq_trustchain::{Request, Token};

/// What a TLS server reads from one client, with the identity that is in a host's state directory.
/// It answers nothing.
fn intercept(host: &Host, root: &Root, listener: &TcpListener) -> EnrolRequest {
    let text = read(&host.state().join("identity.pem"));
    let leaf = pem::first_certificate("it", &text).unwrap();
    let reply: hypermesh_api::BundleReply = host.client().get(path::BUNDLE).unwrap();
    let bundle = Bundle::from_bytes(&reply.bundle.0).unwrap();
    let chain = [leaf, bundle.issuers[0].certificate.clone(), root.0.certificate().to_vec()];
    let chain = chain.map(CertificateDer::from).to_vec();
    let key = PrivateKeys::from_pem(&text).unwrap().classical_der();
    let nobody = Arc::new(rustls::server::NoClientAuth);
    let config = stoq_trustchain::server_config(nobody, chain, key, Arc::new(tls::Clock)).unwrap();
    let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut stream = BufReader::new(rustls::StreamOwned::new(session, stream));
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// The secret is what comes last in a token, before its checksum of four bytes.
fn secret(token: &str) -> [u8; 32] {
    let encoded = URL_SAFE_NO_PAD.decode(token.strip_prefix("stoq1-").unwrap()).unwrap();
    *encoded[..encoded.len() - 4].last_chunk().unwrap()
}

/// The token of another, as it was meant: it leads to the true host.
fn redirected(token: &str, to: &Host) -> String {
    let mut token = Token::from_text(token).unwrap();
    token.addresses = vec![to.listen.to_string()];
    token.to_text().unwrap().to_string()
}

/// Sends an enrolment to a host as anybody can.
fn enrol(host: &Host, request: &EnrolRequest) -> hypermesh_api::Refusal {
    refused(host.client().post::<_, EnrolReply>(path::ENROL, request))
}

#[test]
fn who_sees_an_enrolment_cannot_enrol_with_it() {
    let (a, b) = (Host::start(), Host::start());
    let (root, _) = a.found("lab", "edge-a");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = a.token("edge-b", TokenRole::Node, 600);
    let mut leads_astray = Token::from_text(&text).unwrap();
    leads_astray.addresses = vec![listener.local_addr().unwrap().to_string()];
    let leads_astray = leads_astray.to_text().unwrap();
    let seen = std::thread::scope(|scope| {
        let joining = scope.spawn(|| b.join(&leads_astray).unwrap_err());
        let seen = intercept(&a, &root, &listener);
        assert_eq!(joining.join().unwrap().code, ErrorCode::Unavailable);
        seen
    });
    // Nothing that was sent holds the secret.
    let secret = secret(&text);
    for sent in [&seen.proof.0, &seen.request.0] {
        assert!(sent.windows(secret.len()).all(|bytes| bytes != secret));
    }
    // Own keys under the name of the invited, with the proof that was seen.
    let token = Token::from_text(&text).unwrap();
    let id = NodeId::new(&token.mesh, &token.name).unwrap();
    let keys = PrivateKeys::generate().unwrap();
    let own = Request::new(&keys, token.kind, &id, &token.hash().unwrap()).unwrap();
    let stolen = EnrolRequest { request: Base64(own.to_bytes().unwrap()), ..seen.clone() };
    let moved = EnrolRequest { endpoints: vec!["192.0.2.1:9292".parse().unwrap()], ..seen.clone() };
    let later = EnrolRequest { at_s: seen.at_s + 1, ..seen.clone() };
    let cut = EnrolRequest { proof: Base64(seen.proof.0[1..].to_vec()), ..seen };
    for forged in [stolen, moved, later, cut] {
        let refusal = enrol(&a, &forged);
        assert_eq!(refusal.code, ErrorCode::Invalid, "{refusal:?}");
        assert!(refusal.message.contains("token"), "{refusal:?}");
    }
    assert_eq!(a.client().get::<Members>(path::MEMBERS).unwrap().members.len(), 1);
    // The invited still joins.
    b.join(&redirected(&text, &a)).unwrap();
    assert_eq!(b.client().get::<Status>(path::STATUS).unwrap().state, State::Follower);
}
