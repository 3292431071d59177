//! What this daemon issues certificates with: the issuer's authority, and the log of all that it has
//! issued.
//!
//! A certificate counts when it is in the log, so it is written together with what led to it (the
//! token's consumption, or nothing for a renewal): [`Issuer::log`] prepares the change, the caller
//! writes it, and [`Issuer::took`] goes on from there.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use hypermesh_api::ErrorCode;
use hypermesh_consensus::Ledger;
use stoq_identity::{PrivateKeys, PublicKeys};
use stoq_mesh::tree::{self, MissingNode, Nodes, Tree};
use stoq_mesh::{LogProof, Signed, TreeHead};
use stoq_trustchain::{Authority, Dates, LEAF_VALIDITY, Subject};

use crate::files::{self, Dir};
use crate::identity;
use crate::refused::Refused;
use crate::store::{Change, HEAD, Leaf, Store};

/// An issuer and its log.
pub struct Issuer {
    authority: Authority,
    log: PrivateKeys,
    tree: Tree,
    head: Signed<TreeHead>,
    store: Arc<Store>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({} certificates)", self.tree.size())
    }
}

/// A certificate that is not in the log yet, and what puts it there.
#[derive(Debug)]
pub struct Logged {
    /// What is written.
    pub change: Change,
    index: u64,
    tree: Tree,
    head: Signed<TreeHead>,
}

impl Issuer {
    /// The issuer on this node; none if the ledger does not know it as one.
    ///
    /// # Errors
    /// When its keys or its log are lost.
    pub fn open(
        dir: &Dir,
        store: &Arc<Store>,
        ledger: &Ledger,
        node: &str,
    ) -> Result<Option<Self>, Refused> {
        let Some(issuer) = ledger.issuer(node) else { return Ok(None) };
        let keys = |file| {
            identity::keys(dir, file)?.ok_or_else(|| {
                let text = format!("{file} is lost: restore a backup, or promote another issuer");
                Refused::new(ErrorCode::Storage, text)
            })
        };
        let authority = Authority::open(&issuer.certificate, Arc::new(keys(files::ISSUER_KEYS)?));
        let authority = authority.map_err(Refused::internal)?;
        let log = keys(files::LOG_KEYS)?;
        let tree = Tree::from_nodes(store.leaf_count()?, &Stored(store)).map_err(lost)?;
        let head = match store.value(HEAD)? {
            Some(bytes) => Signed::from_bytes(&bytes).map_err(Refused::internal)?,
            None => sign_head(&log, &tree, 0)?,
        };
        Ok(Some(Self { authority, log, tree, head, store: Arc::clone(store) }))
    }

    /// The keys that sign records and revocations.
    #[must_use]
    pub fn keys(&self) -> &PrivateKeys {
        self.authority.keys()
    }

    /// The issuer's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.authority.certificate()
    }

    /// Writes a change.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, change: &Change) -> Result<(), Refused> {
        Ok(self.store.write(change)?)
    }

    /// The last certificate of these keys, and its place.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn latest(&self, keys: &[u8; 32]) -> Result<Option<(u64, Vec<u8>)>, Refused> {
        Ok(self.store.latest(keys)?)
    }

    /// The newest head of the log.
    #[must_use]
    pub fn head(&self) -> &Signed<TreeHead> {
        &self.head
    }

    /// How many certificates are in the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Makes a certificate, which counts nothing until it is in the log.
    ///
    /// # Errors
    /// What is wrong with the subject or the keys.
    pub fn certify(
        &self,
        subject: &Subject,
        keys: &PublicKeys,
        now_s: u64,
    ) -> Result<Vec<u8>, Refused> {
        let dates = Dates::of(UNIX_EPOCH + Duration::from_secs(now_s), LEAF_VALIDITY);
        let issued = self.authority.issue(subject, keys, dates);
        issued.map_err(|error| Refused::new(ErrorCode::Refused, error.to_string()))
    }

    /// What puts a certificate into the log.
    ///
    /// # Errors
    /// When the head cannot be signed.
    pub fn log(&self, der: &[u8], keys: [u8; 32], now_s: u64) -> Result<Logged, Refused> {
        let mut tree = self.tree.clone();
        let index = tree.size();
        let nodes = tree.append(tree::leaf_hash(der));
        let head = sign_head(&self.log, &tree, now_s)?;
        let values = vec![(HEAD, head.to_bytes().map_err(Refused::internal)?)];
        let leaf = Some(Leaf { index, certificate: der.to_vec(), keys });
        let change = Change { leaf, nodes, values, ..Change::default() };
        Ok(Logged { change, index, tree, head })
    }

    /// Goes on from a change that was written, and returns the certificate's place.
    pub fn took(&mut self, logged: Logged) -> u64 {
        self.tree = logged.tree;
        self.head = logged.head;
        logged.index
    }

    /// The proof that a certificate is in the log, encoded.
    ///
    /// # Errors
    /// When the log's storage is damaged.
    pub fn proof(&self, index: u64) -> Result<Vec<u8>, Refused> {
        let path = self.inclusion(index, self.size())?;
        let proof = LogProof { head: self.head.clone(), index, path };
        proof.to_bytes().map_err(Refused::internal)
    }

    /// The path of a certificate in the tree of a size.
    ///
    /// # Errors
    /// When there is no such tree, or the log's storage is damaged.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<[u8; 32]>, Refused> {
        self.check_size(size)?;
        tree::inclusion_path(&Stored(&self.store), index, size).map_err(lost)
    }

    /// The path between the trees of two sizes.
    ///
    /// # Errors
    /// When there are no such trees, or the log's storage is damaged.
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<[u8; 32]>, Refused> {
        self.check_size(to)?;
        tree::consistency_path(&Stored(&self.store), from, to).map_err(lost)
    }

    fn check_size(&self, size: u64) -> Result<(), Refused> {
        let most = self.size();
        if size <= most {
            return Ok(());
        }
        let text =
            format!("expected a size of at most {most}, got {size}; ask for the heads first");
        Err(Refused::new(ErrorCode::NotFound, text))
    }
}

struct Stored<'a>(&'a Store);

impl Nodes for Stored<'_> {
    fn node(&self, level: u8, place: u64) -> Result<[u8; 32], MissingNode> {
        let missing = |reason| MissingNode { level, place, reason };
        let node = self.0.node(level, place).map_err(|error| missing(error.to_string()))?;
        node.ok_or_else(|| missing("it was never written".to_owned()))
    }
}

fn sign_head(log: &PrivateKeys, tree: &Tree, at_s: u64) -> Result<Signed<TreeHead>, Refused> {
    let log_id = log.public().fingerprint();
    let head = TreeHead { log: log_id, size: tree.size(), root: tree.root(), at_s };
    Signed::sign(&head, log).map_err(Refused::internal)
}

fn lost(error: impl std::fmt::Display) -> Refused {
    Refused::new(ErrorCode::Storage, error.to_string())
}
