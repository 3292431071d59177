//! Loading an identity from files: what fits together, and what each misfit is called.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod pki;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pki::{Authority, HOUR, Node, node_params, root};
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use stoq_identity::{
    CertificateError, File, Identity, LoadError, Policy, RootsError, VerifyError, Warning,
};
use tempfile::TempDir;

const EDGE: &str = "stoq://hq/edge-a";

struct Files {
    directory: TempDir,
    now: SystemTime,
}

impl Files {
    fn new(authority: &Authority, node: &Node) -> Self {
        let files = Self { directory: TempDir::new().unwrap(), now: SystemTime::now() };
        files.write("node.crt", &node.certificate.pem());
        files.write("node.key", &node.key.serialize_pem());
        files.write("ca.crt", &authority.certificate.pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, contents: &str) {
        fs::write(self.path(name), contents).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }

    fn load(&self) -> Result<Identity, LoadError> {
        // Under the classical policy: the hybrid one has tests where such certificates are issued.
        let [certificate, key, authority] =
            ["node.crt", "node.key", "ca.crt"].map(|name| self.path(name));
        let open = |_, path: &Path| fs::File::open(path);
        Identity::load_under(Policy::Classical, &certificate, &key, &authority, &open)
    }
}

fn faultless() -> (Authority, Node, Files) {
    let now = SystemTime::now();
    let authority = root("root", now);
    let node = authority.issue(&node_params(&[EDGE], now));
    let files = Files::new(&authority, &node);
    (authority, node, files)
}

#[test]
fn files_that_belong_together_load_and_pass_the_check() {
    let (authority, node, files) = faultless();
    let identity = files.load().unwrap();
    assert_eq!(identity.id().to_string(), EDGE);
    assert_eq!(identity.chain(), [node.certificate.der().clone()]);
    assert_eq!(identity.roots(), [authority.certificate.der().clone()]);
    assert_eq!(identity.key().secret_der(), node.key.serialized_der());
    assert_eq!(identity.warnings(), []);
    identity.check(files.now).unwrap();
    let late = identity.check(files.now + 3 * HOUR).unwrap_err();
    assert!(matches!(late, VerifyError::Expired { .. }), "{late}");
    assert!(!format!("{identity:?}").contains("PRIVATE"));
}

#[test]
fn an_intermediate_in_the_certificate_file_is_sent() {
    let now = SystemTime::now();
    let authority = root("root", now);
    let below = authority.intermediate("below", now);
    let node = below.issue(&node_params(&[EDGE], now));
    let files = Files::new(&authority, &node);
    let refused = files.load().unwrap().check(now).unwrap_err();
    assert!(matches!(refused, VerifyError::Untrusted { .. }), "{refused}");
    files.write("node.crt", &(node.certificate.pem() + &below.certificate.pem()));
    let identity = files.load().unwrap();
    assert_eq!(identity.chain().len(), 2);
    identity.check(now).unwrap();
}

#[test]
fn keys_of_the_other_kinds_load_too() {
    let now = SystemTime::now();
    let authority = root("root", now);
    for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let node = authority.issue_for(&node_params(&[EDGE], now), kind);
        Files::new(&authority, &node).load().unwrap().check(now).unwrap();
    }
}

#[test]
fn a_key_that_others_can_read_is_warned_about_with_the_remedy() {
    let (.., files) = faultless();
    let path = files.path("node.key");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let identity = files.load().unwrap();
    assert_eq!(identity.warnings(), [Warning::KeyExposed { path: path.clone(), mode: 0o640 }]);
    let text = identity.warnings()[0].to_string();
    assert!(text.contains("got 0640"), "{text}");
    assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (authority, _, files) = faultless();
    let other = authority.issue(&node_params(&[EDGE], files.now));
    files.write("node.key", &other.key.serialize_pem());
    let refused = files.load().unwrap_err();
    let LoadError::KeyMismatch { got, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*got, "the key of another certificate");

    let other = authority.issue_for(&node_params(&[EDGE], files.now), &PKCS_ED25519);
    files.write("node.key", &other.key.serialize_pem());
    let refused = files.load().unwrap_err();
    let LoadError::KeyMismatch { got, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*got, "a key of another kind, or a damaged one");
}

#[test]
fn a_missing_file_names_its_configuration_key_and_path() {
    for (name, expected) in
        [("node.crt", File::Certificate), ("node.key", File::Key), ("ca.crt", File::Authority)]
    {
        let (.., files) = faultless();
        fs::remove_file(files.path(name)).unwrap();
        let refused = files.load().unwrap_err();
        let LoadError::Read { file, path, .. } = &refused else { panic!("{refused}") };
        assert_eq!((*file, path), (expected, &files.path(name)));
    }
}

#[test]
fn what_is_no_regular_file_of_sensible_size_is_refused_unread() {
    let (.., files) = faultless();
    let (key, authority) = (files.path("node.key"), files.path("ca.crt"));
    let refused = Identity::load(files.directory.path(), &key, &authority).unwrap_err();
    assert!(matches!(refused, LoadError::Unsuitable { .. }), "{refused}");
    // It is not even opened: that of a pipe would wait for its other end.
    let refused = Identity::load(Path::new("/dev/zero"), &key, &authority).unwrap_err();
    assert!(matches!(refused, LoadError::Read { .. }), "{refused}");
    assert!(refused.to_string().contains("got: a device or pipe"), "{refused}");
    files.write("node.crt", &"x".repeat(1 << 20));
    let refused = files.load().unwrap_err();
    assert!(refused.to_string().contains("got 1048576 bytes"), "{refused}");
}

#[test]
fn files_with_the_wrong_contents_are_refused() {
    let (authority, node, files) = faultless();
    let certificate = node.certificate.pem();
    for (name, contents, got) in [
        ("node.crt", String::new(), "none"),
        ("node.crt", node.key.serialize_pem(), "none"),
        ("node.crt", certificate.repeat(6), "more than 5"),
        ("node.crt", certificate[..certificate.len() / 2].to_owned(), "section end"),
        ("node.key", certificate.clone(), "none"),
        ("ca.crt", authority.certificate.pem().repeat(17), "more than 16"),
    ] {
        let (.., files) = faultless();
        files.write(name, &contents);
        let refused = files.load().unwrap_err();
        assert!(matches!(refused, LoadError::Pem { .. }), "{refused}");
        assert!(refused.to_string().contains(got), "{refused}");
    }
    files.write("ca.crt", &certificate);
    let refused = files.load().unwrap_err();
    let LoadError::Authority { source, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*source, RootsError::NotAuthority { index: 1 });
}

#[test]
fn a_certificate_without_a_node_name_is_refused() {
    let now = SystemTime::now();
    let authority = root("root", now);
    let node = authority.issue(&node_params(&[], now));
    let refused = Files::new(&authority, &node).load().unwrap_err();
    let LoadError::Certificate { source, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*source, CertificateError::NameCount { got: 0 });
}
