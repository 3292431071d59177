//! Changes of the mesh on hosts that follow. stoqd is stood in for by what joins two hosts' sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hosts::{Host, Root, code, links, read, refused};
use hypermesh_api::{
    AddIssuerRequest, AuditEntries, Done, ErrorCode, Heads, IssuerRequest, IssuerRequestOf,
    Members, NodeName, Revoked, Route, TokenReply, TokenRequest, TokenRole, path,
};
use stoq_identity::PrivateKeys;
use stoq_mesh::{Signed, TreeHead};

/// Joins a host to the hypermeshd behind `peers`, as a link between their stoqds would, with `name`
/// as the host's.
fn link(host: &Host, name: &str, peers: PathBuf) {
    link_with(host, name, peers, Vec::new());
}

/// As [`link`], where the host's stoqd was shown these heads of logs.
fn link_with(host: &Host, name: &str, peers: PathBuf, heads: Vec<String>) {
    links::serve(host, name, heads, move |_| Some(peers.clone()));
}

fn route(prefix: &str) -> Route {
    Route { node: "edge-b".into(), prefix: prefix.parse().unwrap() }
}

/// Makes the second host an issuer, and waits until it knows.
fn promote(root: &Root, a: &Host, b: &Host) {
    let of = IssuerRequestOf { mesh: root.0.mesh().into(), node: "edge-b".into() };
    let request: IssuerRequest = b.as_peer("edge-a").post(path::ISSUER_REQUEST, &of).unwrap();
    let (issuer, log) = root.sign(&request);
    let request = AddIssuerRequest { node: "edge-b".into(), issuer, log };
    a.client().post::<_, Done>(path::PROMOTE, &request).unwrap();
    let begin = std::time::Instant::now();
    while !b.client().get::<hypermesh_api::Status>(path::STATUS).unwrap().issuer {
        assert!(begin.elapsed() < hosts::PATIENCE, "edge-b does not issue");
        std::thread::yield_now();
    }
}

#[test]
fn an_issuer_that_follows_administers_the_mesh_and_others_are_told_where() {
    let (a, b) = (Host::start(), Host::start());
    let (root, _) = a.found("lab", "edge-a");
    link(&b, "edge-b", a.peers());
    b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    // No issuer: neither its root nor the node itself changes the mesh.
    let refusal = refused(b.client().post::<_, Done>(path::ROUTE_ADD, &route("10.2.0.0/16")));
    assert_eq!(refusal.code, ErrorCode::Unavailable);
    assert!(refusal.message.contains("run the command at edge-a"), "{}", refusal.message);
    let forged = a.as_peer("edge-b").post::<_, Done>(path::ROUTE_ADD, &route("10.2.0.0/16"));
    assert_eq!(code(forged), ErrorCode::Forbidden);
    promote(&root, &a, &b);
    let mut client = b.client();
    client.post::<_, Done>(path::ROUTE_ADD, &route("10.2.0.0/16")).unwrap();
    let members: Members = a.client().get(path::MEMBERS).unwrap();
    assert_eq!(members.members[1].routes, [route("10.2.0.0/16").prefix]);
    // The sequencer's refusals arrive as they are.
    let overlaps = client.post::<_, Done>(path::ROUTE_ADD, &route("10.2.3.0/24"));
    assert_eq!(code(overlaps), ErrorCode::Refused);
    let request = TokenRequest {
        node: "edge-c".into(),
        role: TokenRole::Node,
        expires_s: 600,
        addresses: vec![a.listen],
    };
    let token: TokenReply = client.post(path::TOKENS, &request).unwrap();
    let c = Host::start();
    c.join(&token.token).unwrap();
    client.post::<_, Revoked>(path::REVOKE, &NodeName { node: "edge-c".into() }).unwrap();
    let members: Members = a.client().get(path::MEMBERS).unwrap();
    assert!(members.members.iter().all(|member| member.node != "edge-c"));
    // Who did it stands at both.
    let last = |host: &Host| {
        let audit: AuditEntries = host.client().get(path::AUDIT).unwrap();
        let revoked = audit.entries.iter().rfind(|entry| entry.action.contains("revoke edge-c"));
        let revoked = revoked.unwrap();
        format!("{}: {}", revoked.actor, revoked.action)
    };
    assert_eq!(last(&a), "node edge-b: revoke edge-c");
    assert!(last(&b).starts_with("local uid") && last(&b).ends_with("at the sequencer"));
}

/// A head that the log of this host has signed, or could have.
fn head_of(host: &Host, size: u64, root: [u8; 32]) -> Signed<TreeHead> {
    let keys = PrivateKeys::from_pem(&read(&host.state().join("log.pem"))).unwrap();
    let log = keys.public().fingerprint();
    Signed::sign(&TreeHead { log, size, root, at_s: 1 }, &keys).unwrap()
}

#[test]
fn a_log_that_shows_trees_of_different_sizes_which_do_not_fit_is_found_out() {
    let (a, b) = (Host::start(), Host::start());
    a.found("lab", "edge-a");
    b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    let shown: Heads = a.client().get(path::LOG_HEADS).unwrap();
    let own = Signed::<TreeHead>::from_bytes(&shown.heads[0].0).unwrap();
    let size = own.claims().unwrap().size;
    assert!(size > 1, "a certificate of each host");
    // Another node was shown a smaller tree that this one never grew from.
    let other = head_of(&a, size - 1, [7; 32]);
    let heads = [own, other].map(|head| STANDARD.encode(head.to_bytes().unwrap()));
    link_with(&b, "edge-b", a.peers(), heads.to_vec());
    let begin = std::time::Instant::now();
    let warned = loop {
        let status: hypermesh_api::Status = b.client().get(path::STATUS).unwrap();
        match status.warnings.into_iter().find(|warning| warning.contains("only grew")) {
            Some(warning) => break warning,
            None => assert!(begin.elapsed() < hosts::PATIENCE, "the fork was not found"),
        }
        std::thread::yield_now();
    };
    assert!(warned.contains("revoke its issuer"), "{warned}");
    let audit: AuditEntries = b.client().get(path::AUDIT).unwrap();
    let entry = audit.entries.iter().find(|entry| entry.action == "check-log").unwrap();
    assert!(entry.result.contains("only grew"), "{entry:?}");
    assert!(b.figures().contains("hypermesh_log_doubts_total 1"), "{}", b.figures());
}

#[test]
fn a_log_that_only_grew_is_proven_by_its_holder_and_nothing_is_said() {
    let (a, b) = (Host::start(), Host::start());
    a.found("lab", "edge-a");
    let before: Heads = a.client().get(path::LOG_HEADS).unwrap();
    b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    let after: Heads = a.client().get(path::LOG_HEADS).unwrap();
    let heads = [before, after].map(|shown| STANDARD.encode(&shown.heads[0].0));
    let asked = |host: &Host| -> u64 {
        let figures = host.figures();
        let line = figures.lines().find(|line| line.starts_with("hypermesh_requests_total"));
        line.unwrap().split(' ').next_back().unwrap().parse().unwrap()
    };
    let count = asked(&a);
    link_with(&b, "edge-b", a.peers(), heads.to_vec());
    // Whatever it asks of the holder, at least the proof is among it; the status would say more.
    let begin = std::time::Instant::now();
    while asked(&a) == count || !b.figures().contains("hypermesh_log_proofs_total 1") {
        assert!(begin.elapsed() < hosts::PATIENCE, "no proof was asked for");
        std::thread::yield_now();
    }
    let status: hypermesh_api::Status = b.client().get(path::STATUS).unwrap();
    assert!(status.warnings.iter().all(|warning| !warning.contains("log")), "{status:?}");
}

/// The issuer's and its log's certificates live a year: they are renewed by another promotion, for the same
/// keys.
#[test]
fn a_promoted_issuer_is_promoted_again_and_its_log_goes_on() {
    let (a, b) = (Host::start(), Host::start());
    let (root, _) = a.found("lab", "edge-a");
    link(&b, "edge-b", a.peers());
    b.join(&a.token("edge-b", TokenRole::Node, 600)).unwrap();
    promote(&root, &a, &b);
    let logs = |host: &Host| host.client().get::<Heads>(path::LOG_HEADS).unwrap().logs;
    let before = logs(&b);
    let of = IssuerRequestOf { mesh: root.0.mesh().into(), node: "edge-b".into() };
    let request: IssuerRequest = b.as_peer("edge-a").post(path::ISSUER_REQUEST, &of).unwrap();
    let (issuer, log) = root.sign(&request);
    let add = AddIssuerRequest { node: "edge-b".into(), issuer: issuer.clone(), log: log.clone() };
    a.client().post::<_, Done>(path::PROMOTE, &add).unwrap();
    let begin = std::time::Instant::now();
    while !logs(&b).contains(&log) {
        assert!(begin.elapsed() < hosts::PATIENCE, "edge-b keeps its log's old certificate");
        std::thread::yield_now();
    }
    assert_eq!(logs(&b).len(), before.len(), "the new certificate takes the old one's place");
    // It issues under the new one.
    let token: TokenReply = b
        .client()
        .post(
            path::TOKENS,
            &TokenRequest {
                node: "edge-c".into(),
                role: TokenRole::Node,
                expires_s: 600,
                addresses: vec![a.listen],
            },
        )
        .unwrap();
    let c = Host::start();
    c.join(&token.token).unwrap();
    // Certificates of other keys are none of this issuer.
    let stranger = Host::start();
    let of = IssuerRequestOf { mesh: root.0.mesh().into(), node: "edge-b".into() };
    let foreign: IssuerRequest = stranger.client().post(path::ISSUER_REQUEST, &of).unwrap();
    let (issuer, log) = root.sign(&foreign);
    let other = AddIssuerRequest { node: "edge-b".into(), issuer, log };
    assert_eq!(code(a.client().post::<_, Done>(path::PROMOTE, &other)), ErrorCode::Refused);
}
