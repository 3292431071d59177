//! Found, token, enrol: real daemons on loopback, and what goes wrong between them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use hosts::{Host, Root, code, read, refused};
use hypermesh_api::{
    AuditEntries, Base64, BundleReply, Done, EnrolReply, EnrolRequest, ErrorCode, Members,
    NodeName, State, Status, TokenReply, TokenRequest, TokenRole, path,
};
use hypermeshd::clock;
use stoq_identity::{CertificateInfo, Identity, Kind};
use stoq_mesh::{Bundle, LogProof, RevocationStore};
use stoq_trustchain::Token;

#[test]
fn a_mesh_is_founded_and_a_second_host_joins_it() {
    let (a, b) = (Host::start(), Host::start());
    let status: Status = a.client().get(path::STATUS).unwrap();
    assert_eq!(status.state, State::Uninitialised);
    let (root, founded) = a.found("lab", "edge-a");
    assert_eq!(founded.mesh, root.0.mesh());
    assert_eq!(founded.addresses[0].to_string(), format!("{}/128", first(&founded.prefix)));
    let joined = b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    assert_eq!((joined.mesh.as_str(), joined.node.as_str()), (root.0.mesh(), "edge-b"));
    for host in [&a, &b] {
        let members: Members = host.client().get(path::MEMBERS).unwrap();
        let names: Vec<_> = members.members.iter().map(|m| m.node.as_str()).collect();
        assert_eq!(names, ["edge-a", "edge-b"]);
    }
    let status: Status = b.client().get(path::STATUS).unwrap();
    assert_eq!(status.state, State::Follower);
    assert!(status.stoqd.error.is_none() || status.stoqd.error.unwrap().contains("stoqd"));
}

fn first(prefix: &ipnet::Ipv6Net) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::from_bits(prefix.network().to_bits() + 1)
}

#[test]
fn a_node_has_one_identity_file_with_a_proof_that_its_certificate_is_logged() {
    let (a, b) = (Host::start(), Host::start());
    let (root, _) = a.found("lab", "edge-a");
    b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    let bundle: BundleReply = b.client().get(path::BUNDLE).unwrap();
    let bundle = Bundle::from_bytes(&bundle.bundle.0).unwrap();
    let none: &[&[u8]] = &[];
    let verifier = stoq_identity::Verifier::with(
        &[root.0.certificate()],
        root.0.mesh(),
        none,
        stoq_identity::Options::default(),
    );
    let now = std::time::SystemTime::now();
    let verified = bundle.verify(&verifier.unwrap(), &RevocationStore::new(), now).unwrap();
    assert_eq!(verified.records.len(), 2);
    for (host, node) in [(&a, "edge-a"), (&b, "edge-b")] {
        let path = host.state().join("identity.pem");
        let der = hypermeshd::pem::first_certificate("it", &read(&path)).unwrap();
        let info = CertificateInfo::read(&der).unwrap();
        assert_eq!((info.id.unwrap().node(), info.kind), (node, Some(Kind::Node)));
        let text = read(&path);
        let proof = text.split("-----BEGIN STOQ LOG PROOF-----").nth(1).unwrap();
        let proof = proof.split("-----END").next().unwrap().replace('\n', "");
        use base64::Engine as _;
        let proof = base64::engine::general_purpose::STANDARD.decode(proof).unwrap();
        LogProof::from_bytes(&proof).unwrap().verify(&der, &verified.signers).unwrap();
    }
}

#[test]
fn a_token_is_for_one_pair_of_keys() {
    let (a, b, thief) = (Host::start(), Host::start(), Host::start());
    a.found("lab", "edge-a");
    let token = a.token("edge-b", TokenRole::Node, 600);
    b.join(&token).unwrap();
    let raced = thief.join(&token).unwrap_err();
    assert_eq!(raced.code, ErrorCode::Refused);
    assert!(raced.message.contains("raced token"), "{}", raced.message);
    let status: Status = thief.client().get(path::STATUS).unwrap();
    assert_eq!(status.state, State::Uninitialised);
    // The refusal is on the issuer's record.
    let audit: AuditEntries = a.client().get(path::AUDIT).unwrap();
    let last = audit.entries.last().unwrap();
    assert!(last.result.contains("raced token") && last.actor.contains("127.0.0.1"), "{last:?}");
}

#[test]
fn the_same_keys_get_the_same_certificate_again() {
    let (a, mut b) = (Host::start(), Host::start());
    a.found("lab", "edge-a");
    let token = a.token("edge-b", TokenRole::Node, 600);
    b.join(&token).unwrap();
    let before = read(&b.state().join("identity.pem"));
    let height = a.client().get::<Status>(path::STATUS).unwrap().height;
    // The joiner dies before it has written down that it is a member.
    b.kill();
    std::fs::remove_file(b.state().join("state.redb")).unwrap();
    b.run();
    b.join(&token).unwrap();
    let certificate = |text: &str| text.split("-----END CERTIFICATE").next().unwrap().to_owned();
    assert_eq!(certificate(&before), certificate(&read(&b.state().join("identity.pem"))));
    assert_eq!(a.client().get::<Status>(path::STATUS).unwrap().height, height);
}

#[test]
fn a_server_of_another_root_learns_nothing() {
    let (a, mitm, b) = (Host::start(), Host::start(), Host::start());
    a.found("lab", "edge-a");
    mitm.found("lab", "edge-a");
    // A token of the right mesh that leads to the wrong host.
    let request = TokenRequest {
        node: "edge-b".into(),
        role: TokenRole::Node,
        expires_s: 600,
        addresses: vec![mitm.listen],
    };
    let token: TokenReply = a.client().post(path::TOKENS, &request).unwrap();
    let refused = b.join(&token.token).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    assert!(refused.message.contains("nothing was sent"), "{}", refused.message);
    let audit: AuditEntries = mitm.client().get(path::AUDIT).unwrap();
    assert!(audit.entries.iter().all(|entry| !entry.action.contains("enrol")), "{audit:?}");
}

#[test]
fn a_token_names_the_port_that_the_api_listens_on() {
    let (a, b) = (Host::start(), Host::start());
    a.found("lab", "edge-a");
    let request = TokenRequest {
        node: "edge-b".into(),
        role: TokenRole::Node,
        expires_s: 600,
        addresses: Vec::new(),
    };
    let token: TokenReply = a.client().post(path::TOKENS, &request).unwrap();
    let named = Token::from_text(&token.token).unwrap().addresses.clone();
    assert_eq!(named, [format!("127.0.0.1:{}", a.listen.port())]);
    b.join(&token.token).unwrap();
}

#[test]
fn a_wrong_clock_is_named_with_its_difference_and_what_to_do() {
    let host = Host::start();
    host.found("lab", "edge-a");
    let now_s = clock::now_s();
    for (at_s, way) in [(now_s + 1000, "ahead of"), (now_s - 1000, "behind")] {
        let nothing = || Base64(Vec::new());
        let request =
            EnrolRequest { proof: nothing(), request: nothing(), endpoints: Vec::new(), at_s };
        let refusal = refused(host.client().post::<_, EnrolReply>(path::ENROL, &request));
        assert_eq!(refusal.code, ErrorCode::Clock);
        for part in [way, "timedatectl"] {
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
    }
}

#[test]
fn held_names_expired_and_foreign_tokens_are_refused() {
    let (a, b) = (Host::start(), Host::start());
    a.found("lab", "edge-a");
    let held = TokenRequest {
        node: "edge-a".into(),
        role: TokenRole::Node,
        expires_s: 600,
        addresses: vec![a.listen],
    };
    assert_eq!(code(a.client().post::<_, TokenReply>(path::TOKENS, &held)), ErrorCode::Refused);
    let token = a.token("edge-b", TokenRole::Node, 1);
    let begin = std::time::Instant::now();
    while begin.elapsed() < std::time::Duration::from_millis(2100) {
        std::thread::yield_now();
    }
    let expired = b.join(&token).unwrap_err();
    assert!(expired.message.contains("expired"), "{}", expired.message);
    assert_eq!(b.join("stoq1-nonsense").unwrap_err().code, ErrorCode::Invalid);
}

#[test]
fn a_revoked_name_is_gone_for_good_and_a_route_is_bounded() {
    let (a, b) = (Host::start(), Host::start());
    a.found("lab", "edge-a");
    b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    let mut client = a.client();
    let route = |prefix: &str| hypermesh_api::Route {
        node: "edge-b".into(),
        prefix: prefix.parse().unwrap(),
    };
    client.post::<_, Done>(path::ROUTE_ADD, &route("10.2.0.0/16")).unwrap();
    assert_eq!(
        code(client.post::<_, Done>(path::ROUTE_ADD, &route("0.0.0.0/0"))),
        ErrorCode::Refused
    );
    let node = NodeName { node: "edge-b".into() };
    let revoked: hypermesh_api::Revoked = client.post(path::REVOKE, &node).unwrap();
    assert!(revoked.not_pushed.unwrap().contains("stoqd"), "there is no stoqd here");
    let again = TokenRequest {
        node: "edge-b".into(),
        role: TokenRole::Node,
        expires_s: 60,
        addresses: vec![a.listen],
    };
    let refused = refused(client.post::<_, TokenReply>(path::TOKENS, &again));
    assert!(refused.message.contains("revoked"), "{}", refused.message);
}

#[test]
fn a_host_of_a_mesh_neither_founds_nor_joins_another() {
    let (a, b) = (Host::start(), Host::start());
    a.found("lab", "edge-a");
    b.found("lab", "edge-a");
    let token = a.token("edge-c", TokenRole::Node, 600);
    assert_eq!(b.join(&token).unwrap_err().code, ErrorCode::Initialised);
    let root = Root::new("other");
    let of = hypermesh_api::IssuerRequestOf { mesh: root.0.mesh().into(), node: "edge-a".into() };
    let asked = b.client().post::<_, hypermesh_api::IssuerRequest>(path::ISSUER_REQUEST, &of);
    assert_eq!(code(asked), ErrorCode::Initialised);
}

#[test]
fn an_identity_file_is_what_stoqd_reads() {
    let a = Host::start();
    a.found("lab", "edge-a");
    let (identity, root) = (a.state().join("identity.pem"), a.state().join("root.crt"));
    let identity = Identity::load(&identity, &identity, &root).unwrap();
    assert!(identity.log_proof().is_some());
}
