//! The root's keys and certificate, as files of the operator: no daemon ever has them.
//!
//! `mesh create` makes them, signs the first issuer and writes them down; `mesh promote` reads them.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hypermesh_api::IssuerRequest;
use ipnet::Ipv4Net;
use stoq_identity::PrivateKeys;
use stoq_trustchain::{
    Authority, Dates, ISSUER_VALIDITY, Prefixes, ROOT_VALIDITY, Request, Subject, TrustError,
};
use zeroize::Zeroizing;

use crate::archive::new_private_file;
use crate::failure::Failure;
use crate::pem;

/// The root's private keys.
const KEY: &str = "root.key";

/// The root's certificate.
const CERTIFICATE: &str = "root.crt";

/// Longest of the two files in bytes: both keys in PEM are below 16 KiB.
const FILE_MAX: u64 = 64 * 1024;

/// What the root signed for an issuer.
pub struct Signed {
    /// The issuer's certificate, PEM.
    pub issuer: String,
    /// Its log's certificate, PEM.
    pub log: String,
}

/// Makes new root keys and their certificate for the mesh `name`. Nothing is written.
pub fn make(name: &str, now: SystemTime) -> Result<Authority, Failure> {
    let keys = PrivateKeys::generate().map_err(TrustError::from)?;
    Ok(Authority::found(name, Arc::new(keys), Dates::of(now, ROOT_VALIDITY))?)
}

/// Refuses a directory that holds a root: its mesh would be lost with its keys.
pub fn check_free(directory: &Path) -> Result<(), Failure> {
    let key = directory.join(KEY);
    if fs::symlink_metadata(&key).is_err() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{}: expected no root there, got one; choose another directory by --root DIR, or, if its mesh \
         is gone for good, remove {}",
        key.display(),
        directory.display()
    )))
}

/// Writes keys and certificate into the directory, for this user alone.
pub fn write(root: &Authority, directory: &Path) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| Failure::writing(path, &error)
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(failed(directory))?;
    let key = directory.join(KEY);
    let mut file = new_private_file(&key)?;
    let text = root.keys().to_pem();
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(&key))?;
    let certificate = directory.join(CERTIFICATE);
    fs::write(&certificate, pem::certificate(root.certificate())).map_err(failed(&certificate))
}

/// Removes what [`write()`] wrote, for a mesh that does not come to be.
pub fn remove(directory: &Path) {
    for file in [KEY, CERTIFICATE] {
        // It is said that the mesh was not made; a root of no mesh signs nothing that is trusted.
        let _ = fs::remove_file(directory.join(file));
    }
    let _ = fs::remove_dir(directory);
}

/// Opens the root that is in the directory.
pub fn open(directory: &Path) -> Result<Authority, Failure> {
    let key = read(&directory.join(KEY))?;
    let certificate = read(&directory.join(CERTIFICATE))?;
    let certificate = pem::certificates(&certificate).into_iter().next().ok_or_else(|| {
        let path = directory.join(CERTIFICATE);
        Failure::Usage(format!("{}: expected a certificate in PEM, got none", path.display()))
    })?;
    let keys = PrivateKeys::from_pem(&key).map_err(TrustError::from)?;
    Ok(Authority::open(&certificate, Arc::new(keys))?)
}

/// Signs the certificates of an issuer and of its log, whose keys hypermeshd has proven to hold.
pub fn sign(
    root: &Authority,
    request: &IssuerRequest,
    ipv4: Option<Ipv4Net>,
    now: SystemTime,
) -> Result<Signed, Failure> {
    let prefixes = Prefixes::of(root.mesh(), ipv4);
    let node = &request.node;
    let issuer = Subject::Issuer { node: node.clone(), prefixes };
    let log = Subject::Log { node: node.clone() };
    let issue = |subject: &Subject, bytes: &[u8]| {
        let asked = Request::from_bytes(bytes).map_err(|error| not_signed(&error))?;
        expect(&asked, root.mesh(), subject)?;
        let keys = asked.verify(&[]).map_err(|error| not_signed(&error))?;
        let signed = root.issue(subject, keys, Dates::of(now, ISSUER_VALIDITY))?;
        Ok::<_, Failure>(pem::certificate(&signed))
    };
    Ok(Signed { issuer: issue(&issuer, &request.issuer.0)?, log: issue(&log, &request.log.0)? })
}

/// The root signs what the operator asked for, whatever a daemon would like.
fn expect(asked: &Request, mesh: &str, subject: &Subject) -> Result<(), Failure> {
    let (kind, node) = (subject.kind(), subject.name());
    if (asked.kind, asked.mesh.as_str(), asked.name.as_str()) == (kind, mesh, node) {
        return Ok(());
    }
    let got = format!("one of {} in {} for `{}`", asked.name, asked.mesh, asked.kind);
    Err(not_signed(&format!("expected a request of {node} in {mesh} for `{kind}`, got {got}")))
}

fn not_signed(why: &dyn std::fmt::Display) -> Failure {
    Failure::Refused(format!("the root signs nothing: {why}"))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    read.map_err(|error| {
        Failure::Usage(format!(
            "{}: expected the root of the mesh, got: {error}; bring the directory that \
             `stoqctl mesh create` made back to this host, and name it by --root DIR",
            path.display()
        ))
    })?;
    Ok(text)
}

/// Says if others than its owner may read the root's keys.
pub fn exposed(directory: &Path) -> Option<PathBuf> {
    let key = directory.join(KEY);
    let mode = fs::metadata(&key).ok()?.mode();
    (mode & 0o077 != 0).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hypermesh_api::Base64;
    use stoq_identity::{CertificateInfo, Kind, NodeId};
    use tempfile::TempDir;

    fn request(mesh: &str, node: &str, kinds: [Kind; 2]) -> IssuerRequest {
        let asked = |kind| {
            let keys = PrivateKeys::generate().unwrap();
            let id = NodeId::new(mesh, node).unwrap();
            Base64(Request::new(&keys, kind, &id, &[]).unwrap().to_bytes().unwrap())
        };
        IssuerRequest { node: "edge-a".into(), issuer: asked(kinds[0]), log: asked(kinds[1]) }
    }

    #[test]
    fn a_root_is_written_for_its_owner_alone_and_read_again() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("root");
        check_free(&path).unwrap();
        let root = make("lab", SystemTime::now()).unwrap();
        write(&root, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join(KEY)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(exposed(&path), None);
        let again = open(&path).unwrap();
        assert_eq!((again.mesh(), again.certificate()), (root.mesh(), root.certificate()));
        assert!(check_free(&path).unwrap_err().to_string().contains("--root DIR"));
        assert!(write(&root, &path).is_err(), "a root was overwritten");
        remove(&path);
        assert!(!path.exists());
        let gone = open(&path).err().unwrap();
        assert!(gone.to_string().contains("bring the directory"), "{gone}");
    }

    #[test]
    fn the_root_signs_an_issuer_and_a_log_of_the_node_asked_for_and_nothing_else() {
        let now = SystemTime::now();
        let root = make("lab", now).unwrap();
        let mesh = root.mesh();
        let right = request(mesh, "edge-a", [Kind::Issuer, Kind::Log]);
        let signed = sign(&root, &right, None, now).unwrap();
        for (text, kind) in [(&signed.issuer, Kind::Issuer), (&signed.log, Kind::Log)] {
            let certificate = CertificateInfo::read(&pem::certificates(text)[0]).unwrap();
            assert_eq!(certificate.kind, Some(kind));
        }
        for wrong in [
            request(mesh, "edge-b", [Kind::Issuer, Kind::Log]),
            request(mesh, "edge-a", [Kind::Log, Kind::Issuer]),
            request(mesh, "edge-a", [Kind::Node, Kind::Log]),
            request("lab-0123456789abcdef", "edge-a", [Kind::Issuer, Kind::Log]),
        ] {
            let refused = sign(&root, &wrong, None, now).err().unwrap();
            assert!(refused.to_string().contains("the root signs nothing"), "{refused}");
        }
    }
}
