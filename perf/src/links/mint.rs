//! Certificates for the nodes of a crowd: each has a name and a certificate of its own. Key pairs are
//! shared by some, because making one with FN-DSA takes a hundred times as long as issuing.

use super::{Target, refused};
use crate::{Error, Result};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use stoq_identity::{Identity, PrivateKeys, certificate_to_pem};
use stoq_trustchain::{Authority, Dates, Subject};
use zeroize::Zeroizing;

/// Key pairs of a crowd: no handshake depends on how many nodes have the same.
const KEYS: usize = 8;

/// How long the certificates are valid: longer than any measurement.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes identities under one root.
pub(super) struct Mint {
    authority: Authority,
    keys: Vec<Arc<PrivateKeys>>,
    root_pem: String,
}

impl Mint {
    /// Opens the root in `folder`, as `stoqctl pki init` made it.
    pub fn open(folder: &Path) -> Result<Self> {
        let text = |file: &str| {
            let path = folder.join(file);
            fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))
        };
        let bad = |error: String| refused("the root of a crowd's mesh")(error);
        let root_pem = text("ca.crt")?;
        let key = Zeroizing::new(text("ca.key")?);
        let key = PrivateKeys::from_pem(&key).map_err(|error| bad(error.to_string()))?;
        let root = CertificateDer::from_pem_slice(root_pem.as_bytes());
        let root = root.map_err(|error| bad(error.to_string()))?;
        let authority = Authority::open(&root, Arc::new(key));
        let authority = authority.map_err(|error| bad(error.to_string()))?;
        let generate = |_| PrivateKeys::generate().map(Arc::new);
        let keys = (0..KEYS).map(generate).collect::<std::result::Result<_, _>>();
        let keys = keys.map_err(|error| bad(error.to_string()))?;
        Ok(Self { authority, keys, root_pem })
    }

    /// The identity of the node with this number.
    pub fn identity(&self, number: u32, target: &Target) -> Result<Identity> {
        let node = super::name(number);
        let bad = refused(&node);
        let keys = &self.keys[number as usize % KEYS];
        let subject = Subject::Node { node, addresses: Vec::new() };
        let dates = Dates::of(SystemTime::now(), VALIDITY);
        let issued = match self.authority.issue(&subject, keys.public(), dates) {
            Ok(issued) => certificate_to_pem(&issued),
            Err(error) => return Err(bad(error.to_string())),
        };
        let (key, root) = (keys.to_pem(), &self.root_pem);
        let open = |_, path: &Path| match path.to_str() {
            Some("certificate") => as_file(&issued),
            Some("key") => as_file(&key),
            _ => as_file(root),
        };
        let [certificate, key_path, authority] = ["certificate", "key", "authority"].map(Path::new);
        let loaded = Identity::load_under(target.policy(), certificate, key_path, authority, &open);
        loaded.map_err(|error| bad(error.to_string()))
    }
}

/// The text as the file that it would be read from.
fn as_file(text: &str) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}
