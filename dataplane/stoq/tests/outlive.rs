//! A mesh that has lost its issuers: certificates that have expired are refused, unless an operator lets
//! them outlive the loss for a while. Whoever is revoked stays out either way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod network;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use network::{Node, credentials, pki, run_until};
use stoq::mesh::Mesh;
use stoq::settings::Settings;
use stoq::tls::Credentials;
use stoq::{Event, LinkState};
use stoq_identity::{Options, Verifier};
use stoq_telemetry::DropReason;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn pass_all(_: &[u8]) -> bool {
    true
}

/// The nodes' certificates live 90 days: a day after their end, by the clock of these tests.
fn a_day_late() -> SystemTime {
    SystemTime::now() + 91 * DAY
}

fn late(dir: &Path, name: &str, outlive: Duration) -> Credentials {
    let own = credentials(dir, name);
    let options = Options { outlive, ..Options::default() };
    let (roots, none): (_, &[&[u8]]) = (own.identity.roots(), &[]);
    let verifier = Verifier::with(roots, own.identity.id().mesh(), none, options).unwrap();
    Credentials { verifier: Arc::new(verifier), clock: a_day_late, ..own }
}

/// `edge-a` dials `edge-b`; the latter takes certificates for so long after their end.
fn pair(dir: &Path, outlive: Duration) -> (Node, Node) {
    let node = |name, address, outlive| {
        Node::with_credentials(late(dir, name, outlive), address, Settings::default(), 1)
    };
    let mut a = node("edge-a", "[fd00::1]:9292", 2 * DAY);
    let mut b = node("edge-b", "[fd00::2]:9292", outlive);
    a.peer(0, "edge-b", &[b.address]);
    b.peer(0, "edge-a", &[]);
    (a, b)
}

fn told(node: &Node) -> usize {
    node.events.iter().filter(|event| matches!(event, Event::Outlived { .. })).count()
}

#[test]
fn an_expired_certificate_is_refused_without_the_policy_and_beyond_its_time() {
    let dir = pki(&["edge-a", "edge-b"]);
    for outlive in [Duration::ZERO, DAY / 2] {
        let (mut a, mut b) = pair(dir.path(), outlive);
        run_until(&mut a, &mut b, &mut pass_all, |_, b| {
            assert!(!b.is_up());
            b.dropped(DropReason::CertificateRefused) > 0
        });
        assert_eq!(told(&b), 0);
    }
}

#[test]
fn an_expired_certificate_is_taken_under_the_policy_and_that_is_said_once_a_period() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path(), 2 * DAY);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| told(a) > 0 && told(b) > 0);
    let link = b.endpoint.links().remove(0);
    assert_eq!(link.state, LinkState::Up);
    assert!(link.expired_for > DAY / 2 && link.expired_for < 2 * DAY, "{:?}", link.expired_for);
    // Connections are looked at several times a second.
    let since = Instant::now();
    run_until(&mut a, &mut b, &mut pass_all, |_, _| since.elapsed() > Duration::from_secs(1));
    assert_eq!((told(&a), told(&b)), (1, 1));
    assert_eq!(b.dropped(DropReason::CertificateRefused), 0);
}

#[test]
fn the_end_of_the_policy_ends_links_that_lived_by_it() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path(), 2 * DAY);
    run_until(&mut a, &mut b, &mut pass_all, |a, b| a.is_up() && b.is_up());
    b.endpoint.set_credentials(late(dir.path(), "edge-b", Duration::ZERO)).unwrap();
    run_until(&mut a, &mut b, &mut pass_all, |_, b| !b.is_up());
    assert!(b.dropped(DropReason::CertificateRefused) > 0);
}

#[test]
fn a_revoked_node_outlives_nothing() {
    let dir = pki(&["edge-a", "edge-b"]);
    let (mut a, mut b) = pair(dir.path(), 2 * DAY);
    let names = ["edge-a".to_owned()].into();
    let mesh = Mesh { sequence: 1, set: b"the set"[..].into(), names, ..Mesh::default() };
    b.endpoint.set_mesh(Arc::new(mesh), Instant::now());
    run_until(&mut a, &mut b, &mut pass_all, |_, b| {
        assert!(!b.is_up());
        b.dropped(DropReason::Revoked) > 0
    });
}
