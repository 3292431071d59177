//! What the authorities issue is what the verifier accepts, for its use and time and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod mesh;

use std::time::Duration;

use mesh::{Mesh, NONE, new_keys, now, promote};
use stoq_identity::{
    Algorithm, CertificateInfo, Expected, Kind, OperatorRole, Options, Policy, Role, VerifyError,
    mesh_id, root_keys,
};
use stoq_trustchain::{
    Authority, BACKDATE, Dates, ISSUER_VALIDITY, LEAF_VALIDITY, ROOT_VALIDITY, Subject, TrustError,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn a_node_is_known_by_name_keys_addresses_and_issuer() {
    let mesh = Mesh::new("lab");
    let node = mesh.node("edge-b");
    for role in [Role::Client, Role::Server] {
        let verifier = mesh.verifier(Options::default());
        let peer = verifier.verify(&node.der, NONE, role, now()).unwrap();
        assert_eq!(peer.id.to_string(), format!("stoq://{}/edge-b", mesh.root.mesh()));
        assert_eq!(peer.kind, Kind::Node);
        assert_eq!(&peer.keys, node.keys.public());
        assert_eq!(peer.addresses, mesh.addresses(2));
        assert_eq!(peer.not_before, now() - BACKDATE);
        assert_eq!(peer.not_after, now() + LEAF_VALIDITY);
        assert_eq!(peer.issuer, mesh.issuer.keys().public().fingerprint());
        assert!(peer.has_alternative);
        assert_eq!(peer.expired_for, Duration::ZERO);
    }
    assert!(node.der.len() < 4096, "{} bytes", node.der.len());
    mesh.verify_classically(&node.der).unwrap();
}

#[test]
fn the_intermediate_may_be_sent_instead_of_known() {
    let mesh = Mesh::new("lab");
    let node = mesh.node("edge-b");
    let bare = stoq_identity::Verifier::new(&[mesh.root.certificate()], mesh.root.mesh()).unwrap();
    let missing = bare.verify(&node.der, NONE, Role::Server, now()).unwrap_err();
    assert!(matches!(missing, VerifyError::Untrusted { .. }), "{missing}");
    let sent = [mesh.issuer.certificate()];
    bare.verify(&node.der, &sent, Role::Server, now()).unwrap();
}

#[test]
fn a_second_issuer_issues_for_the_same_mesh() {
    let mesh = Mesh::new("lab");
    let second = promote(&mesh.root, "edge-b", mesh.prefixes);
    let keys = new_keys();
    let dates = Dates::of(now(), LEAF_VALIDITY);
    let leaf = second.issue(&mesh.node_subject("edge-c"), keys.public(), dates).unwrap();
    let known = [mesh.issuer.certificate(), second.certificate()];
    let root = [mesh.root.certificate()];
    let verifier =
        stoq_identity::Verifier::with(&root, mesh.root.mesh(), &known, Options::default()).unwrap();
    let peer = verifier.verify(&leaf, NONE, Role::Client, now()).unwrap();
    assert_eq!(peer.issuer, second.keys().public().fingerprint());
    let first = mesh.node("edge-d");
    verifier.verify(&first.der, NONE, Role::Client, now()).unwrap();
}

#[test]
fn every_kind_is_accepted_for_its_own_use_only() {
    let mesh = Mesh::new("lab");
    let log = Subject::Log { node: "edge-a".to_owned() };
    let leaves = [
        (mesh.node("edge-b").der, Kind::Node),
        (mesh.operator(OperatorRole::Viewer).der, Kind::Operator(OperatorRole::Viewer)),
        (mesh.operator(OperatorRole::Operator).der, Kind::Operator(OperatorRole::Operator)),
        (mesh.operator(OperatorRole::Admin).der, Kind::Operator(OperatorRole::Admin)),
        (mesh.leaf(&log).der, Kind::Log),
    ];
    for (leaf, kind) in &leaves {
        for expected in [Expected::Node, Expected::Operator, Expected::Log] {
            let fits = matches!(
                (expected, kind),
                (Expected::Node, Kind::Node)
                    | (Expected::Operator, Kind::Operator(_))
                    | (Expected::Log, Kind::Log)
            );
            match mesh.verify(expected, leaf) {
                Ok(peer) => assert!(fits && peer.kind == *kind, "{expected} {kind}"),
                Err(refused) => {
                    assert!(!fits, "{expected} {kind}: {refused}");
                    assert_eq!(refused, VerifyError::Kind { expected, got: *kind });
                }
            }
        }
    }
}

#[test]
fn a_log_stands_beside_its_issuer_below_the_root() {
    let mesh = Mesh::new("lab");
    let keys = new_keys();
    let dates = Dates::of(now(), ISSUER_VALIDITY);
    let subject = Subject::Log { node: "edge-a".to_owned() };
    let log = mesh.root.issue(&subject, keys.public(), dates).unwrap();
    let verified = mesh.verify(Expected::Log, &log).unwrap();
    assert_eq!((verified.kind, verified.id.node()), (Kind::Log, "edge-a"));
    assert_eq!(&verified.keys, keys.public());
    assert_eq!(verified.issuer, mesh.root.keys().public().fingerprint());
}

#[test]
fn an_issuer_is_verified_under_the_root() {
    let mesh = Mesh::new("lab");
    let verifier = mesh.verifier(Options::default());
    let issuer = verifier.verify_issuer(mesh.issuer.certificate(), now()).unwrap();
    assert_eq!(issuer.kind, Kind::Issuer);
    assert_eq!(&issuer.keys, mesh.issuer.keys().public());
    assert_eq!(issuer.id.node(), "edge-a");
    let late = verifier.verify_issuer(mesh.issuer.certificate(), now() + 366 * DAY).unwrap_err();
    assert_eq!(late, VerifyError::Expired { ago: DAY });
    for other in [mesh.root.certificate(), &mesh.node("edge-b").der] {
        let refused = verifier.verify_issuer(other, now()).unwrap_err();
        assert!(matches!(refused, VerifyError::Issuer { .. }), "{refused}");
    }
    let foreign = Mesh::new("lab");
    let refused = verifier.verify_issuer(foreign.issuer.certificate(), now()).unwrap_err();
    assert!(matches!(refused, VerifyError::Issuer { .. }), "{refused}");
}

#[test]
fn the_mesh_is_bound_to_the_keys_of_its_root() {
    let mesh = Mesh::new("lab");
    let keys = root_keys(mesh.root.certificate(), Policy::Hybrid).unwrap();
    assert_eq!(mesh_id("lab", &keys).unwrap(), mesh.root.mesh());
    assert_ne!(mesh_id("lab", new_keys().public()).unwrap(), mesh.root.mesh());
    let long = "a".repeat(47);
    let refused = Authority::found(&long, new_keys(), Dates::of(now(), ROOT_VALIDITY));
    assert!(matches!(refused.err(), Some(TrustError::Name { what: "mesh", .. })));
}

#[test]
fn dates_lie_within_those_of_the_issuer_and_renewal_after_two_thirds() {
    let mesh = Mesh::new("lab");
    let keys = new_keys();
    let subject = mesh.node_subject("edge-b");
    let issue = |from, until| {
        let dates = Dates { not_before: from, not_after: until };
        mesh.issuer.issue(&subject, keys.public(), dates)
    };
    let end = now() + ISSUER_VALIDITY;
    let leaf = issue(end - DAY, end + DAY).unwrap();
    assert_eq!(CertificateInfo::read(&leaf).unwrap().not_after, end);
    for (from, until) in [(now() - DAY, end), (end, end + DAY), (now() + DAY, now() + DAY)] {
        let refused = issue(from, until).unwrap_err();
        assert!(matches!(refused, TrustError::Dates { .. }), "{refused}");
    }
    let dates = Dates { not_before: now(), not_after: now() + 3 * DAY };
    assert_eq!(dates.renewal(), now() + 2 * DAY);
}

#[test]
fn an_expired_node_passes_only_where_an_operator_decided_so() {
    let mesh = Mesh::new("lab");
    let node = mesh.node("edge-b");
    let late = now() + LEAF_VALIDITY + DAY;
    let strict = mesh.verifier(Options::default());
    let refused = strict.verify(&node.der, NONE, Role::Client, late).unwrap_err();
    assert_eq!(refused, VerifyError::Expired { ago: DAY });
    let lenient = mesh.verifier(Options { outlive: 2 * DAY, ..Options::default() });
    let peer = lenient.verify(&node.der, NONE, Role::Client, late).unwrap();
    assert_eq!(peer.expired_for, DAY);
    let refused = lenient.verify(&node.der, NONE, Role::Client, late + 2 * DAY).unwrap_err();
    assert_eq!(refused, VerifyError::Expired { ago: 3 * DAY });
    let operator = mesh.operator(OperatorRole::Admin);
    let refused = lenient.verify_as(Expected::Operator, &operator.der, NONE, Role::Client, late);
    assert_eq!(refused.unwrap_err(), VerifyError::Expired { ago: DAY });
}

#[test]
fn what_a_certificate_says_can_be_shown() {
    let mesh = Mesh::new("lab");
    let info = CertificateInfo::read(&mesh.node("edge-b").der).unwrap();
    assert_eq!(info.dns_names, ["edge-b.lab.internal"]);
    assert_eq!(info.alternative_signature, Some(Algorithm::FnDsa1024));
    assert!(info.subject.contains("edge-b") && info.issuer.contains("edge-a"), "{info:?}");
    let root = CertificateInfo::read(mesh.root.certificate()).unwrap();
    assert_eq!((root.id, root.kind, root.authority), (None, None, true));
}

#[test]
fn an_authority_issues_only_what_is_its_own_to_issue() {
    let mesh = Mesh::new("lab");
    let keys = new_keys();
    let dates = Dates::of(now(), LEAF_VALIDITY);
    let subject = Subject::Issuer { node: "edge-b".to_owned(), prefixes: mesh.prefixes };
    let refused = mesh.issuer.issue(&subject, keys.public(), dates).unwrap_err();
    assert!(matches!(refused, TrustError::NotAllowed { .. }), "{refused}");
    let addresses = vec!["fd00::1".parse().unwrap()];
    let subject = Subject::Node { node: "edge-b".to_owned(), addresses };
    let refused = mesh.issuer.issue(&subject, keys.public(), dates).unwrap_err();
    assert!(matches!(refused, TrustError::Address { .. }), "{refused}");
    let node = mesh.node("edge-b");
    let refused = Authority::open(&node.der, node.keys).err().unwrap();
    assert!(matches!(refused, TrustError::Authority { .. }), "{refused}");
    let refused = Authority::open(mesh.root.certificate(), keys).err().unwrap();
    assert!(matches!(refused, TrustError::Authority { .. }), "{refused}");
}

#[test]
fn a_root_speaks_only_for_private_addresses() {
    let mesh = Mesh::new("lab");
    let verify = |address: &str| {
        let addresses = vec![address.parse().unwrap()];
        let subject = Subject::Node { node: "edge-b".to_owned(), addresses };
        let dates = Dates::of(now(), LEAF_VALIDITY);
        let leaf = mesh.root.issue(&subject, new_keys().public(), dates).unwrap();
        mesh.verify(Expected::Node, &leaf)
    };
    for private in ["10.1.2.3", "fd48::1"] {
        verify(private).unwrap();
    }
    for public in ["192.0.2.1", "2001:db8::1"] {
        let refused = verify(public).unwrap_err();
        assert!(matches!(refused, VerifyError::Untrusted { .. }), "{public}: {refused}");
    }
}
