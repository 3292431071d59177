//! What the authority issues is what the verifier accepts, and files are safe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use stoq_identity::{
    CertificateInfo, Identity, KeyError, LoadError, Policy, PrivateKeys, VerifyError,
    identity_to_pem,
};
use tempfile::TempDir;

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
fn the_keys_that_are_written_sign_for_the_certificate() {
    let now = SystemTime::now();
    let directory = made("hq", now);
    let out = directory.path().join("out");
    issue(&directory.path().join("pki"), "edge-a", &out, now).unwrap();
    let identity = load(&out);
    let info = CertificateInfo::read(&identity.chain()[0]).unwrap();
    assert_eq!(identity.keys().unwrap().public(), &info.keys);
    assert_eq!(identity.log_proof(), None);
}

#[test]
fn certificate_keys_and_log_proof_may_be_one_file() {
    let now = SystemTime::now();
    let directory = made("hq", now);
    let out = directory.path().join("out");
    issue(&directory.path().join("pki"), "edge-a", &out, now).unwrap();
    let three = load(&out);
    let whole = out.join("identity.pem");
    let keys = three.keys().unwrap();
    let text = identity_to_pem(three.chain(), &keys, Some(&[7; 3000]));
    fs::write(&whole, &*text).unwrap();
    let one = Identity::load(&whole, &whole, &out.join("ca.crt")).unwrap();
    assert_eq!(one.chain(), three.chain());
    assert_eq!(one.log_proof(), Some(&[7; 3000][..]));
    assert_eq!(one.key().secret_der(), three.key().secret_der());
    one.check(now).unwrap();
}

#[test]
fn an_identity_with_one_key_only_loads_under_the_classical_policy_only() {
    let now = SystemTime::now();
    let directory = made("hq", now);
    let out = directory.path().join("out");
    issue(&directory.path().join("pki"), "edge-a", &out, now).unwrap();
    let [certificate, key, authority] =
        ["node.crt", "node.key", "ca.crt"].map(|name| out.join(name));
    let text = fs::read_to_string(&key).unwrap();
    let classical = text.split("-----BEGIN STOQ").next().unwrap();
    fs::write(&key, classical).unwrap();
    let refused = Identity::load(&certificate, &key, &authority).unwrap_err();
    let LoadError::Alternative { source, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*source, KeyError::Alternative { got: "none" });
    let open = |_, path: &Path| fs::File::open(path);
    let policy = Policy::Classical;
    let loaded = Identity::load_under(policy, &certificate, &key, &authority, &open).unwrap();
    assert!(loaded.keys().is_none());
    loaded.check(now).unwrap();

    let other = PrivateKeys::generate().unwrap().to_pem();
    let foreign = other.find("-----BEGIN STOQ").unwrap();
    fs::write(&key, format!("{classical}{}", &other[foreign..])).unwrap();
    let refused = Identity::load(&certificate, &key, &authority).unwrap_err();
    assert!(matches!(refused, LoadError::KeyMismatch { .. }), "{refused}");
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
        let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        CertificateInfo::read(&der).unwrap().serial
    };
    let (first, second) = (serial(), serial());
    assert_ne!(first, second);
    assert!(first.len() == 32 && "4567".contains(&first[..1]), "{first}");
}
