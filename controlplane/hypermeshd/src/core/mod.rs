//! The daemon's state and what can be done with it. No network: the routes and the tasks call it,
//! one at a time, off the async threads.

mod enrol;
mod found;
mod log;
mod lost;
mod members;
mod place;
mod sync;
mod term;
mod tokens;

pub use sync::Joined;
pub use term::{Followed, Heard, Phase};

use std::sync::Arc;

use hypermesh_api::{CertificateStatus, ErrorCode, State, Status};
use hypermesh_consensus::{Command, CommandV1, Ledger, Receipt};
use serde::{Deserialize, Serialize};
use stoq_audit::Outcome;
use stoq_identity::PrivateKeys;

use crate::book::Book;
use crate::bundling::{self, Bundler};
use crate::chain::Chain;
use crate::files::{self, Dir};
use crate::identity::{self, Standing as CertificateStanding};
use crate::issuer::Issuer;
use crate::refused::Refused;
use crate::store::{BUNDLE, Change, STANDING, Store};
use crate::term::{SignedHead, number};

/// The sequencer is the first member.
const SEQUENCER_INDEX: u32 = 1;

/// What this daemon is to its mesh, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// This node's name.
    pub node: String,
    /// Whether it decides the order of changes.
    pub sequencer: bool,
    /// Whether it left the mesh.
    pub left: bool,
}

/// The place of this daemon in its mesh.
#[derive(Debug)]
pub struct Membership {
    /// What it is.
    pub standing: Standing,
    /// The ledger and its journal.
    pub chain: Chain,
    /// The node's keys.
    pub keys: PrivateKeys,
    /// What it issues with, if it does.
    pub issuer: Option<Issuer>,
    bundler: Bundler,
    /// Number of the bundle that was taken from an issuer.
    taken: u64,
    /// Whether it may order changes, if it is the one that does.
    phase: Phase,
    /// The term of the ledger.
    term: u64,
    /// The newest head: the sequencer's own, or the one that was taken from it.
    head: Option<SignedHead>,
}

/// The state.
#[derive(Debug)]
pub struct Core {
    pub(crate) dir: Dir,
    pub(crate) store: Arc<Store>,
    pub(crate) membership: Option<Membership>,
    pub(crate) book: Book,
    certificate: Option<CertificateStanding>,
    /// The TCP port of the API.
    pub(crate) api_port: u16,
    /// What speaks against the ledger that the sequencer offers, or against this one.
    doubt: Option<String>,
    /// The last of them that was told.
    told: Option<String>,
    /// The TLS configuration, and the certificate and height that it was made of.
    tls: Option<(u64, u64, Arc<rustls::ServerConfig>)>,
}

impl Core {
    /// Opens the state directory and everything in it.
    ///
    /// # Errors
    /// What is damaged, what is lost by that, and how to restore it.
    pub fn open(dir: Dir) -> Result<Self, Refused> {
        let store = Arc::new(Store::open(&dir.path(files::STORE))?);
        let book = Book::open(&dir)?;
        let certificate = identity::standing(&dir)?;
        let (membership, api_port, tls) = (None, hypermesh_api::PORT, None);
        let (doubt, told) = (None, None);
        let mut core =
            Self { dir, store, membership, book, certificate, api_port, doubt, told, tls };
        core.reopen()?;
        Ok(core)
    }

    /// Reads the membership from the store, as it is after a start, a founding or a joining.
    pub(crate) fn reopen(&mut self) -> Result<(), Refused> {
        self.certificate = identity::standing(&self.dir)?;
        let Some(bytes) = self.store.value(STANDING)? else { return Ok(()) };
        let standing: Standing = postcard::from_bytes(&bytes).map_err(Refused::internal)?;
        let phase = self.phase(&standing)?;
        let orders = standing.sequencer && phase == Phase::Normal;
        let chain = Chain::open(&self.store, orders)?;
        let keys = identity::keys(&self.dir, files::NODE_KEYS)?.ok_or_else(|| {
            let lost = "the node's keys (node.pem) are lost: restore a backup, or join again";
            Refused::new(ErrorCode::Storage, lost)
        })?;
        let issuer = match phase {
            // Another host issues by these keys now.
            Phase::Superseded => None,
            _ => Issuer::open(&self.dir, &self.store, chain.ledger(), &standing.node)?,
        };
        let (term, head) = self.stored_term()?;
        let (bundler, issues) = (Bundler::default(), issuer.is_some());
        let taken = self.store.value(BUNDLE)?;
        let taken = taken.as_deref().map(bundling::number).transpose()?.unwrap_or_default();
        let membership =
            Membership { standing, chain, keys, issuer, bundler, taken, phase, term, head };
        self.membership = Some(membership);
        self.tls = None;
        let signer = if issues { files::LOG_KEYS } else { files::NODE_KEYS };
        self.book.sign_with(identity::keys(&self.dir, signer)?);
        Ok(())
    }

    /// Says on which TCP port the API is: tokens name it.
    pub fn serves_on(&mut self, api_port: u16) {
        self.api_port = api_port;
    }

    /// The height of the ledger; 0 without one.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.membership.as_ref().map_or(0, |membership| membership.chain.ledger().height())
    }

    /// Writes an entry to the audit log. A failure is logged: what happened, happened.
    pub fn audit(&mut self, actor: &str, action: &str, outcome: Outcome) {
        tracing::info!(actor, action, ?outcome, "audit");
        if let Err(error) = self.book.write(actor, action, outcome) {
            tracing::error!(%error, actor, action, "cannot write to the audit log");
        }
    }

    /// What this daemon is and how it fares.
    #[must_use]
    pub fn status(&self) -> Status {
        let ledger = self.membership.as_ref().map(|m| m.chain.ledger());
        let state = self.membership.as_ref().map_or(State::Uninitialised, Membership::state);
        let hash = ledger.map(Ledger::hash).unwrap_or_default();
        Status {
            state,
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: 0,
            mesh: ledger.and_then(|l| l.mesh()).map(|mesh| mesh.id.clone()),
            node: self.membership.as_ref().map(|m| m.standing.node.clone()),
            issuer: self.membership.as_ref().is_some_and(|m| m.issuer.is_some()),
            height: self.height(),
            term: self.membership.as_ref().map_or(0, |m| m.term),
            state_hash: hex(&hash),
            revocation_sequence: ledger.map_or(0, Ledger::revocation_sequence),
            members: ledger.map_or(0, |l| l.members().len() as u64),
            certificate: self.certificate.as_ref().map(|certificate| CertificateStatus {
                not_before_s: certificate.not_before_s,
                not_after_s: certificate.not_after_s,
                renew_at_s: certificate.renew_at_s,
            }),
            stoqd: hypermesh_api::StoqdStatus::default(),
            warnings: self.warnings(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let phase = self.membership.as_ref().and_then(|m| m.phase.check().err());
        let phase = phase.map(|refused| refused.to_string());
        let doubt = self.doubt.clone().filter(|doubt| Some(doubt) != phase.as_ref());
        self.book.warning().into_iter().chain(phase).chain(doubt).collect()
    }

    /// The membership.
    ///
    /// # Errors
    /// [`ErrorCode::Uninitialised`].
    pub fn mesh(&mut self) -> Result<&mut Membership, Refused> {
        self.membership.as_mut().ok_or_else(|| {
            let text = "this host belongs to no mesh yet; run `stoqctl mesh create` or `stoqctl mesh join`";
            Refused::new(ErrorCode::Uninitialised, text)
        })
    }

    /// Refuses where there is a mesh already.
    pub(crate) fn no_mesh(&self) -> Result<(), Refused> {
        let Some(membership) = &self.membership else { return Ok(()) };
        let mesh = membership.chain.ledger().mesh().map_or("", |mesh| &mesh.id);
        let text = format!(
            "this host is {} of mesh {mesh}; run `stoqctl mesh leave` first",
            membership.standing.node
        );
        Err(Refused::new(ErrorCode::Initialised, text))
    }

    /// Whether this node issues and follows: it sends the changes that are made here to the sequencer.
    pub(crate) fn is_following_issuer(&self) -> bool {
        let follows = |m: &&Membership| !m.standing.sequencer && !m.standing.left;
        self.membership.as_ref().filter(follows).is_some_and(|m| m.issuer.is_some())
    }

    /// Carries out a command.
    pub(crate) fn submit(&mut self, command: CommandV1) -> Result<Receipt, Refused> {
        self.mesh()?.submit(command, Change::default())
    }
}

impl Membership {
    fn state(&self) -> State {
        match (self.phase, &self.chain) {
            _ if self.standing.left => State::Left,
            (Phase::Superseded, _) => State::Superseded,
            (Phase::Restoring, _) => State::Restoring,
            (Phase::Normal, Chain::Sequencer(_)) => State::Sequencer,
            (Phase::Normal, Chain::Follower(_)) => State::Follower,
        }
    }

    /// Carries out a command, and writes `with` in the same transaction.
    pub(crate) fn submit(&mut self, command: CommandV1, with: Change) -> Result<Receipt, Refused> {
        self.phase.check()?;
        match self.chain.submit(Command::V1(command), with) {
            Some(receipt) => Ok(receipt?),
            None => {
                let at =
                    self.sequencer().unwrap_or("an issuer, when the mesh has a sequencer again");
                let text =
                    format!("this host follows the mesh's sequencer; run the command at {at}");
                Err(Refused::new(ErrorCode::Unavailable, text))
            }
        }
    }

    /// The member that decides the order of changes, unless it left.
    pub(crate) fn sequencer(&self) -> Option<&str> {
        let mut members = self.chain.ledger().members();
        members.find(|(_, member)| member.index == SEQUENCER_INDEX).map(|(name, _)| name)
    }

    /// What it issues with.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] on a host that does not issue.
    pub(crate) fn issuer(&mut self) -> Result<&mut Issuer, Refused> {
        self.issuer.as_mut().ok_or_else(|| {
            Refused::new(ErrorCode::Unavailable, "this host issues no certificates; ask an issuer")
        })
    }

    /// The bundle now: made here by an issuer; elsewhere the last one taken from one.
    pub(crate) fn bundle(&mut self, store: &Store) -> Result<(u64, Vec<u8>), Refused> {
        let ledger = self.chain.ledger();
        if let Some(issuer) = &self.issuer {
            let number = number(self.term, ledger.height());
            return Ok((number, self.bundler.bundle(ledger, issuer, number)?));
        }
        let stored = store.value(BUNDLE)?.ok_or_else(|| {
            Refused::new(ErrorCode::Unavailable, "no bundle was taken from an issuer yet")
        })?;
        Ok((self.taken, stored))
    }
}

/// Hexadecimal digits, lower-case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
