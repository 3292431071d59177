//! What the authority issues is what the verifier accepts, and files are safe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, SanType};
use stoq_identity::{Identity, VerifyError};
use tempfile::TempDir;
use x509_parser::pem::parse_x509_pem;

use crate::{Authority, BACKDATE, NODE_VALIDITY, PkiError, ROOT_VALIDITY, init, issue};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn load(out: &Path) -> Identity {
    let path = |name| out.join(name);
    Identity::load(&path("node.crt"), &path("node.key"), &path("ca.crt")).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn made(mesh: &str, now: SystemTime) -> TempDir {
    let directory = TempDir::new().unwrap();
    init(&directory.path().join("pki"), mesh, now).unwrap();
    directory
}

#[test]
fn an_issued_identity_loads_without_warning_and_is_valid_as_documented() {
    let now = SystemTime::now();
    let directory = made("hq", now);
    let out = directory.path().join("new/edge-a");
    issue(&directory.path().join("pki"), "edge-a", &out, now).unwrap();
    let identity = load(&out);
    assert_eq!(identity.id().to_string(), "stoq://hq/edge-a");
    assert_eq!(identity.warnings(), []);
    for accepted in [now - BACKDATE / 2, now, now + NODE_VALIDITY - DAY] {
        identity.check(accepted).unwrap();
    }
    let early = identity.check(now - 2 * BACKDATE).unwrap_err();
    assert!(matches!(early, VerifyError::NotYetValid { .. }), "{early}");
    let late = identity.check(now + NODE_VALIDITY + DAY).unwrap_err();
    assert!(matches!(late, VerifyError::Expired { .. }), "{late}");
}

#[test]
fn keys_are_for_their_owner_only() {
    let now = SystemTime::now();
    let directory = made("hq", now);
    let pki = directory.path().join("pki");
    issue(&pki, "edge-a", &directory.path().join("out"), now).unwrap();
    assert_eq!(mode(&pki), 0o700);
    assert_eq!(mode(&pki.join("ca.key")), 0o600);
    assert_eq!(mode(&directory.path().join("out/node.key")), 0o600);
    let left: Vec<_> = fs::read_dir(directory.path().join("out")).unwrap().collect();
    assert_eq!(left.len(), 3, "temporary files were left: {left:?}");
}

#[test]
fn init_overwrites_nothing() {
    let now = SystemTime::now();
    for file in ["ca.crt", "ca.key"] {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join(file), "precious").unwrap();
        let refused = init(directory.path(), "hq", now).unwrap_err();
        assert!(matches!(refused, PkiError::Exists { file: f, .. } if f == file), "{refused}");
        assert_eq!(fs::read_to_string(directory.path().join(file)).unwrap(), "precious");
    }
}

#[test]
fn issuing_again_replaces_certificate_and_key_together() {
    let now = SystemTime::now();
    let directory = made("hq", now);
    let (pki, out) = (directory.path().join("pki"), directory.path().join("out"));
    issue(&pki, "edge-a", &out, now).unwrap();
    let first = load(&out);
    issue(&pki, "edge-a", &out, now).unwrap();
    let second = load(&out);
    assert_ne!(first.chain(), second.chain());
    assert_ne!(first.key().secret_der(), second.key().secret_der());
}

#[test]
fn invalid_names_are_refused_before_anything_is_written() {
    let now = SystemTime::now();
    let directory = TempDir::new().unwrap();
    let pki = directory.path().join("pki");
    for name in ["", "HQ", "a/b", "-a"] {
        let refused = init(&pki, name, now).unwrap_err();
        assert!(matches!(refused, PkiError::Name { what: "mesh", .. }), "{refused}");
        assert!(!pki.exists());
    }
    init(&pki, "hq", now).unwrap();
    let out = directory.path().join("out");
    let refused = issue(&pki, "../edge", &out, now).unwrap_err();
    assert!(matches!(refused, PkiError::Name { what: "node", .. }), "{refused}");
    assert!(!out.exists());
}

#[test]
fn a_node_never_outlives_the_root_and_none_is_issued_outside_its_life() {
    let then = SystemTime::now() - ROOT_VALIDITY + DAY;
    let directory = made("hq", then);
    let authority = Authority::open(&directory.path().join("pki")).unwrap();
    assert_eq!(authority.mesh(), "hq");
    let end = then + ROOT_VALIDITY;
    let out = directory.path().join("out");
    authority.issue("edge-a", end - DAY, end + DAY).unwrap().write(&out).unwrap();
    let not_after = load(&out).not_after();
    assert!(not_after <= end && not_after > end - Duration::from_secs(2), "{not_after:?}");
    for (begin, finish) in [(then - DAY, end), (end + DAY, end + 2 * DAY), (then + DAY, then + DAY)]
    {
        let refused = authority.issue("edge-a", begin, finish).err().unwrap();
        assert!(matches!(refused, PkiError::Dates { .. }), "{refused}");
    }
}

#[test]
fn a_root_whose_files_do_not_belong_together_is_refused() {
    let now = SystemTime::now();
    let (one, other) = (made("hq", now), made("hq", now));
    let pki = one.path().join("pki");
    fs::copy(other.path().join("pki/ca.key"), pki.join("ca.key")).unwrap();
    assert!(matches!(Authority::open(&pki), Err(PkiError::Root { .. })));
    fs::write(pki.join("ca.key"), "damaged").unwrap();
    assert!(matches!(Authority::open(&pki), Err(PkiError::Root { .. })));
    fs::remove_file(pki.join("ca.key")).unwrap();
    assert!(matches!(Authority::open(&pki), Err(PkiError::File { action: "read", .. })));
}

#[test]
fn serial_numbers_are_random_positive_and_of_full_length() {
    let now = SystemTime::now();
    let directory = made("hq", now);
    let authority = Authority::open(&directory.path().join("pki")).unwrap();
    let serial = || {
        let issued = authority.issue("edge-a", now, now + DAY).unwrap();
        let (_, pem) = parse_x509_pem(issued.certificate_pem.as_bytes()).unwrap();
        pem.parse_x509().unwrap().raw_serial().to_vec()
    };
    let (first, second) = (serial(), serial());
    assert_ne!(first, second);
    assert!(first.len() == 16 && first[0] & 0xc0 == 0x40, "{first:02x?}");
}

/// Signs a certificate with the root's key for these names, and asks the verifier.
fn accepted_with(names: Vec<SanType>) -> Result<(), VerifyError> {
    let now = SystemTime::now();
    let directory = made("hq", now);
    let pki = directory.path().join("pki");
    let id = stoq_identity::NodeId::new("hq", "edge-a").unwrap();
    let mut params: CertificateParams = crate::profile::node(&id, now, now + DAY).unwrap();
    params.subject_alt_names.extend(names);
    let root_key = KeyPair::from_pem(&fs::read_to_string(pki.join("ca.key")).unwrap()).unwrap();
    let root_pem = fs::read_to_string(pki.join("ca.crt")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&root_pem, &root_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let (_, root) = parse_x509_pem(root_pem.as_bytes()).unwrap();
    let verifier = stoq_identity::Verifier::new(&[&root.contents], "hq").unwrap();
    let none: &[&[u8]] = &[];
    verifier.verify(leaf.der(), none, stoq_identity::Role::Server, now).map(drop)
}

#[test]
fn the_root_speaks_only_for_private_names_and_addresses() {
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let address = |text: &str| SanType::IpAddress(text.parse().unwrap());
    for name in [dns("api.hq.internal"), address("10.1.2.3"), address("fd48::1")] {
        accepted_with(vec![name]).unwrap();
    }
    for name in [dns("www.example.com"), address("192.0.2.1"), address("2001:db8::1")] {
        let refused = accepted_with(vec![name.clone()]).unwrap_err();
        assert!(matches!(refused, VerifyError::Untrusted { .. }), "{name:?}: {refused}");
    }
}
