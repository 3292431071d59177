//! A node's own identity: its certificate, keys and roots, read from the three configured files.
//!
//! The first two may be one file, so that a renewal is one rename: certificate, both private keys,
//! and the proof that the certificate is in its issuer's log (section `STOQ LOG PROOF`), which is
//! handed on as it is.
//!
//! The daemon calls it at start, at reload and for `--check`; `stoqctl doctor` calls it to tell an
//! operator what is wrong. Loading says that the files belong together; [`Identity::check`] says
//! whether peers would accept them now.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::alternative::AlternativeError;
use crate::certificate::{Certificate, CertificateError, KeyKind};
use crate::keys::{KeyError, Policy, PrivateKeys};
use crate::name::NodeId;
use crate::refusal::{RootsError, VerifyError};
use crate::verify::{MAX_INTERMEDIATES, Options, Role, Verifier};
use crate::{MAX_CERTIFICATE_BYTES, MAX_ROOTS};

/// Largest identity file: every root at its largest, in PEM (4/3, and room for the markers).
const MAX_FILE_BYTES: u64 = (MAX_ROOTS * MAX_CERTIFICATE_BYTES * 3 / 2) as u64;

/// An identity knows no intermediates but those in its file.
const NONE: &[&[u8]] = &[];

/// Which of the three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// `identity.certificate`: the node's certificate, then any intermediates.
    Certificate,
    /// `identity.key`: the private key of that certificate.
    Key,
    /// `identity.authority`: the trusted roots.
    Authority,
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "identity.certificate",
            Self::Key => "identity.key",
            Self::Authority => "identity.authority",
        })
    }
}

/// Why an identity can not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file can not be read.
    #[error(
        "{file} = {path:?}: expected a readable file, got: {source}; write it with `stoqctl pki issue`, or correct the path"
    )]
    Read {
        /// Which key of the configuration.
        file: File,
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is no regular file, or too large.
    #[error(
        "{file} = {path:?}: expected a regular file of at most {MAX_FILE_BYTES} bytes, got {got}; correct the path"
    )]
    Unsuitable {
        /// Which key of the configuration.
        file: File,
        /// Its path.
        path: PathBuf,
        /// What it is.
        got: String,
    },
    /// The PEM text is damaged, or holds too few or too many sections.
    #[error(
        "{file} = {path:?}: expected {expected} in PEM, got {got}; write it with `stoqctl pki issue`"
    )]
    Pem {
        /// Which key of the configuration.
        file: File,
        /// Its path.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is.
        got: String,
    },
    /// The node's certificate is unusable.
    #[error("{file} = {path:?}: {source}", file = File::Certificate)]
    Certificate {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        source: CertificateError,
    },
    /// A root is unusable.
    #[error("{file} = {path:?}: {source}", file = File::Authority)]
    Authority {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        source: RootsError,
    },
    /// The alternative private key is missing or unusable, and the policy asks for it.
    #[error("{file} = {path:?}: {source}", file = File::Key)]
    Alternative {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// The private key is not that of the certificate.
    #[error("{file} = {path:?}: expected the private key of {id}'s certificate, got {got}; take node.key and node.crt from one `stoqctl pki issue`", file = File::Key)]
    KeyMismatch {
        /// Its path.
        path: PathBuf,
        /// Whom the certificate names.
        id: NodeId,
        /// What the key is.
        got: &'static str,
    },
}

/// Something that works but should be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Others than the owner may use the private key.
    KeyExposed {
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::KeyExposed { path, mode } = self;
        let shown = path.display();
        write!(
            f,
            "{} = {shown}: expected mode 0600, got {mode:04o}: others can read the key; \
             run `chmod 600 {shown}`",
            File::Key
        )
    }
}

/// A node's certificate chain, private key and trusted roots, known to belong together.
pub struct Identity {
    id: NodeId,
    not_after: SystemTime,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    keys: Option<Arc<PrivateKeys>>,
    log_proof: Option<Vec<u8>>,
    roots: Vec<CertificateDer<'static>>,
    verifier: Arc<Verifier>,
    warnings: Vec<Warning>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, {} certificates)", self.id, self.chain.len())
    }
}

impl Identity {
    /// Reads the three PEM files: the node's certificate with any intermediates behind it, its
    /// private key (PKCS #8 or SEC 1), and one or more roots.
    ///
    /// # Errors
    /// Each names the configuration's key, the path, what was expected, what came and the remedy.
    pub fn load(certificate: &Path, key: &Path, authority: &Path) -> Result<Self, LoadError> {
        Self::load_with(certificate, key, authority, &open)
    }

    /// As [`Identity::load`], from files that `open` opens: a daemon without privilege has them
    /// opened by another process.
    ///
    /// # Errors
    /// Those of [`Identity::load`].
    pub fn load_with(
        certificate: &Path,
        key: &Path,
        authority: &Path,
        open: &Open<'_>,
    ) -> Result<Self, LoadError> {
        Self::load_under(Policy::Hybrid, certificate, key, authority, open)
    }

    /// As [`Identity::load_with`], under this policy: `classical` needs no alternative key.
    ///
    /// # Errors
    /// Those of [`Identity::load`].
    pub fn load_under(
        policy: Policy,
        certificate: &Path,
        key: &Path,
        authority: &Path,
        open: &Open<'_>,
    ) -> Result<Self, LoadError> {
        let (text, _) = read(File::Certificate, certificate, open)?;
        let chain = certificates(File::Certificate, certificate, 1 + MAX_INTERMEDIATES, &text)?;
        let log_proof = log_proof(certificate, &text)?;
        let (text, _) = read(File::Authority, authority, open)?;
        let roots = certificates(File::Authority, authority, MAX_ROOTS, &text)?;
        let (key_text, mode) = read(File::Key, key, open)?;
        let key_der = private_key(key, &key_text)?;
        let invalid = |source| LoadError::Certificate { path: certificate.into(), source };
        let leaf = Certificate::parse(&chain[0]).map_err(invalid)?;
        let id = leaf.node_id().map_err(invalid)?;
        let mismatch = |got| LoadError::KeyMismatch { path: key.into(), id: id.clone(), got };
        check_key(&leaf, &key_der).map_err(|error| match error {
            Misfit::Certificate(source) => invalid(source),
            Misfit::Key(got) => mismatch(got),
        })?;
        let public = leaf.keys(policy).map_err(invalid)?;
        if policy == Policy::Hybrid && public.algorithm().is_none() {
            return Err(invalid(AlternativeError::NoKey.into()));
        }
        let keys = both_keys(&key_text, policy)
            .map_err(|source| LoadError::Alternative { path: key.into(), source })?;
        let fits = keys.as_ref().is_some_and(|keys| *keys.public() == public);
        if policy == Policy::Hybrid && !fits {
            return Err(mismatch("the alternative key of another certificate"));
        }
        let options = Options { policy, ..Options::default() };
        let verifier = Verifier::with(&roots, id.mesh(), NONE, options)
            .map_err(|source| LoadError::Authority { path: authority.into(), source })?;
        let exposed = mode & 0o077 != 0;
        let warnings = exposed.then(|| Warning::KeyExposed { path: key.into(), mode });
        Ok(Self {
            not_after: leaf.not_after(),
            id,
            chain,
            key: key_der,
            keys: keys.map(Arc::new),
            log_proof,
            roots,
            verifier: Arc::new(verifier),
            warnings: warnings.into_iter().collect(),
        })
    }

    /// Whether peers with the same roots accept this identity at the time `now`, in both roles.
    ///
    /// # Errors
    /// What a peer would answer.
    pub fn check(&self, now: SystemTime) -> Result<(), VerifyError> {
        for role in [Role::Client, Role::Server] {
            self.verifier.verify(&self.chain[0], &self.chain[1..], role, now)?;
        }
        Ok(())
    }

    /// The node that the certificate names.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// When the node's certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The certificates to send, the node's own first (DER); never empty.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Both private keys, to sign with outside TLS; always there under [`Policy::Hybrid`].
    #[must_use]
    pub fn keys(&self) -> Option<Arc<PrivateKeys>> {
        self.keys.clone()
    }

    /// The proof that the certificate is in its issuer's log, as it is in the file.
    #[must_use]
    pub fn log_proof(&self) -> Option<&[u8]> {
        self.log_proof.as_deref()
    }

    /// The classical private key, PKCS #8 or SEC 1 (DER).
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The trusted roots (DER); never empty.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The verifier of peers: these roots, this node's mesh. Connections share it.
    #[must_use]
    pub fn verifier(&self) -> Arc<Verifier> {
        Arc::clone(&self.verifier)
    }

    /// What works but should be mended.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Opens one of the files for reading.
pub type Open<'a> = dyn Fn(File, &Path) -> io::Result<fs::File> + 'a;

fn open(_: File, path: &Path) -> io::Result<fs::File> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() || metadata.is_dir() {
        return fs::File::open(path);
    }
    // Opening a pipe would wait for its other end.
    Err(io::Error::new(io::ErrorKind::InvalidInput, "a device or pipe"))
}

/// The contents and the permission bits of a regular file of bounded size.
fn read(file: File, path: &Path, open: &Open<'_>) -> Result<(Zeroizing<Vec<u8>>, u32), LoadError> {
    let failed = |source| LoadError::Read { file, path: path.into(), source };
    let unsuitable = |got| LoadError::Unsuitable { file, path: path.into(), got };
    let opened = open(file, path).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unsuitable("a directory, device or pipe".to_owned()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(unsuitable(format!("{} bytes", metadata.len())));
    }
    let mut contents = Zeroizing::new(Vec::new());
    opened.take(MAX_FILE_BYTES).read_to_end(&mut contents).map_err(failed)?;
    Ok((contents, metadata.permissions().mode() & 0o7777))
}

fn certificates(
    file: File,
    path: &Path,
    max: usize,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let expected = "one or more certificates";
    let bad = |got| LoadError::Pem { file, path: path.into(), expected, got };
    let sections = CertificateDer::pem_slice_iter(text).take(max + 1);
    let found: Vec<_> = sections.collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))?;
    match found.len() {
        0 => Err(bad("none".to_owned())),
        n if n > max => Err(bad(format!("more than {max}"))),
        _ => Ok(found),
    }
}

fn private_key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, LoadError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| LoadError::Pem {
        file: File::Key,
        path: path.into(),
        expected: "a private key",
        got: match error {
            pem::Error::NoItemsFound => "none".to_owned(),
            other => other.to_string(),
        },
    })
}

/// Both private keys; under [`Policy::Classical`] it is no error when there are no two.
fn both_keys(text: &[u8], policy: Policy) -> Result<Option<PrivateKeys>, KeyError> {
    let text = std::str::from_utf8(text);
    let keys = text
        .map_err(|_| KeyError::Alternative { got: "a file that is no text" })
        .and_then(PrivateKeys::from_pem);
    match policy {
        Policy::Hybrid => keys.map(Some),
        Policy::Classical => Ok(keys.ok()),
    }
}

fn log_proof(path: &Path, text: &[u8]) -> Result<Option<Vec<u8>>, LoadError> {
    let bad = |got: &str| LoadError::Pem {
        file: File::Certificate,
        path: path.into(),
        expected: "a section `STOQ LOG PROOF` or none",
        got: got.to_owned(),
    };
    // Text of another encoding has no sections at all.
    let text = std::str::from_utf8(text).unwrap_or_default();
    let section = crate::pem::section(text, crate::pem::PEM_LOG_PROOF).map_err(bad)?;
    Ok(section.map(|contents| contents.to_vec()))
}

enum Misfit {
    Certificate(CertificateError),
    Key(&'static str),
}

/// Checks that `key` is the private half of the key in `certificate`.
fn check_key(certificate: &Certificate<'_>, key: &PrivateKeyDer<'_>) -> Result<(), Misfit> {
    let kind = certificate.key_kind().map_err(Misfit::Certificate)?;
    let public = match kind {
        KeyKind::P256 => ecdsa_public(&ECDSA_P256_SHA256_ASN1_SIGNING, key),
        KeyKind::P384 => ecdsa_public(&ECDSA_P384_SHA384_ASN1_SIGNING, key),
        KeyKind::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_der())
            .ok()
            .map(|pair| pair.public_key().as_ref().to_vec()),
    };
    match public {
        None => Err(Misfit::Key("a key of another kind, or a damaged one")),
        Some(public) if public != certificate.public_key() => {
            Err(Misfit::Key("the key of another certificate"))
        }
        Some(_) => Ok(()),
    }
}

fn ecdsa_public(
    algorithm: &'static EcdsaSigningAlgorithm,
    key: &PrivateKeyDer<'_>,
) -> Option<Vec<u8>> {
    let pair = EcdsaKeyPair::from_private_key_der(algorithm, key.secret_der()).ok()?;
    Some(pair.public_key().as_ref().to_vec())
}
