//! Nodes that are not who they should be get no link, and the refusal is counted.

use crate::{Fixture, SOON};
use std::time::{Duration, SystemTime};
use stoq_perf::bed::{Family, Side};
use stoq_perf::measure::ping;
use stoq_perf::node::{LINK_UP, MESH, Mesh, Node, NodeConfig};
use stoq_perf::wait;
use stoq_pki::{Authority, BACKDATE};

crate::on_each_port!(
    a_certificate_of_a_foreign_root,
    a_certificate_of_another_mesh_with_the_same_root_name,
    a_certificate_that_has_expired,
    a_node_that_is_no_peer,
);

/// How long a certificate lives that is to expire in a test: enough to start with it, and more on a
/// machine that was too busy for that.
const BRIEF: [Duration; 3] =
    [Duration::from_secs(3), Duration::from_secs(12), Duration::from_secs(48)];

/// Starts both ends, waits until one of them has counted a refusal of these, and checks that nothing
/// passes.
fn is_refused(fixture: &Fixture, config_b: &NodeConfig, reasons: &[&str]) {
    let b = fixture.deployment.start(Side::B, config_b).unwrap();
    let a = fixture.deployment.start(Side::A, &fixture.config()).unwrap();
    wait::until("a counted refusal", LINK_UP, || {
        let (a, b) = (drops(&a), drops(&b));
        let counted = reasons
            .iter()
            .any(|reason| a[reason].as_u64() > Some(0) || b[reason].as_u64() > Some(0));
        if counted { Ok(()) } else { Err(format!("drops of a: {a}, of b: {b}")) }
    })
    .unwrap();
    for node in [&a, &b] {
        let status = node.status().unwrap();
        assert_ne!(status["links"][0]["state"], "up", "{status}");
    }
    let target = Side::B.tunnel(Family::V6);
    assert!(ping::run(&fixture.bed.a.namespace, target, 3).is_err(), "packets pass without a link");
}

fn drops(node: &Node) -> serde_json::Value {
    node.status().map(|status| status["drops"].clone()).unwrap_or_default()
}

/// B has its certificate, and trusts the root that issued it, but that is not A's root.
fn a_certificate_of_a_foreign_root(fixture: &Fixture) {
    let config = with_identity_from(fixture, MESH);
    is_refused(fixture, &config, &["certificate_refused", "handshake_failed"]);
}

fn a_certificate_of_another_mesh_with_the_same_root_name(fixture: &Fixture) {
    let config = with_identity_from(fixture, "elsewhere");
    is_refused(fixture, &config, &["certificate_refused", "handshake_failed"]);
}

fn with_identity_from(fixture: &Fixture, mesh: &str) -> NodeConfig {
    let folder = fixture.bed.folder().join("foreign");
    let foreign = Mesh::create(&folder, mesh, fixture.deployment.binaries()).unwrap();
    let identity = foreign.identity(Side::B);
    let mut config = fixture.config();
    for (key, file) in [("certificate", "node.crt"), ("key", "node.key"), ("authority", "ca.crt")] {
        config.set(&format!("identity.{key}"), &format!("{:?}", identity.join(file)));
    }
    config
}

fn a_certificate_that_has_expired(fixture: &Fixture) {
    // B must start while it is valid, and no connection may be made before it is not.
    let started = BRIEF.into_iter().find_map(|life| starts_with(fixture, life));
    let (_b, end) = started.expect("B starts while its certificate is valid");
    // It is valid to the end of its last second (RFC 5280 §4.1.2.5).
    let end = end + Duration::from_secs(1);
    wait::until("the end of the certificate", BRIEF[2] + SOON, || {
        let left = end.duration_since(SystemTime::now());
        left.map_or(Ok(()), |left| Err(format!("{left:?} left")))
    })
    .unwrap();
    let a = fixture.deployment.start(Side::A, &fixture.config()).unwrap();
    wait::until("a counted refusal", LINK_UP, || {
        let seen = drops(&a);
        if seen["certificate_refused"].as_u64() > Some(0) { Ok(()) } else { Err(seen.to_string()) }
    })
    .unwrap();
    assert_ne!(a.status().unwrap()["links"][0]["state"], "up");
}

/// Starts B with a certificate that lives so long, and says when it ends; nothing if B was not faster.
fn starts_with(fixture: &Fixture, life: Duration) -> Option<(Node, SystemTime)> {
    let mesh = &fixture.deployment.mesh;
    let (begin, end) = (SystemTime::now() - BACKDATE / 2, SystemTime::now() + life);
    let issued = Authority::open(&mesh.root()).unwrap().issue(Side::B.node(), begin, end).unwrap();
    issued.write(&mesh.identity(Side::B)).unwrap();
    let b = fixture.deployment.start(Side::B, &fixture.config()).unwrap();
    let answers = wait::until("the daemon's first answer", SOON, || {
        if SystemTime::now() >= end {
            return Ok(false);
        }
        b.status().map(|_| true).map_err(|error| error.to_string())
    });
    answers.unwrap().then_some((b, end))
}

/// B has a good certificate of the mesh, for a name that A does not know.
fn a_node_that_is_no_peer(fixture: &Fixture) {
    let identity = fixture.bed.folder().join("stranger");
    fixture.deployment.mesh.issue("stranger", &identity).unwrap();
    let mut config = fixture.config();
    config.set("node.name", "\"stranger\"");
    for (key, file) in [("certificate", "node.crt"), ("key", "node.key"), ("authority", "ca.crt")] {
        config.set(&format!("identity.{key}"), &format!("{:?}", identity.join(file)));
    }
    is_refused(fixture, &config, &["peer_unknown", "certificate_refused"]);
}
