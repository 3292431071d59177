//! The mesh's signed state: taken in from the control plane and from peers, verified under the root that
//! the configuration names, written down, and made into what workers enforce.
//!
//! ```text
//!   control plane ── bundle ──▶ ┌────────┐ ──▶ members, issuers, logs
//!                               │ Keeper │ ──▶ who is revoked ──▶ workers ──▶ peers
//!   peers ── revocations, ────▶ └────────┘ ──▶ warnings
//!            heads of logs           └── file `revocations` in the state directory
//! ```
//!
//! Nothing here needs the control plane to run: a set of revocations that comes from a peer is verified,
//! persisted and enforced in the same way as one that was pushed. Owned by the daemon, behind its lock.

mod logs;
mod set;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use stoq::control::{HEAD_LEN_MAX, HEADS_MAX};
use stoq::tls::Credentials;
use stoq_control::SnapshotPeer;
use stoq_identity::{Options, RootsError, Verifier};
use stoq_mesh::{
    Bundle, HeadError, HeadStore, Record, RevocationError, RevocationStore, RevokedKind, Signed,
    Signers, TreeHead, Verified,
};
use stoq_telemetry::{DropReason, Drops};

pub use self::logs::{LogCheck, Rules, Shown};
pub use self::set::{SET_MAX, SetError, SignedSet};
use crate::control::Member;
use crate::durable;

/// Name of the file in the state directory.
const FILE: &str = "revocations";

/// Why the mesh's state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The file of revocations cannot be read or written.
    #[error("expected to use {path}, got: {source}; give the directory to stoqd's user")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file of revocations is damaged.
    #[error(
        "expected a whole set of revocations in {path}, got: {reason}; nobody is cut off without it: \
         remove it, and a peer or the control plane gives it anew, or copy it from another node"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The bundle is none, or does not hold.
    #[error("expected a bundle of this mesh, got: {0}; push the newest one")]
    Bundle(String),
    /// The set of revocations does not hold.
    #[error("expected a newer set of revocations, signed under the root, got: {0}")]
    Set(#[from] SetError),
    /// The known issuers make no verifier.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

/// What the bundle in force says.
#[derive(Debug)]
struct InForce {
    number: u64,
    signers: Signers,
    /// Fingerprints of issuers' keys, and their certificates.
    issuers: Vec<([u8; 32], Vec<u8>)>,
    heads: Vec<Signed<TreeHead>>,
    records: Vec<Record>,
}

/// Keeps the mesh's state.
pub struct Keeper {
    path: PathBuf,
    /// The roots that the configuration names, without what the mesh's state adds to them.
    credentials: Credentials,
    grace: Duration,
    /// For how long after its end a peer's certificate is still taken.
    outlive: Duration,
    bundle: Option<InForce>,
    revoked: RevocationStore,
    /// The set in force, as peers get it.
    set: Arc<[u8]>,
    heads: HeadStore,
    /// Logs that have shown different heads, and how.
    forks: BTreeMap<[u8; 32], String>,
    logs: LogCheck,
    drops: Arc<Drops>,
}

/// A bundle that holds, not yet in force.
pub struct Opened {
    bundle: Bundle,
    verified: Verified,
    set: SignedSet,
    /// The sequence that was in force when it was verified.
    known: u64,
}

impl Opened {
    /// The members that it names.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        members(&self.verified.records, &self.verified.revocations)
    }
}

/// What a bundle is verified by, apart from the keeper: it takes a second for ten thousand members.
pub struct Opening {
    verifier: Arc<Verifier>,
    known: RevocationStore,
    now: SystemTime,
}

impl Opening {
    /// Verifies a bundle in base64.
    ///
    /// # Errors
    /// [`MeshError::Bundle`] with the first part that does not hold.
    pub fn open(&self, text: &str) -> Result<Opened, MeshError> {
        let bad = |error: &dyn std::fmt::Display| MeshError::Bundle(error.to_string());
        let bytes = STANDARD.decode(text).map_err(|error| bad(&error))?;
        let bundle = Bundle::from_bytes(&bytes).map_err(|error| bad(&error))?;
        let verified =
            bundle.verify(&self.verifier, &self.known, self.now).map_err(|error| bad(&error))?;
        let signer = bundle.revocations.signer();
        let issuer = bundle.issuers.iter().map(|issuer| &issuer.certificate).find(|der| {
            let issuer = self.verifier.verify_issuer(der, self.now);
            issuer.is_ok_and(|issuer| issuer.keys.fingerprint() == *signer)
        });
        let issuer = issuer.ok_or_else(|| bad(&"no issuer of its revocations"))?.clone();
        let set = SignedSet { issuer, set: bundle.revocations.clone() };
        Ok(Opened { bundle, verified, set, known: self.known.sequence() })
    }
}

impl Keeper {
    /// Reads the set of revocations from the state directory.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn open(
        state: &Path,
        credentials: &Credentials,
        grace: Duration,
        logs: LogCheck,
        drops: Arc<Drops>,
    ) -> Result<Self, MeshError> {
        let path = state.join(FILE);
        let mut keeper = Self {
            path: path.clone(),
            credentials: credentials.clone(),
            grace,
            outlive: Duration::ZERO,
            bundle: None,
            revoked: RevocationStore::new(),
            set: Arc::default(),
            heads: HeadStore::new(),
            forks: BTreeMap::new(),
            logs,
            drops,
        };
        let bytes = durable::read(&path, SET_MAX)
            .map_err(|source| MeshError::Io { path: path.clone(), source })?;
        if let Some(bytes) = bytes {
            let damaged = |error: SetError| MeshError::Damaged { path, reason: error.to_string() };
            keeper.load(&bytes).map_err(damaged)?;
            keeper.set = bytes.into();
        }
        Ok(keeper)
    }

    /// Uses the set in the file.
    fn load(&mut self, bytes: &[u8]) -> Result<(), SetError> {
        let set = SignedSet::from_bytes(bytes)?;
        let signers = set.signers(&self.credentials.verifier, self.now())?;
        self.revoked.accept(&set.set, &signers)?;
        Ok(())
    }

    fn now(&self) -> SystemTime {
        (self.credentials.clock)()
    }

    /// How the next bundle is verified.
    #[must_use]
    pub fn opening(&self) -> Opening {
        let verifier = Arc::clone(&self.credentials.verifier);
        Opening { verifier, known: self.revoked.clone(), now: self.now() }
    }

    /// Uses the bundle that was in force before the restart. The set of revocations in the file may be
    /// newer than the one in it.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn restore(&mut self, text: &str) -> Result<Vec<Member>, MeshError> {
        let opening = Opening { known: RevocationStore::new(), ..self.opening() };
        let opened = opening.open(text)?;
        if opened.verified.revocations.sequence() > self.revoked.sequence() {
            self.keep_set(&opened.set, opened.verified.revocations.clone())?;
        }
        Ok(self.use_bundle(opened))
    }

    /// Writes the set of an opened bundle down: before anything else of it counts.
    ///
    /// # Errors
    /// When another set came meanwhile, or it cannot be written.
    pub fn prepare(&mut self, opened: &Opened) -> Result<(), MeshError> {
        if let Some(current) = self.number().filter(|current| opened.verified.number < *current) {
            let got = opened.verified.number;
            return Err(MeshError::Bundle(format!("number {got}, and {current} is in force")));
        }
        if opened.known != self.revoked.sequence() {
            let why = "a newer set of revocations came meanwhile";
            return Err(MeshError::Bundle(why.to_owned()));
        }
        if opened.verified.revocations.sequence() > opened.known {
            self.keep_set(&opened.set, opened.verified.revocations.clone())?;
        }
        Ok(())
    }

    /// Puts a bundle in force. Returns its members, without those that are revoked.
    pub fn use_bundle(&mut self, opened: Opened) -> Vec<Member> {
        let Opened { bundle, verified, .. } = opened;
        for why in &verified.expired {
            tracing::warn!("an issuer of the mesh is passed over: {why}");
        }
        let now = self.now();
        let fingerprint = |der: Vec<u8>| {
            let issuer = self.credentials.verifier.verify_issuer(&der, now).ok()?;
            Some((issuer.keys.fingerprint(), der))
        };
        let issuers = verified.intermediates.into_iter().filter_map(fingerprint).collect();
        self.bundle = Some(InForce {
            number: verified.number,
            signers: verified.signers,
            issuers,
            heads: bundle.heads.clone(),
            records: verified.records,
        });
        self.withdraw();
        for head in &bundle.heads {
            self.hear(head, "the control plane");
        }
        self.members()
    }

    /// The members of the bundle in force, without those that are revoked.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let records = self.bundle.as_ref().map(|bundle| bundle.records.as_slice());
        members(records.unwrap_or_default(), &self.revoked)
    }

    /// Puts a set of revocations in force that a peer sent, and named by this sequence. Returns whether it is
    /// newer than the one before; [`Keeper::write_down`] is for the caller to call then.
    ///
    /// # Errors
    /// When it does not hold, or is older than the one in force although it was called newer.
    pub fn receive(&mut self, named: u64, bytes: &[u8]) -> Result<bool, MeshError> {
        let taken = self.try_receive(named, bytes);
        if let Err(MeshError::Set(_)) = &taken {
            self.drops.count(DropReason::RevocationsRefused);
        }
        taken
    }

    fn try_receive(&mut self, named: u64, bytes: &[u8]) -> Result<bool, MeshError> {
        let set = SignedSet::from_bytes(bytes)?;
        let claimed = set.set.claims().map_err(|error| SetError::Malformed(error.to_string()))?;
        if claimed.sequence != named {
            return Err(SetError::Sequence { named, got: claimed.sequence }.into());
        }
        let signers = set.signers(&self.credentials.verifier, self.now())?;
        if let Some(entry) = self.revoked.entry(set.set.signer()) {
            return Err(SetError::Withdrawn { node: entry.node.clone() }.into());
        }
        let mut revoked = self.revoked.clone();
        revoked.accept(&set.set, &signers).map_err(SetError::from)?;
        if revoked.sequence() == self.revoked.sequence() {
            return Ok(false);
        }
        if let Some(entry) = revoked.entry(set.set.signer()) {
            return Err(SetError::Withdrawn { node: entry.node.clone() }.into());
        }
        self.use_set(set.to_bytes()?, revoked);
        Ok(true)
    }

    /// Writes the set in force down. A full disk must not keep a node that is revoked, so it comes after the
    /// use; peers tell the set again to a node that has lost it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_down(&self) -> Result<(), MeshError> {
        self.write(&self.set)
    }

    fn write(&self, set: &[u8]) -> Result<(), MeshError> {
        let io = |source| MeshError::Io { path: self.path.clone(), source };
        durable::replace(&self.path, set).map_err(io)
    }

    /// Writes a set down, then uses it: who pushed it may forget it when it is taken.
    fn keep_set(&mut self, set: &SignedSet, revoked: RevocationStore) -> Result<(), MeshError> {
        let bytes = set.to_bytes()?;
        self.write(&bytes)?;
        self.use_set(bytes, revoked);
        Ok(())
    }

    fn use_set(&mut self, bytes: Vec<u8>, revoked: RevocationStore) {
        self.set = bytes.into();
        self.revoked = revoked;
        self.withdraw();
    }

    /// Issuers and logs whose keys are revoked count no longer.
    fn withdraw(&mut self) {
        let Some(bundle) = &mut self.bundle else { return };
        bundle.issuers.retain(|(keys, _)| self.revoked.entry(keys).is_none());
        let Some(Ok(set)) = self.revoked.newest().map(Signed::claims) else { return };
        for entry in &set.entries {
            bundle.signers.remove(&entry.keys);
        }
        let named = !bundle.heads.is_empty();
        let (signers, grace) = (bundle.signers.clone(), self.grace);
        self.logs.set(Rules { signers, has_logs: named, grace });
    }

    /// Takes note of heads of logs that a peer has shown.
    pub fn hear_all(&mut self, heads: &[Vec<u8>], from: &str) {
        for bytes in heads.iter().take(HEADS_MAX) {
            if let Ok(head) = Signed::from_bytes(bytes) {
                self.hear(&head, from);
            }
        }
    }

    fn hear(&mut self, head: &Signed<TreeHead>, from: &str) {
        let Some(bundle) = &self.bundle else { return };
        // Heads of logs that are not known (yet) say nothing.
        let Err(HeadError::Fork(fork)) = self.heads.hear(head, &bundle.signers) else { return };
        self.drops.count(DropReason::LogForked);
        let warning = format!("{from} was shown another head: {fork}");
        if self.forks.insert(fork.log, warning.clone()).is_none() {
            tracing::error!("{warning}");
        }
    }

    /// The heads of logs that were shown here, in base64, for the control plane to have proven.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        let bytes = self.heads.all().into_iter().filter_map(|head| head.to_bytes().ok());
        bytes.take(stoq_control::HEADS_MAX).map(|bytes| STANDARD.encode(bytes)).collect()
    }

    /// What workers enforce and tell peers.
    #[must_use]
    pub fn mesh(&self) -> Arc<stoq::mesh::Mesh> {
        let entries = self.revoked.newest().and_then(|set| set.claims().ok());
        let entries = entries.map(|set| set.entries).unwrap_or_default();
        let nodes = entries.iter().filter(|entry| entry.kind == RevokedKind::Node);
        let heads = self.bundle.iter().flat_map(|bundle| &bundle.heads);
        let heads = heads.filter_map(|head| head.to_bytes().ok());
        Arc::new(stoq::mesh::Mesh {
            sequence: self.revoked.sequence(),
            set: Arc::clone(&self.set),
            keys: entries.iter().map(|entry| entry.keys).collect(),
            names: nodes.map(|entry| entry.node.clone()).collect(),
            bundle: self.number().unwrap_or(0),
            heads: heads.filter(|head| head.len() <= HEAD_LEN_MAX).take(HEADS_MAX).collect(),
        })
    }

    /// This node's credentials, with the mesh's issuers among those that lead to the root.
    ///
    /// # Errors
    /// When the issuers make no verifier.
    pub fn credentials(&self) -> Result<Credentials, MeshError> {
        let own = &self.credentials;
        let issuers = self.bundle.iter().flat_map(|bundle| &bundle.issuers);
        let issuers: Vec<&[u8]> = issuers.map(|(_, der)| der.as_slice()).collect();
        if issuers.is_empty() && self.outlive.is_zero() {
            return Ok(own.clone());
        }
        let (roots, mesh) = (own.identity.roots(), own.identity.id().mesh());
        let options = Options { policy: own.policy, outlive: self.outlive, ..Options::default() };
        let verifier = Arc::new(Verifier::with(roots, mesh, &issuers, options)?);
        // Peers know the mesh's issuers, so only the node's own certificate travels.
        let rest = own.identity.chain().iter().skip(1);
        let leaf_only = rest.into_iter().all(|der| issuers.contains(&der.as_ref()));
        Ok(Credentials { verifier, leaf_only, ..own.clone() })
    }

    /// Uses another certificate of this node, or other roots. Returns those before.
    pub fn set_credentials(&mut self, credentials: Credentials) -> Credentials {
        std::mem::replace(&mut self.credentials, credentials)
    }

    /// Whether the mesh's state names logs, whose proofs peers ask for.
    #[must_use]
    pub fn has_logs(&self) -> bool {
        self.bundle.as_ref().is_some_and(|bundle| !bundle.heads.is_empty())
    }

    /// What the mesh's state was the reason to refuse.
    #[must_use]
    pub fn drops(&self) -> Arc<Drops> {
        Arc::clone(&self.drops)
    }

    /// Uses this grace period.
    pub fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
        self.withdraw();
    }

    /// Takes certificates of peers for so long after their end. Returns whether that is another time than
    /// before: then the credentials are others too.
    pub fn set_outlive(&mut self, outlive: Duration) -> bool {
        std::mem::replace(&mut self.outlive, outlive) != outlive
    }

    /// Number of the bundle in force.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.bundle.as_ref().map(|bundle| bundle.number)
    }

    /// Sequence of the set of revocations in force.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.revoked.newest().map(|_| self.revoked.sequence())
    }

    /// Counts something that the control plane may not push.
    pub fn count_refused_push(&self) {
        self.drops.count(DropReason::PushRefused);
    }

    /// What the operator must look at.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.forks.values().cloned().collect()
    }
}

fn members(records: &[Record], revoked: &RevocationStore) -> Vec<Member> {
    let member = |record: &Record| Member {
        peer: SnapshotPeer {
            name: record.node.clone(),
            endpoints: record.endpoints.clone(),
            allowed_ips: record
                .addresses
                .iter()
                .chain(&record.routes)
                .map(ToString::to_string)
                .collect(),
        },
        keys: record.keys,
    };
    let stays = |record: &&Record| !revoked.is_revoked(&record.keys, &record.node);
    records.iter().filter(stays).map(member).collect()
}

impl From<RevocationError> for SetError {
    fn from(error: RevocationError) -> Self {
        Self::Refused(error)
    }
}

#[cfg(test)]
mod tests;
