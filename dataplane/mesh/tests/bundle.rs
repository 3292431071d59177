//! A bundle counts under the root alone: what a control plane that was taken over could change in
//! one is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod lab;

use std::time::Duration;

use lab::{Lab, new_keys, now};
use stoq_mesh::{
    Bundle, BundleError, OpenError, Record, RevocationError, RevocationStore, Signed, Verified,
};
use stoq_trustchain::{ISSUER_VALIDITY, LEAF_VALIDITY};

fn verify(lab: &Lab, bundle: &Bundle) -> Result<Verified, BundleError> {
    let decoded = Bundle::from_bytes(&bundle.to_bytes().unwrap()).unwrap();
    assert_eq!(decoded, *bundle);
    decoded.verify(&lab.verifier(), &RevocationStore::new(), now())
}

fn refused(lab: &Lab, bundle: &Bundle) -> BundleError {
    verify(lab, bundle).unwrap_err()
}

#[test]
fn what_the_issuers_signed_counts() {
    let lab = Lab::new(2);
    let mut bundle = lab.bundle();
    bundle.records[1] = Signed::sign(&lab.record("edge-b", 2), lab.keys(1)).unwrap();
    let verified = verify(&lab, &bundle).unwrap();
    let names: Vec<&str> = verified.records.iter().map(|record| record.node.as_str()).collect();
    assert_eq!(names, ["edge-a", "edge-b"]);
    assert_eq!((verified.number, verified.intermediates.len()), (7, 2));
    assert_eq!((verified.revocations.sequence(), verified.revoked.len()), (3, 1));
    assert!(verified.revocations.is_revoked(&[9; 32], "whoever"));
    assert!(verified.revocations.is_revoked(&[0; 32], "gone-9"));
    assert!(!verified.revocations.is_revoked(&[1; 32], "edge-a"));
    assert!(verified.expired.is_empty());
}

#[test]
fn another_mesh_is_not_ours() {
    let (lab, other) = (Lab::new(1), Lab::new(1));
    let foreign = refused(&lab, &other.bundle());
    assert!(matches!(foreign, BundleError::Mesh { .. }), "{foreign}");
    let mut disguised = other.bundle();
    disguised.mesh = lab.bundle().mesh;
    assert!(matches!(refused(&lab, &disguised), BundleError::Unbound { .. }));
    disguised.root = lab.root.certificate().to_vec();
    assert!(matches!(refused(&lab, &disguised), BundleError::Issuer { index: 1, .. }));
    disguised.issuers = lab.bundle().issuers;
    let stolen = refused(&lab, &disguised);
    assert!(
        matches!(
            &stolen,
            BundleError::Revocations(RevocationError::Open(OpenError::Signer { .. }))
        ),
        "{stolen}"
    );
}

#[test]
fn the_mesh_follows_from_the_root() {
    let lab = Lab::new(1);
    let mut bundle = lab.bundle();
    bundle.mesh.prefix = "fd00:1:2::/48".parse().unwrap();
    assert!(matches!(refused(&lab, &bundle), BundleError::Unbound { what: "a prefix" }));
    let mut bundle = lab.bundle();
    bundle.mesh.name = "hub".to_owned();
    assert!(matches!(refused(&lab, &bundle), BundleError::Unbound { what: "a name" }));
}

#[test]
fn records_that_nobody_of_this_mesh_signed_are_refused() {
    let lab = Lab::new(1);
    let record = lab.record("edge-c", 3);
    // By a stranger, by the log, and by a node with keys of its own.
    for keys in [&new_keys(), &lab.issuers[0].log] {
        let mut bundle = lab.bundle();
        bundle.records.push(Signed::sign(&record, keys).unwrap());
        let error = refused(&lab, &bundle);
        assert!(
            matches!(&error, BundleError::Record { index: 3, error: OpenError::Signer { .. } }),
            "{error}"
        );
    }
    let mut foreign = record;
    foreign.mesh = "hub-0123456789abcdef".to_owned();
    let mut bundle = lab.bundle();
    bundle.records.push(Signed::sign(&foreign, lab.keys(0)).unwrap());
    let error = refused(&lab, &bundle);
    assert!(matches!(&error, BundleError::Record { error: OpenError::Mesh { .. }, .. }), "{error}");
}

#[test]
fn the_default_route_can_not_even_be_signed() {
    let lab = Lab::new(1);
    for prefix in ["0.0.0.0/0", "::/0", "10.1.2.3/8"] {
        let mut record = lab.record("edge-b", 2);
        record.routes = vec![prefix.parse().unwrap()];
        assert!(Signed::sign(&record, lab.keys(0)).is_err(), "{prefix}");
    }
}

#[test]
fn members_do_not_take_each_others_or_the_meshs_addresses() {
    let lab = Lab::new(1);
    let with = |edit: &dyn Fn(&mut Record)| {
        let mut record = lab.record("edge-c", 3);
        edit(&mut record);
        let mut bundle = lab.bundle();
        bundle.records.push(Signed::sign(&record, lab.keys(0)).unwrap());
        verify(&lab, &bundle).map(|_| ())
    };
    with(&|_| {}).unwrap();
    let net = |prefix: &str| prefix.parse().unwrap();
    let wide = with(&|record| record.routes = vec![net("10.100.0.0/16")]).unwrap_err();
    assert!(matches!(&wide, BundleError::Overlap { .. }), "{wide}");
    let same = with(&|record| record.addresses = lab.record("", 2).addresses).unwrap_err();
    assert!(matches!(&same, BundleError::Overlap { .. }), "{same}");
    let mesh = with(&|record| record.routes = vec![net("10.0.0.0/8")]).unwrap_err();
    assert!(matches!(&mesh, BundleError::Outside { .. }), "{mesh}");
    let outside = with(&|record| record.addresses = vec![net("10.8.0.1/32")]).unwrap_err();
    assert!(matches!(&outside, BundleError::Outside { .. }), "{outside}");
    let twice = with(&|record| record.node = "edge-b".to_owned()).unwrap_err();
    assert!(matches!(&twice, BundleError::Twice { .. }), "{twice}");
    let revoked = with(&|record| record.node = "gone-9".to_owned()).unwrap_err();
    assert!(matches!(&revoked, BundleError::Revoked { .. }), "{revoked}");
    let revoked = with(&|record| record.keys = [9; 32]).unwrap_err();
    assert!(matches!(&revoked, BundleError::Revoked { .. }), "{revoked}");
}

#[test]
fn a_rolled_back_set_is_refused_with_the_bundle() {
    let lab = Lab::new(1);
    let mut known = RevocationStore::new();
    let newer = Signed::sign(&lab.revocations(4, &[8, 9]), lab.keys(0)).unwrap();
    assert_eq!(known.accept(&newer, &lab.signers()).unwrap().len(), 2);
    let error = lab.bundle().verify(&lab.verifier(), &known, now()).unwrap_err();
    let older = RevocationError::Older { have: 4, got: 3 };
    assert!(matches!(&error, BundleError::Revocations(got) if *got == older), "{error}");
}

#[test]
fn a_revoked_issuer_signs_nothing_any_more() {
    let lab = Lab::new(2);
    let mut set = lab.revocations(4, &[9]);
    let mut issuer = set.entries[0].clone();
    issuer.keys = lab.keys(0).public().fingerprint();
    issuer.kind = stoq_mesh::RevokedKind::Issuer;
    set.entries.push(issuer);
    set.entries.sort_by_key(|entry| entry.keys);
    // The second issuer says so: the records of the first are refused.
    let mut bundle = lab.bundle();
    bundle.revocations = Signed::sign(&set, lab.keys(1)).unwrap();
    let error = refused(&lab, &bundle);
    assert!(matches!(&error, BundleError::Record { index: 1, .. }), "{error}");
    let again = |record: &Record| Signed::sign(record, lab.keys(1)).unwrap();
    bundle.records = vec![again(&lab.record("edge-a", 1)), again(&lab.record("edge-b", 2))];
    let verified = verify(&lab, &bundle).unwrap();
    assert_eq!(verified.intermediates, [lab.issuers[1].certificates.certificate.clone()]);
    // The first can not take it back, nor sign that set itself.
    let back = lab.bundle().verify(&lab.verifier(), &verified.revocations, now()).unwrap_err();
    assert!(matches!(&back, BundleError::Revocations(_)), "{back}");
    bundle.revocations = Signed::sign(&set, lab.keys(0)).unwrap();
    assert!(matches!(refused(&lab, &bundle), BundleError::Revoked { .. }));
}

#[test]
fn an_issuer_that_has_expired_is_passed_over() {
    let lab = Lab::new(1);
    let bundle = lab.bundle();
    let at =
        |ahead: Duration| bundle.verify(&lab.verifier(), &RevocationStore::new(), now() + ahead);
    let verified = at(LEAF_VALIDITY + Duration::from_secs(60)).unwrap();
    assert_eq!((verified.heads.len(), verified.records.len()), (0, 2));
    assert!(verified.expired[0].starts_with("the log 1 expired"), "{:?}", verified.expired);
    let error = at(ISSUER_VALIDITY + Duration::from_secs(60)).unwrap_err();
    assert!(matches!(&error, BundleError::Revocations(_)), "{error}");
}

#[test]
fn certificates_do_not_count_in_each_others_place() {
    let lab = Lab::new(1);
    let mut bundle = lab.bundle();
    bundle.issuers[0].log = bundle.issuers[0].certificate.clone();
    assert!(matches!(refused(&lab, &bundle), BundleError::Issuer { index: 1, .. }));
    let mut bundle = lab.bundle();
    bundle.issuers[0].certificate = bundle.issuers[0].log.clone();
    assert!(matches!(refused(&lab, &bundle), BundleError::Issuer { index: 1, .. }));
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let lab = Lab::new(1);
    let bytes = lab.bundle().to_bytes().unwrap();
    let same = Bundle::from_bytes(&bytes).unwrap();
    // What informs only, and is not bound to anything: the IPv4 prefix, the policy, the number.
    // The root counts by its keys, so not every byte of its certificate is looked at.
    let free = |bundle: &Bundle| {
        let mut bundle = bundle.clone();
        (bundle.mesh.ipv4, bundle.mesh.policy) = (same.mesh.ipv4, same.mesh.policy);
        (bundle.number, bundle.root) = (same.number, same.root.clone());
        bundle == same
    };
    for at in (0..bytes.len()).step_by(37) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let Ok(bundle) = Bundle::from_bytes(&changed) else { continue };
        let verdict = bundle.verify(&lab.verifier(), &RevocationStore::new(), now());
        // The head of a log that nobody knows is left out, as if it had been withheld.
        let withheld = verdict.as_ref().is_ok_and(|verified| verified.heads.is_empty());
        assert!(verdict.is_err() || free(&bundle) || withheld, "byte {at}");
    }
    for end in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(Bundle::from_bytes(&bytes[..end]).is_err());
    }
}
