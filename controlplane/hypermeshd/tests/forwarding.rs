//! Changes of the mesh on hosts that follow. stoqd is stood in for by what joins two hosts' sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use hosts::{Host, Root, code, refused};
use hypermesh_api::{
    AddIssuerRequest, AuditEntries, Done, ErrorCode, IssuerRequest, IssuerRequestOf, Members,
    NodeName, Revoked, Route, TokenReply, TokenRequest, TokenRole, path,
};
use stoq_control::{Reply, Request, Response, Status, decode_call, encode};

/// Joins a host to the hypermeshd behind `peers`, as a link between their stoqds would, with `name`
/// as the host's.
fn link(host: &Host, name: &str, peers: PathBuf) {
    let listener = UnixListener::bind(host.dir.path().join("stoqd.sock")).unwrap();
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (name, peers) = (name.clone(), peers.clone());
            std::thread::spawn(move || serve(stream, &name, &peers));
        }
    });
}

/// Answers one connection; what goes wrong ends it, as when a host of the test is gone.
fn serve(mut stream: UnixStream, name: &str, peers: &Path) -> Option<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    let request = decode_call(&line).ok()?.request;
    let response = match request {
        Request::Stream { .. } => Response::Stream {},
        Request::Push { snapshot } => {
            Response::Pushed { number: snapshot.number, overridden: Vec::new() }
        }
        _ => Response::Status(Box::new(Status { bundle: Some(u64::MAX), ..Status::default() })),
    };
    let joined = matches!(response, Response::Stream {});
    stream.write_all(&encode(&Reply::new(response)).ok()?).ok()?;
    if !joined {
        return Some(());
    }
    let mut peer = UnixStream::connect(peers).ok()?;
    writeln!(peer, "{{\"peer\":\"{name}\",\"node\":\"x\"}}").ok()?;
    let (mut from, mut to) = (stream.try_clone().ok()?, peer.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut peer, &mut stream);
    stream.shutdown(Shutdown::Both).ok()
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
