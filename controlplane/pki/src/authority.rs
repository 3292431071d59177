//! The root on disk: making it, opening it, issuing under it.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use stoq_identity::{NodeId, check_name};
use x509_parser::pem::parse_x509_pem;

use crate::profile::{self, crypto};
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
    let key = new_key()?;
    let params = profile::root(mesh, now - BACKDATE, now + ROOT_VALIDITY)?;
    let certificate = params.self_signed(&key).map_err(crypto)?;
    let keep = |name, contents: &str, mode| {
        let written = store::write(directory, name, contents, mode, Existing::Keep);
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => exists(name),
            _ => store::failed(&directory.join(name), "write", source),
        })
    };
    keep(ROOT_KEY, &key.serialize_pem(), SECRET)?;
    keep(ROOT_CERTIFICATE, &certificate.pem(), PUBLIC)
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
pub struct Authority {
    mesh: String,
    certificate_pem: String,
    not_before: i64,
    not_after: i64,
    issuer: Issuer<'static, KeyPair>,
}

/// A node's certificate and private key, and the root that they stand under, in PEM.
pub struct Issued {
    /// The node's certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
    /// The root's certificate.
    pub authority_pem: String,
}

impl Authority {
    /// Opens the root in `directory`.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the key is not that of the certificate.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        let certificate_path = directory.join(ROOT_CERTIFICATE);
        let bad = |got: String| PkiError::Root {
            path: certificate_path.clone(),
            expected: "the root certificate of a mesh in PEM",
            got,
        };
        let certificate_pem = store::read(directory, ROOT_CERTIFICATE)?;
        let key = open_key(directory)?;
        let (_, pem) =
            parse_x509_pem(certificate_pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let root = pem.parse_x509().map_err(|e| bad(e.to_string()))?;
        let mesh = root.subject().iter_organization().next();
        let mesh = mesh.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned();
        check_name(&mesh).map_err(|e| bad(format!("mesh {mesh:?}: {e}")))?;
        if root.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(bad(format!("that of another key than {ROOT_KEY}")));
        }
        let not_before = root.validity().not_before.timestamp();
        let not_after = root.validity().not_after.timestamp();
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(crypto)?;
        Ok(Self { mesh, certificate_pem, not_before, not_after, issuer })
    }

    /// The mesh that it names nodes of.
    #[must_use]
    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// Issues a certificate for `node` with a new key. It ends no later than the root.
    ///
    /// # Errors
    /// An invalid name, or [`PkiError::Dates`] when the root was not valid at `not_before`.
    pub fn issue(
        &self,
        node: &str,
        not_before: SystemTime,
        not_after: SystemTime,
    ) -> Result<Issued, PkiError> {
        let named = |source| PkiError::Name { what: "node", name: node.to_owned(), source };
        let id = NodeId::new(&self.mesh, node).map_err(named)?;
        let mut params = profile::node(&id, not_before, not_after)?;
        self.fit_dates(&mut params)?;
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(crypto)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            authority_pem: self.certificate_pem.clone(),
        })
    }

    fn fit_dates(&self, params: &mut CertificateParams) -> Result<(), PkiError> {
        let (begin, end) = (params.not_before.unix_timestamp(), params.not_after.unix_timestamp());
        if begin >= end {
            return Err(PkiError::Dates { got: "ends before it begins" });
        }
        if begin < self.not_before {
            return Err(PkiError::Dates { got: "begins before the root does" });
        }
        if begin >= self.not_after {
            return Err(PkiError::Dates { got: "begins after the root's end" });
        }
        let excess_s = end.saturating_sub(self.not_after).max(0);
        params.not_after -= std::time::Duration::from_secs(excess_s.unsigned_abs());
        Ok(())
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
            (NODE_KEY, &self.key_pem, SECRET),
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

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)
}

fn open_key(directory: &Path) -> Result<KeyPair, PkiError> {
    let text = store::read(directory, ROOT_KEY)?;
    KeyPair::from_pem(&text).map_err(|error| PkiError::Root {
        path: directory.join(ROOT_KEY),
        expected: "a private key in PEM",
        got: error.to_string(),
    })
}
