//! Whether the logs of certificates only grow, as nodes of the mesh were shown them.
//!
//! stoqd hears signed heads from its peers and says which in its status. Two of one size with different
//! roots prove by themselves that a log has forked. Between heads of different sizes the log's holder has to
//! prove that the larger tree goes on from the smaller one: [`run`] asks it, over STOQ. One that gives no
//! proof, or one that does not hold, shows different certificates to different nodes.
//!
//! [`HeadCheck`] decides and does no I/O; the app owns it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hypermesh_api::{Consistency as Proof, ConsistencyQuery, path};
use stoq_audit::Outcome;
use stoq_identity::CertificateInfo;
use stoq_mesh::{Consistency, HeadError, HeadStore, Heard, Signed, Signer, Signers, TreeHead};

use crate::app::App;
use crate::core::Core;
use crate::refused::Refused;
use crate::{bundling, peers};

/// How often heads are looked at: those of stoqd are as old as its status, which is asked for as often.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Proofs asked for at a look. A mesh of 10,000 nodes signs a head every six seconds.
const PER_LOOK: usize = 8;

/// Heads that wait for a proof at most: as many as a store of 16 logs keeps.
const WAITING_MAX: usize = 1024;

/// Tries after which a proof that did not come is reported: with the growing pauses half an hour, longer
/// than a host takes to start again.
const TRIES: u32 = 12;

/// The longest pause between two tries is this many looks (three minutes).
const PAUSE_LOOKS_MAX: u32 = 64;

/// A proof to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The log.
    pub log: [u8; 32],
    /// Size of the older tree.
    pub from: u64,
    /// Size of the newer tree.
    pub to: u64,
    /// The one of the two that waits.
    size: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    tries: u32,
    due: Duration,
}

/// What speaks against a log.
#[derive(Clone, Debug)]
enum Doubt {
    /// Signed heads that cannot be of one log.
    Forked(String),
    /// A proof that does not come.
    Unproven(String),
}

/// The heads that were heard, and what was found out about their logs.
#[derive(Debug, Default)]
pub struct HeadCheck {
    heads: HeadStore,
    waiting: BTreeMap<([u8; 32], u64), Waiting>,
    doubts: BTreeMap<[u8; 32], Doubt>,
}

impl HeadCheck {
    /// Takes note of a head. Returns what it newly shows against its log.
    pub fn hear(&mut self, head: &Signed<TreeHead>, signers: &Signers) -> Option<String> {
        match self.heads.hear(head, signers) {
            Ok(Heard::Unproven { .. }) => {
                let TreeHead { log, size, .. } = head.claims().ok()?;
                if self.waiting.len() < WAITING_MAX {
                    self.waiting.insert((log, size), Waiting::default());
                }
                None
            }
            Err(HeadError::Fork(fork)) => self.doubt(fork.log, Doubt::Forked(fork.to_string())),
            // One whose signer does not count says nothing of any log.
            Ok(Heard::First | Heard::Known) | Err(_) => None,
        }
    }

    /// The proofs to ask for at `now` (since the start).
    #[must_use]
    pub fn wanted(&self, now: Duration) -> Vec<Wanted> {
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.due <= now);
        let wanted = due.filter_map(|(&(log, size), _)| {
            let proven = self.heads.newest_of(&log)?.size;
            Some(Wanted { log, from: proven.min(size), to: proven.max(size), size })
        });
        wanted.take(PER_LOOK).collect()
    }

    /// A proof came. Returns what it newly shows against the log.
    pub fn proved(&mut self, wanted: &Wanted, path: Vec<[u8; 32]>) -> Option<String> {
        let &Wanted { log, from, to, size } = wanted;
        self.waiting.remove(&(log, size));
        match self.heads.prove(&log, &Consistency { from, to, path }) {
            Err(error @ HeadError::Inconsistent { .. }) => {
                let text =
                    format!("{error}; two nodes were shown different trees: revoke its issuer");
                self.doubt(log, Doubt::Forked(text))
            }
            Ok(()) => {
                let waits = self.waiting.keys().any(|(other, _)| *other == log);
                if !waits && matches!(self.doubts.get(&log), Some(Doubt::Unproven(_))) {
                    self.doubts.remove(&log);
                }
                None
            }
            // A larger tree took the place of this one in the store meanwhile.
            Err(_) => None,
        }
    }

    /// A proof did not come. Returns what that newly shows against the log; it is asked for again in any
    /// case.
    pub fn unproved(&mut self, wanted: &Wanted, why: &str, now: Duration) -> Option<String> {
        let &Wanted { log, from, to, size } = wanted;
        let waiting = self.waiting.get_mut(&(log, size))?;
        waiting.tries += 1;
        let looks = PAUSE_LOOKS_MAX.min(1 << waiting.tries.min(16));
        waiting.due = now + LOOK_EVERY * looks;
        if waiting.tries < TRIES {
            return None;
        }
        let name = crate::core::hex(&log[..8]);
        let text = format!(
            "the log {name} did not prove in {TRIES} tries that it only grew from {from} to {to} \
             certificates: {why}; start its issuer, and revoke it if it runs"
        );
        self.doubt(log, Doubt::Unproven(text))
    }

    /// What the operator must look at.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let text = |doubt: &Doubt| match doubt {
            Doubt::Forked(text) | Doubt::Unproven(text) => text.clone(),
        };
        self.doubts.values().map(text).collect()
    }

    fn doubt(&mut self, log: [u8; 32], doubt: Doubt) -> Option<String> {
        let text = match &doubt {
            Doubt::Forked(text) | Doubt::Unproven(text) => text.clone(),
        };
        match (self.doubts.get(&log), &doubt) {
            (Some(Doubt::Forked(_)), _) | (Some(Doubt::Unproven(_)), Doubt::Unproven(_)) => None,
            _ => {
                self.doubts.insert(log, doubt);
                Some(text)
            }
        }
    }
}

/// Runs for as long as the daemon does.
pub async fn run(app: App) {
    loop {
        if let Err(error) = look(&app).await {
            tracing::debug!(%error, "cannot check the logs now");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(app: &App) -> Result<(), Refused> {
    let heard = app.stoqd().heads();
    if heard.is_empty() {
        return Ok(());
    }
    let signers = app.core(log_signers).await?;
    for head in heard.iter().filter_map(|text| read(text)) {
        let doubt = app.heads().hear(&head, &signers);
        report(app, doubt).await;
    }
    let wanted = app.heads().wanted(app.started().elapsed());
    for wanted in wanted {
        let path = ask(app, &wanted).await;
        let now = app.started().elapsed();
        let doubt = match path {
            Ok(path) => {
                app.metrics().log_proofs.inc();
                app.heads().proved(&wanted, path)
            }
            Err(error) => app.heads().unproved(&wanted, &error.to_string(), now),
        };
        report(app, doubt).await;
    }
    Ok(())
}

fn read(text: &str) -> Option<Signed<TreeHead>> {
    Signed::from_bytes(&STANDARD.decode(text).ok()?).ok()
}

/// Who may sign heads: the logs of the ledger's issuers.
fn log_signers(core: &mut Core) -> Result<Signers, Refused> {
    let ledger = core.mesh()?.chain.ledger();
    let mesh = ledger.mesh().ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
    let mut signers = Signers::new(&mesh.id, bundling::policy(mesh.policy));
    for (_, issuer) in ledger.issuers() {
        let log = CertificateInfo::read(&issuer.log_certificate).map_err(Refused::internal)?;
        signers.add(Signer::Log, log.keys).map_err(Refused::internal)?;
    }
    Ok(signers)
}

/// Asks the log's holder for a proof.
async fn ask(app: &App, wanted: &Wanted) -> Result<Vec<[u8; 32]>, Refused> {
    let (log, query) = (wanted.log, ConsistencyQuery { from: wanted.from, to: wanted.to });
    let holder = move |core: &mut Core| {
        let membership = core.mesh()?;
        let mut issuers = membership.chain.ledger().issuers();
        let holder = issuers.find(|(_, issuer)| issuer.log == log).map(|(name, _)| name.to_owned());
        let holder = holder.ok_or_else(|| Refused::internal("a head of no issuer's log"))?;
        let own = membership.standing.node == holder;
        Ok((holder, own))
    };
    let (holder, own) = app.core(holder).await?;
    let proof: Proof = if own {
        app.core(move |core| core.log_consistency(query)).await?
    } else {
        let mut client = peers::connect(app, &holder).await?;
        let asked = format!("{}?from={}&to={}", path::LOG_CONSISTENCY, query.from, query.to);
        client.get(&asked).await.map_err(peers::answered)?
    };
    let hash = |hash: hypermesh_api::Base64| hash.0.try_into();
    let path = proof.path.into_iter().map(hash).collect::<Result<_, _>>();
    path.map_err(|_| Refused::internal(format!("expected hashes from {holder}, got other bytes")))
}

/// Says what speaks against a log: counted, audited, logged; the status has it too.
async fn report(app: &App, doubt: Option<String>) {
    let Some(doubt) = doubt else { return };
    tracing::error!("{doubt}");
    app.metrics().log_doubts.inc();
    let (actor, action) = ("hypermeshd".to_owned(), "check-log".to_owned());
    app.audit(actor, action, Outcome::Refused(doubt)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoq_identity::{Policy, PrivateKeys};
    use stoq_mesh::tree::{Tree, leaf_hash};

    const MESH: &str = "lab-0123456789abcdef";

    /// A log that may show any tree.
    struct Log(PrivateKeys);

    impl Log {
        fn new() -> (Self, Signers) {
            let keys = PrivateKeys::generate().unwrap();
            let mut signers = Signers::new(MESH, Policy::Hybrid);
            signers.add(Signer::Log, keys.public().clone()).unwrap();
            (Self(keys), signers)
        }

        fn head(&self, leaves: &[&str]) -> Signed<TreeHead> {
            let mut tree = Tree::new();
            for leaf in leaves {
                tree.append(leaf_hash(leaf.as_bytes()));
            }
            let log = self.0.public().fingerprint();
            let head = TreeHead { log, size: tree.size(), root: tree.root(), at_s: 1 };
            Signed::sign(&head, &self.0).unwrap()
        }
    }

    /// The path between the trees of 1 and 2 leaves is the second leaf (RFC 9162 §2.1.4).
    fn path(second: &str) -> Vec<[u8; 32]> {
        vec![leaf_hash(second.as_bytes())]
    }

    #[test]
    fn a_log_that_grows_is_believed_with_its_proof() {
        let (log, signers) = Log::new();
        let mut check = HeadCheck::default();
        assert_eq!(check.hear(&log.head(&["one"]), &signers), None);
        assert!(check.wanted(Duration::ZERO).is_empty());
        assert_eq!(check.hear(&log.head(&["one", "two"]), &signers), None);
        let wanted = check.wanted(Duration::ZERO);
        assert_eq!((wanted.len(), wanted[0].from, wanted[0].to), (1, 1, 2));
        assert_eq!(check.proved(&wanted[0], path("two")), None);
        assert!(check.wanted(Duration::MAX).is_empty() && check.warnings().is_empty());
    }

    #[test]
    fn a_fork_of_another_size_is_found_out_whatever_proof_is_given() {
        let (log, signers) = Log::new();
        for proof in [path("two"), path("secret"), Vec::new(), vec![[0; 32]; 3]] {
            // This node was shown `one`; another one a tree that never had it.
            let mut check = HeadCheck::default();
            check.hear(&log.head(&["one"]), &signers);
            check.hear(&log.head(&["secret", "two"]), &signers);
            let wanted = check.wanted(Duration::ZERO).remove(0);
            let found = check.proved(&wanted, proof).unwrap();
            assert!(found.contains("does not prove that it only grew"), "{found}");
            assert_eq!(check.warnings(), [found]);
            assert_eq!(check.hear(&log.head(&["other"]), &signers), None, "said once");
        }
    }

    #[test]
    fn a_smaller_head_than_the_known_one_is_asked_about_as_well() {
        let (log, signers) = Log::new();
        let mut check = HeadCheck::default();
        check.hear(&log.head(&["one", "two"]), &signers);
        check.hear(&log.head(&["secret"]), &signers);
        let wanted = check.wanted(Duration::ZERO).remove(0);
        assert_eq!((wanted.from, wanted.to), (1, 2));
        assert!(check.proved(&wanted, path("two")).is_some());
    }

    #[test]
    fn a_proof_that_never_comes_is_reported_once_and_asked_for_ever_less_often() {
        let (log, signers) = Log::new();
        let mut check = HeadCheck::default();
        check.hear(&log.head(&["one"]), &signers);
        check.hear(&log.head(&["one", "two"]), &signers);
        let (mut now, mut asked, mut said) = (Duration::ZERO, 0, Vec::new());
        while now < Duration::from_secs(2 * 3600) {
            for wanted in check.wanted(now) {
                asked += 1;
                said.extend(check.unproved(&wanted, "no link", now));
            }
            now += LOOK_EVERY;
        }
        assert!((TRIES..=50).contains(&asked), "{asked}");
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("no link") && check.warnings() == said, "{said:?}");
        // The issuer is back.
        let wanted = check.wanted(Duration::MAX).remove(0);
        assert_eq!(check.proved(&wanted, path("two")), None);
        assert!(check.warnings().is_empty());
    }

    #[test]
    fn heads_of_strangers_say_nothing() {
        let ((_, signers), (stranger, _)) = (Log::new(), Log::new());
        let mut check = HeadCheck::default();
        assert_eq!(check.hear(&stranger.head(&["one"]), &signers), None);
        assert_eq!(check.hear(&stranger.head(&["one", "two"]), &signers), None);
        assert!(check.wanted(Duration::MAX).is_empty());
    }
}
