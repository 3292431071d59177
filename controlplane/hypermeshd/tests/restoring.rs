//! The host that orders changes is restored from a backup that is behind: what its members know is not lost,
//! what nobody knows any more is said, and no two hosts order changes for long.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use std::time::{Duration, Instant};

use hosts::links::Mesh;
use hosts::{Host, PATIENCE, code, refused};
use hypermesh_api::{
    AuditEntries, Base64, BundleReply, ClientError, Done, ErrorCode, LedgerReport, Members,
    NodeName, Revoked, Route, State, Status, TokenRole, path,
};
use hypermeshd::term::LedgerHead;
use stoq_identity::PrivateKeys;
use stoq_mesh::{Revocations, RevokedKind, Signed};

/// Polls until the status of a host is as it should be.
fn wait_for(host: &Host, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let begin = Instant::now();
    loop {
        let status: Status = host.client().get(path::STATUS).unwrap();
        if holds(&status) {
            return status;
        }
        assert!(begin.elapsed() < PATIENCE * 2, "{what}: {status:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until all hosts have the ledger of the first, which may still grow by what the others tell it.
fn same(hosts: &[&Host]) {
    wait_for(hosts[0], "a sequencer", |status| status.state == State::Sequencer);
    for host in &hosts[1..] {
        wait_for(host, "the same ledger", |status| {
            let of: Status = hosts[0].client().get(path::STATUS).unwrap();
            (status.term, &status.state_hash) == (of.term, &of.state_hash)
        });
    }
}

fn add_route(host: &Host, node: &str, prefix: &str) {
    let route = Route { node: node.into(), prefix: prefix.parse().unwrap() };
    host.client().post::<_, Done>(path::ROUTE_ADD, &route).unwrap();
}

fn revoke(host: &Host, node: &str) {
    let _: Revoked = host.client().post(path::REVOKE, &NodeName { node: node.into() }).unwrap();
}

fn members(host: &Host) -> String {
    let members: Members = host.client().get(path::MEMBERS).unwrap();
    format!("{:?}", members.members)
}

fn audit(host: &Host) -> String {
    let audit: AuditEntries = host.client().get(path::AUDIT).unwrap();
    audit.entries.iter().map(|entry| format!("{entry:?}\n")).collect()
}

/// Waits for an entry of the audit log: it is written once the state has changed.
fn written(host: &Host, what: &str) {
    wait_for(host, what, |_| audit(host).contains(what));
}

fn join(mesh: &Mesh, at: &Host, name: &str) -> Host {
    let host = Host::start();
    mesh.plug(&host, name);
    host.join(&at.token(name, TokenRole::Node, 600)).unwrap();
    host
}

fn backup(host: &Host) -> Vec<u8> {
    host.client().post_bytes(path::BACKUP, Vec::new()).unwrap()
}

/// The sequencer on another host, which takes the place of the first in the links.
fn restore(mesh: &Mesh, bytes: Vec<u8>) -> Host {
    let host = Host::start();
    mesh.plug(&host, "edge-a");
    host.client().post_bytes(path::RESTORE, bytes).unwrap();
    host
}

/// A mesh of edge-a, edge-b and edge-c.
fn three() -> (Mesh, Host, Host, Host) {
    let (mesh, a) = (Mesh::default(), Host::start());
    mesh.plug(&a, "edge-a");
    a.found("lab", "edge-a");
    let (b, c) = (join(&mesh, &a, "edge-b"), join(&mesh, &a, "edge-c"));
    same(&[&a, &b, &c]);
    (mesh, a, b, c)
}

#[test]
fn what_came_after_the_backup_is_taken_from_whoever_knows_it() {
    let (mesh, mut a, b, mut c) = three();
    let bytes = backup(&a);
    add_route(&a, "edge-b", "10.2.0.0/16");
    revoke(&a, "edge-c");
    c.kill();
    let d = join(&mesh, &a, "edge-d");
    same(&[&a, &b, &d]);
    let before: Status = b.client().get(path::STATUS).unwrap();
    a.kill();
    let e = restore(&mesh, bytes);
    same(&[&e, &b, &d]);
    let after: Status = e.client().get(path::STATUS).unwrap();
    assert!(after.term > 0 && before.term == 0 && after.state_hash == before.state_hash);
    add_route(&e, "edge-d", "10.4.0.0/16");
    same(&[&e, &b, &d]);
    let known = members(&d);
    assert!(["10.2.0.0/16", "10.4.0.0/16", "edge-d"].iter().all(|what| known.contains(what)));
    assert!(!known.contains("edge-c"), "{known}");
    written(&e, "recover ledger");
    written(&b, "nothing was lost");
    assert!(b.figures().contains("hypermesh_ledger_replaced_total 1"));
    assert!(b.figures().contains("hypermesh_ledger_doubts_total 0"));
}

#[test]
fn a_member_that_was_away_takes_the_restored_ledger_says_what_is_lost_and_keeps_who_is_revoked() {
    let (mesh, mut a, b, mut c) = three();
    let mut d = join(&mesh, &a, "edge-d");
    same(&[&a, &b, &c, &d]);
    let bytes = backup(&a);
    mesh.cut("edge-b");
    c.kill();
    // Only edge-d hears of it; edge-b's long poll does, too, so it is away as well.
    let mut b = b;
    b.kill();
    add_route(&a, "edge-b", "10.2.0.0/16");
    revoke(&a, "edge-c");
    same(&[&a, &d]);
    // The bundle, in which the revocation is signed, follows the ledger.
    let status: Status = a.client().get(path::STATUS).unwrap();
    wait_for(&d, "the bundle", |_| {
        let bundle: BundleReply = d.client().get(path::BUNDLE).unwrap();
        bundle.number == status.height
    });
    d.kill();
    a.kill();
    mesh.cut("edge-d");
    b.run();
    mesh.reach(&b, "edge-b");
    let e = restore(&mesh, bytes);
    same(&[&e, &b]);
    // The changes of its first day; edge-c is a member again.
    assert!(members(&b).contains("edge-c") && !members(&b).contains("10.2.0.0/16"));
    add_route(&e, "edge-b", "10.9.0.0/16");
    d.run();
    mesh.reach(&d, "edge-d");
    same(&[&e, &b, &d]);
    let known = members(&b);
    assert!(known.contains("10.9.0.0/16") && !known.contains("edge-c"), "{known}");
    written(&d, "route 10.2.0.0/16 of edge-b");
    assert!(audit(&e).contains("node edge-d") && audit(&e).contains("keep-revoked edge-c"));
    let refused = e.client().post::<_, hypermesh_api::TokenReply>(
        path::TOKENS,
        &hypermesh_api::TokenRequest {
            node: "edge-c".into(),
            role: TokenRole::Node,
            expires_s: 600,
            addresses: vec![e.listen],
        },
    );
    assert_eq!(code(refused), ErrorCode::Refused, "its name never comes back");
}

#[test]
fn the_old_host_that_comes_back_is_told_and_stops() {
    let (mesh, mut a, b, c) = three();
    let bytes = backup(&a);
    add_route(&a, "edge-b", "10.2.0.0/16");
    same(&[&a, &b, &c]);
    a.kill();
    let e = restore(&mesh, bytes);
    same(&[&e, &b, &c]);
    // It asks by itself when it starts.
    a.run();
    let status = wait_for(&a, "it was superseded", |status| status.state == State::Superseded);
    assert!(status.warnings.iter().any(|warning| warning.contains("stop it")), "{status:?}");
    assert!(!status.issuer);
    let route = Route { node: "edge-b".into(), prefix: "10.3.0.0/16".parse().unwrap() };
    let refusal = refused(a.client().post::<_, Done>(path::ROUTE_ADD, &route));
    assert_eq!(refusal.code, ErrorCode::Unavailable);
    written(&a, "check-ledger");
    // Nor after another start, nor where members reach it in the place of the other.
    a.kill();
    a.run();
    wait_for(&a, "it remembers", |status| status.state == State::Superseded);
    add_route(&e, "edge-c", "10.4.0.0/16");
    same(&[&e, &b, &c]);
}

#[test]
fn members_that_reach_the_old_host_refuse_it_aloud_and_tell_it() {
    let (mesh, mut a, mut b, mut c) = three();
    let bytes = backup(&a);
    a.kill();
    let mut e = restore(&mesh, bytes);
    same(&[&e, &b, &c]);
    let later: Status = b.client().get(path::STATUS).unwrap();
    e.kill();
    c.kill();
    // The old host cannot ask: members come to it.
    b.kill();
    mesh.cut("edge-b");
    mesh.cut("edge-c");
    a.run();
    add_route(&a, "edge-b", "10.66.0.0/16");
    mesh.reach(&a, "edge-a");
    b.run();
    wait_for(&a, "it was told", |status| status.state == State::Superseded);
    let status: Status = b.client().get(path::STATUS).unwrap();
    assert_eq!((status.term, status.state_hash), (later.term, later.state_hash));
    written(&b, "superseded");
    assert!(b.figures().contains("hypermesh_ledger_doubts_total 1"));
}

#[test]
fn a_sequencer_whose_disk_went_back_takes_its_own_ledger_from_the_members() {
    let (_mesh, mut a, b, c) = three();
    a.kill();
    let store = a.state().join("state.redb");
    let old = std::fs::read(&store).unwrap();
    a.run();
    add_route(&a, "edge-b", "10.2.0.0/16");
    same(&[&a, &b, &c]);
    a.kill();
    std::fs::write(&store, old).unwrap();
    a.run();
    wait_for(&a, "a new term", |status| status.term > 0 && status.state == State::Sequencer);
    same(&[&a, &b, &c]);
    assert!(members(&a).contains("10.2.0.0/16"));
    written(&a, "went back in time");
}

fn keys(host: &Host, file: &str) -> PrivateKeys {
    let pem = std::fs::read_to_string(host.state().join(file)).unwrap();
    PrivateKeys::from_pem(&pem).unwrap()
}

/// A head of a term far ahead.
fn head(mesh: &str, keys: &PrivateKeys) -> Vec<u8> {
    let (mesh, state_hash) = (mesh.to_owned(), [7; 32]);
    let head = LedgerHead { mesh, term: 1 << 35, height: 1000, state_hash };
    Signed::sign(&head, keys).unwrap().to_bytes().unwrap()
}

fn report(to: &Host, head: Option<Vec<u8>>, set: Option<Vec<u8>>) -> Result<Done, ClientError> {
    let report = LedgerReport { head: head.map(Base64), revocations: set.map(Base64) };
    to.as_peer("edge-b").post(path::LEDGER_HEAD, &report)
}

/// Nothing that a member says is taken but what the sequencer's own keys have signed.
#[test]
fn a_member_can_neither_end_a_term_nor_revoke_by_its_word() {
    let (_mesh, a, b, c) = three();
    let before: Status = a.client().get(path::STATUS).unwrap();
    let mesh = before.mesh.clone().unwrap();
    let issuer = keys(&a, "issuer.pem");
    let mut cut = head(&mesh, &issuer);
    cut.pop();
    for (what, forged) in [
        ("by a member's keys", head(&mesh, &keys(&b, "node.pem"))),
        ("by the log's keys of the sequencer", head(&mesh, &keys(&a, "log.pem"))),
        ("of another mesh", head("lab-0000", &issuer)),
        ("cut off", cut),
        ("nothing, and much of it", vec![0; 1 << 20]),
    ] {
        assert_eq!(code(report(&a, Some(forged), None)), ErrorCode::Refused, "{what}");
    }
    let kind = RevokedKind::Node;
    let entry = stoq_mesh::Revoked { keys: [9; 32], kind, node: "edge-c".into(), at_s: 1 };
    let set = Revocations { mesh: mesh.clone(), sequence: 99, entries: vec![entry] };
    let set = Signed::sign(&set, &keys(&b, "node.pem")).unwrap().to_bytes().unwrap();
    assert_eq!(code(report(&a, None, Some(set))), ErrorCode::Refused);
    // Who follows is no one to tell.
    assert_eq!(code(report(&b, Some(head(&mesh, &issuer)), None)), ErrorCode::Refused);
    let after: Status = a.client().get(path::STATUS).unwrap();
    assert_eq!((after.state, after.state_hash), (State::Sequencer, before.state_hash));
    same(&[&a, &b, &c]);
    // The sequencer's own key does it.
    report(&a, Some(head(&mesh, &issuer)), None).unwrap();
    let ended: Status = a.client().get(path::STATUS).unwrap();
    assert_eq!(ended.state, State::Superseded);
}
