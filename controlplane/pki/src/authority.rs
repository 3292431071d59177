//! The root on disk: making it, opening it, issuing under it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use stoq_identity::{PrivateKeys, certificate_to_pem, check_name};
use stoq_trustchain::{Dates, Subject, TrustError};
use zeroize::Zeroizing;

use crate::store::{self, Existing, PUBLIC, SECRET};
use crate::{BACKDATE, NODE_VALIDITY, PkiError, ROOT_VALIDITY};

const ROOT_CERTIFICATE: &str = "ca.crt";
const ROOT_KEY: &str = "ca.key";
const NODE_CERTIFICATE: &str = "node.crt";
const NODE_KEY: &str = "node.key";

/// Makes the root of `mesh` in `directory` (created with mode 0700 unless it is there): `ca.crt`,
/// and `ca.key` with mode 0600. Nothing that exists is touched.
///
/// # Errors
/// An invalid name, [`PkiError::Exists`], or the file system's refusal.
pub fn init(directory: &Path, mesh: &str, now: SystemTime) -> Result<(), PkiError> {
    let named = |source| PkiError::Name { what: "mesh", name: mesh.to_owned(), source };
    check_name(mesh).map_err(named)?;
    store::create_directory(directory, 0o700)?;
    let exists = |file| PkiError::Exists { directory: directory.into(), file };
    if directory.join(ROOT_CERTIFICATE).exists() {
        return Err(exists(ROOT_CERTIFICATE));
    }
    let keys = new_keys()?;
    let dates = Dates { not_before: now - BACKDATE, not_after: now + ROOT_VALIDITY };
    let root = stoq_trustchain::Authority::found_as(mesh, Arc::clone(&keys), dates);
    let root = root.map_err(refused)?;
    let keep = |name, contents: &str, mode| {
        let written = store::write(directory, name, contents, mode, Existing::Keep);
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => exists(name),
            _ => store::failed(&directory.join(name), "write", source),
        })
    };
    keep(ROOT_KEY, &keys.to_pem(), SECRET)?;
    keep(ROOT_CERTIFICATE, &certificate_to_pem(root.certificate()), PUBLIC)
}

/// Issues a certificate for `node` under the root in `directory`, and writes `node.crt`, `node.key`
/// (mode 0600) and `ca.crt` into `out`. What was there is replaced, the certificate last.
///
/// # Errors
/// An invalid name, a damaged or expired root, or the file system's refusal.
pub fn issue(directory: &Path, node: &str, out: &Path, now: SystemTime) -> Result<(), PkiError> {
    let authority = Authority::open(directory)?;
    let issued = authority.issue(node, now - BACKDATE, now + NODE_VALIDITY)?;
    issued.write(out)
}

/// A root, opened for issuing.
pub struct Authority(stoq_trustchain::Authority);

/// A node's certificate and private keys, and the root that they stand under, in PEM.
pub struct Issued {
    /// The node's certificate.
    pub certificate_pem: String,
    /// Its two private keys.
    pub key_pem: Zeroizing<String>,
    /// The root's certificate.
    pub authority_pem: String,
}

impl Authority {
    /// Opens the root in `directory`.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the keys are not those of the certificate.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        let bad = |file, expected, got: String| PkiError::Root {
            path: directory.join(file),
            expected,
            got,
        };
        let certificate = store::read(directory, ROOT_CERTIFICATE)?;
        let keys = Zeroizing::new(store::read(directory, ROOT_KEY)?);
        let keys = PrivateKeys::from_pem(&keys)
            .map_err(|error| bad(ROOT_KEY, "both private keys in PEM", error.to_string()))?;
        let form = "the root certificate of a mesh in PEM, with its keys beside it";
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| bad(ROOT_CERTIFICATE, form, error.to_string()))?;
        stoq_trustchain::Authority::open(&certificate, Arc::new(keys))
            .map(Self)
            .map_err(|error| bad(ROOT_CERTIFICATE, form, error.to_string()))
    }

    /// The mesh that it names nodes of.
    #[must_use]
    pub fn mesh(&self) -> &str {
        self.0.mesh()
    }

    /// Issues a certificate for `node` with new keys. It ends no later than the root.
    ///
    /// # Errors
    /// An invalid name, or [`PkiError::Dates`] when the root was not valid at `not_before`.
    pub fn issue(
        &self,
        node: &str,
        not_before: SystemTime,
        not_after: SystemTime,
    ) -> Result<Issued, PkiError> {
        let subject = Subject::Node { node: node.to_owned(), addresses: Vec::new() };
        let keys = new_keys()?;
        let dates = Dates { not_before, not_after };
        let certificate = self.0.issue(&subject, keys.public(), dates).map_err(refused)?;
        Ok(Issued {
            certificate_pem: certificate_to_pem(&certificate),
            key_pem: keys.to_pem(),
            authority_pem: certificate_to_pem(self.0.certificate()),
        })
    }
}

impl Issued {
    /// Writes `node.key`, `ca.crt` and `node.crt` into `out`, which is made when it is missing.
    ///
    /// # Errors
    /// The file system's refusal.
    pub fn write(&self, out: &Path) -> Result<(), PkiError> {
        store::create_directory(out, 0o755)?;
        let files = [
            (NODE_KEY, self.key_pem.as_str(), SECRET),
            (ROOT_CERTIFICATE, &self.authority_pem, PUBLIC),
            (NODE_CERTIFICATE, &self.certificate_pem, PUBLIC),
        ];
        for (name, contents, mode) in files {
            store::write(out, name, contents, mode, Existing::Replace)
                .map_err(|source| store::failed(&out.join(name), "write", source))?;
        }
        Ok(())
    }
}

fn new_keys() -> Result<Arc<PrivateKeys>, PkiError> {
    PrivateKeys::generate().map(Arc::new).map_err(|error| PkiError::Crypto(error.to_string()))
}

fn refused(error: TrustError) -> PkiError {
    match error {
        TrustError::Name { what, name, source } => PkiError::Name { what, name, source },
        TrustError::Dates { got } => PkiError::Dates { got },
        other => PkiError::Crypto(other.to_string()),
    }
}
