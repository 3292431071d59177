//! What can be checked of a mesh from outside, without trust in any daemon: certificates, the log of
//! certificates, the audit log. hypermeshd only supplies the bytes; what holds is decided here, under
//! the root that the operator names.

pub mod audit;
pub mod certificate;
pub mod log;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use hypermesh_api::Heads;
use stoq_identity::{CertificateInfo, Expected, Options, Policy, PublicKeys, Role, Verifier};

use crate::failure::Failure;
use crate::pem;

/// Longest file of certificates in bytes: 64 of them, and the keys of an identity file.
const FILE_MAX: u64 = 1 << 20;

/// The root that everything is checked under.
pub struct Root {
    /// Its certificate, DER.
    pub der: Vec<u8>,
    /// What it says.
    pub info: CertificateInfo,
    /// The mesh that it is the root of.
    pub mesh: String,
}

impl Root {
    /// Reads it from a file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |got: &str| {
            Failure::Usage(format!(
                "{}: expected the certificate of the mesh's root, got {got}; name it by \
                 --authority FILE",
                path.display()
            ))
        };
        let der = read_certificates(path)?.into_iter().next().ok_or_else(|| wrong("none"))?;
        let info = CertificateInfo::read(&der).map_err(|error| wrong(&error.to_string()))?;
        let mesh = info.mesh.clone().ok_or_else(|| wrong("one without a mesh"))?;
        Ok(Self { der, info, mesh })
    }

    /// A verifier under it alone that also knows these issuers.
    pub fn verifier(&self, issuers: &[Vec<u8>], policy: Policy) -> Result<Verifier, Failure> {
        let options = Options { policy, ..Options::default() };
        Verifier::with(&[&self.der], &self.mesh, issuers, options)
            .map_err(|error| Failure::Refused(error.to_string()))
    }

    /// The keys of the mesh's logs, each verified under the root at the time `now`.
    pub fn log_keys(&self, heads: &Heads, now: SystemTime) -> Result<Vec<PublicKeys>, Failure> {
        let verifier = self.verifier(&[], Policy::Hybrid)?;
        let ders = heads.logs.iter().flat_map(|text| pem::certificates(text));
        let none: &[&[u8]] = &[];
        let keys = ders.map(|der| {
            let log = verifier.verify_as(Expected::Log, &der, none, Role::Client, now);
            let log = log.map_err(|error| {
                Failure::Refused(format!("the certificate of a log is not the mesh's: {error}"))
            })?;
            Ok(log.keys)
        });
        keys.collect()
    }
}

/// The certificates of a file, in DER.
pub fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    read.map_err(|error| {
        Failure::Usage(format!(
            "{}: expected certificates in PEM, got: {error}; is it the right file, and may this user \
             read it?",
            path.display()
        ))
    })?;
    Ok(pem::certificates(&text))
}

/// The first eight bytes in hexadecimal: enough to tell keys apart by eye.
pub fn short(hash: &[u8; 32]) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
