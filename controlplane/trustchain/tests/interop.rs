//! Alternative signatures as another implementation of X.509 (2019) has them: Bouncy Castle, by the
//! algorithm that both know, ECDSA on P-384.
//!
//! A certificate that it made is kept here. That it takes ours is tried when Java and a Bouncy Castle
//! that knows alternative signatures are there: Debian's `default-jdk-headless`, `libbcprov-java` and
//! `libbcpkix-java` from Debian 13 on (Debian 12 has 1.72, which does not). `STOQ_BOUNCY_CASTLE`
//! names another folder with its three archives than `/usr/share/java`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod mesh;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use mesh::forge::{sign_alternatively, sign_classically};
use mesh::{NONE, new_keys, now};
use stoq_identity::{Algorithm, AlternativeError, Options, PrivateKeys, RootsError, Verifier};
use stoq_trustchain::{Authority, Dates, LEAF_VALIDITY, Prefixes, ROOT_VALIDITY, Subject};
use tempfile::TempDir;

/// Made by `interop/Alternative.java` with Bouncy Castle 1.80.
const THEIRS: &[u8] = include_bytes!("interop/bouncy-castle-1.80.der");

fn any_algorithm(root: &[u8]) -> Result<Verifier, RootsError> {
    let options = Options { algorithms: Algorithm::ALL.to_vec(), ..Options::default() };
    Verifier::with(&[root], "lab", NONE, options)
}

#[test]
fn a_root_that_bouncy_castle_made_holds_here() {
    let verifier = any_algorithm(THEIRS).unwrap();
    let keys = verifier.root_keys().next().unwrap();
    assert_eq!(keys.algorithm(), Some(Algorithm::EcdsaP384));
    let other = PrivateKeys::generate_with(Algorithm::EcdsaP384).unwrap();
    let forged = sign_alternatively(THEIRS, &other);
    let error = AlternativeError::Wrong;
    let refused = any_algorithm(&forged).unwrap_err();
    assert_eq!(refused, RootsError::Alternative { index: 1, error });
}

/// What the Java program answered; `None` when it can not run here, which was said then.
fn bouncy_castle(arguments: &[&Path]) -> Option<String> {
    let folder = env::var_os("STOQ_BOUNCY_CASTLE").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from("/usr/share/java"));
    let archives = ["bcprov.jar", "bcpkix.jar", "bcutil.jar"].map(|name| folder.join(name));
    if let Some(missing) = archives.iter().find(|archive| !archive.exists()) {
        eprintln!("SKIPPED: {} is missing (libbcprov-java, libbcpkix-java)", missing.display());
        return None;
    }
    let path = env::join_paths(archives).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/Alternative.java");
    let mut java = Command::new("java");
    java.arg("-cp").arg(path).arg(program).arg("check").args(arguments);
    let output = match java.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: java does not run (default-jdk-headless): {error}");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("cannot find symbol") {
        eprintln!("SKIPPED: this Bouncy Castle knows no alternative signatures (1.80 does)");
        return None;
    }
    assert!(output.status.success(), "{errors}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn bouncy_castle_takes_what_is_issued_here_and_refuses_a_forgery() {
    let keys = || Arc::new(PrivateKeys::generate_with(Algorithm::EcdsaP384).unwrap());
    let root = Authority::found("lab", keys(), Dates::of(now(), ROOT_VALIDITY)).unwrap();
    let prefixes = Prefixes::of(root.mesh(), None);
    let subject = Subject::Issuer { node: "edge-a".to_owned(), prefixes };
    let issuer_keys = keys();
    let dates = Dates::of(now(), LEAF_VALIDITY);
    let issuer = root.issue(&subject, issuer_keys.public(), dates).unwrap();
    let issuer = Authority::open(&issuer, issuer_keys).unwrap();
    // A leaf whose own alternative key is FALCON, which Bouncy Castle need not understand.
    let falcon = new_keys();
    let subject = Subject::Node { node: "edge-b".to_owned(), addresses: Vec::new() };
    let leaf = issuer.issue(&subject, falcon.public(), dates).unwrap();
    let forged = sign_classically(&sign_alternatively(&leaf, &keys()), issuer.keys());

    let folder = TempDir::new().unwrap();
    let file = |name: &str, der: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, der).unwrap();
        path
    };
    let root = file("root", root.certificate());
    let issuer = file("issuer", issuer.certificate());
    let (leaf, forged) = (file("leaf", &leaf), file("forged", &forged));
    for (above, below, expected) in [
        (&root, &root, "true"),
        (&root, &issuer, "true"),
        (&issuer, &leaf, "true"),
        (&issuer, &forged, "false"),
        (&root, &leaf, "false"),
    ] {
        let Some(answer) = bouncy_castle(&[above.as_path(), below.as_path()]) else { return };
        assert_eq!(answer, expected, "{} under {}", below.display(), above.display());
    }
}
