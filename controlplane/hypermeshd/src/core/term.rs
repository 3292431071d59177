//! The term of the ledger, and what a sequencer does that may not be the only one: it signs what its ledger
//! comes to, orders nothing while it is being restored, and nothing any more once it meets a later term.

use std::net::SocketAddr;

use hypermesh_api::{Base64, Done, ErrorCode, HeadReply, LedgerReport};
use hypermesh_consensus::{Command, CommandV1, Sequencer as _};
use stoq_audit::Outcome;
use stoq_identity::CertificateInfo;
use stoq_mesh::{Bundle, Revocations, Revoked, RevokedKind, Signed, Signer, Signers};

use super::{Core, Membership, Standing};
use crate::chain::Chain;
use crate::refused::Refused;
use crate::store::{Change, LEDGER_HEAD, SUPERSEDED, TERM};
use crate::term::{self, LedgerHead, Offer, Place, SignedHead, judge};
use crate::{bundling, files};

/// Whether a sequencer may order changes. Whoever follows is in the first phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It may.
    Normal,
    /// It was restored: the members may know more than its backup.
    Restoring,
    /// It was restored elsewhere.
    Superseded,
}

impl Phase {
    /// Checks that the ledger here is the mesh's.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`], with what to do.
    pub fn check(self) -> Result<(), Refused> {
        let text = match self {
            Self::Normal => return Ok(()),
            Self::Restoring => {
                "this host was restored and first asks the members for what came after the backup, for two \
                 minutes at most once stoqd runs; try again then"
            }
            Self::Superseded => SUPERSEDED_TEXT,
        };
        Err(Refused::new(ErrorCode::Unavailable, text))
    }
}

const SUPERSEDED_TEXT: &str = "this host was restored elsewhere and orders nothing any more: stop it \
    (`systemctl disable --now stoqd hypermeshd`), and never start it again from this state";

/// What became of what the sequencer offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It was taken.
    Taken,
    /// It is of a later term: its snapshot takes the place of this ledger.
    Later,
}

/// What a member's head means to the sequencer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is no news.
    Known,
    /// The member has what this restored host lacks.
    Wanted,
    /// This host is no sequencer any more, or has to be completed first.
    Ended(String),
}

impl Core {
    /// What the store and the mark of a restore say of a host.
    pub(crate) fn phase(&self, standing: &Standing) -> Result<Phase, Refused> {
        Ok(if !standing.sequencer {
            Phase::Normal
        } else if self.store.value(SUPERSEDED)?.is_some() {
            Phase::Superseded
        } else if self.dir.read(files::RESTORING)?.is_some() {
            Phase::Restoring
        } else {
            Phase::Normal
        })
    }

    pub(crate) fn stored_term(&self) -> Result<(u64, Option<SignedHead>), Refused> {
        let term = self.store.value(TERM)?.map(|bytes| <[u8; 8]>::try_from(bytes.as_slice()));
        let term = term.transpose().map_err(Refused::internal)?.map_or(0, u64::from_be_bytes);
        let Some(bytes) = self.store.value(LEDGER_HEAD)? else { return Ok((term, None)) };
        let signed = Signed::<LedgerHead>::from_bytes(&bytes).map_err(Refused::internal)?;
        Ok((term, Some((signed.claims().map_err(Refused::internal)?, bytes))))
    }

    /// The height and the term of the ledger.
    #[must_use]
    pub fn standing_at(&self) -> (u64, u64) {
        (self.height(), self.membership.as_ref().map_or(0, |membership| membership.term))
    }

    /// Whether whoever knows the ledger up to `above` in `term` has to wait for news of it.
    ///
    /// # Errors
    /// Where there is no ledger to follow.
    pub fn has_no_news(&mut self, above: u64, term: Option<u64>) -> Result<bool, Refused> {
        let membership = self.mesh()?;
        membership.phase.check()?;
        let same = term.is_none_or(|term| {
            term == membership.term && above <= membership.chain.ledger().height()
        });
        Ok(same)
    }

    /// The head of the ledger here.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn ledger_head(&mut self) -> Result<HeadReply, Refused> {
        Ok(HeadReply { head: self.mesh()?.head()?.map(Base64) })
    }

    /// The members besides this node, where it has to ask them: it orders changes, or will.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn others(&mut self) -> Result<Vec<String>, Refused> {
        let membership = self.mesh()?;
        if !membership.standing.sequencer {
            return Ok(Vec::new());
        }
        let own = membership.standing.node.as_str();
        let members = membership.chain.ledger().members().map(|(node, _)| node);
        Ok(members.filter(|node| *node != own).map(str::to_owned).collect())
    }

    /// The phase that a sequencer is in; none elsewhere.
    #[must_use]
    pub fn sequencing(&self) -> Option<Phase> {
        let membership =
            self.membership.as_ref().filter(|m| m.standing.sequencer && !m.standing.left);
        membership.map(|membership| membership.phase)
    }

    /// Remembers where a node that is being restored is reached, if this is it.
    pub(crate) fn sets_endpoints_later(
        &mut self,
        node: &str,
        endpoints: &[SocketAddr],
    ) -> Result<bool, Refused> {
        let membership = self.mesh()?;
        if membership.phase != Phase::Restoring || membership.standing.node != node {
            return Ok(false);
        }
        let lines: String = endpoints.iter().map(|endpoint| format!("{endpoint}\n")).collect();
        self.dir.write(files::RESTORING, 0o600, lines.as_bytes())?;
        Ok(true)
    }

    /// Ends a restore: this host orders changes again, in a term of its own.
    ///
    /// # Errors
    /// When it cannot be written: then it is restoring still.
    pub fn resume(&mut self, now_s: u64) -> Result<u64, Refused> {
        let membership = self.mesh()?;
        let (term, node) = (term::next(membership.term, now_s), membership.standing.node.clone());
        let values = vec![(TERM, term.to_be_bytes().to_vec())];
        self.store.write(&Change { values, ..Change::default() })?;
        let lines = self.dir.read(files::RESTORING)?.unwrap_or_default();
        let endpoints = lines.lines().map(str::parse).collect::<Result<Vec<SocketAddr>, _>>();
        let endpoints = endpoints.map_err(Refused::internal)?;
        if !endpoints.is_empty() {
            let command = CommandV1::SetEndpoints { node, endpoints };
            let submitted =
                Chain::open(&self.store, true)?.submit(Command::V1(command), Change::default());
            submitted.transpose()?;
        }
        self.dir.remove(files::RESTORING)?;
        self.reopen()?;
        Ok(term)
    }

    /// A member's head reaches the sequencer.
    ///
    /// # Errors
    /// When it does not verify, or this host is no sequencer.
    pub fn hear(&mut self, head: &[u8]) -> Result<Heard, Refused> {
        let Some(phase) = self.sequencing() else {
            let text = "expected to be told at the host that orders changes, got here at another";
            return Err(Refused::new(ErrorCode::Refused, text));
        };
        let membership = self.mesh()?;
        let head_of = membership.verified(head)?;
        let (own, offered) = (membership.place(), Place::from(&head_of));
        let offer = judge(&own, &offered);
        let is_further = offer == Offer::Same && offered.height > own.height;
        match (phase, offer) {
            (Phase::Restoring, Offer::Later) => Ok(Heard::Wanted),
            (Phase::Restoring, _) if is_further => Ok(Heard::Wanted),
            (Phase::Normal, Offer::Later) => {
                let values = vec![(SUPERSEDED, head.to_vec())];
                self.store.write(&Change { values, ..Change::default() })?;
                self.end(SUPERSEDED_TEXT.to_owned())
            }
            (Phase::Normal, _) if is_further => {
                self.dir.write(files::RESTORING, 0o600, &[])?;
                self.end(format!(
                    "the members know the ledger up to height {}, and this host, which orders its changes, up \
                     to {}: its disk went back in time. It takes theirs before it goes on",
                    offered.height, own.height
                ))
            }
            (Phase::Normal, Offer::Forked) => Err(self.contradicts(offer, &own, &offered)),
            _ => Ok(Heard::Known),
        }
    }

    fn end(&mut self, text: String) -> Result<Heard, Refused> {
        self.reopen()?;
        self.doubt = Some(text.clone());
        Ok(Heard::Ended(text))
    }

    /// What this host tells a sequencer whose ledger is another: its own head, and what is revoked.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn report(&mut self) -> Result<LedgerReport, Refused> {
        let head = self.mesh()?.head.as_ref().map(|(_, bytes)| Base64(bytes.clone()));
        let store = std::sync::Arc::clone(&self.store);
        let (_, bundle) = self.mesh()?.bundle(&store)?;
        let bundle = Bundle::from_bytes(&bundle).map_err(Refused::internal)?;
        let revocations = bundle.revocations.to_bytes().map_err(Refused::internal)?;
        Ok(LedgerReport { head, revocations: Some(Base64(revocations)) })
    }

    /// Keeps what issuers of this mesh have revoked in a part of the ledger that was lost. There are at most
    /// as many as a set has, and each is written by itself.
    ///
    /// # Errors
    /// When the set does not verify, or this host does not order changes.
    pub fn keep_revocations(&mut self, actor: &str, set: &[u8]) -> Result<Done, Refused> {
        let membership = self.mesh()?;
        membership.phase.check()?;
        let ledger = membership.chain.ledger();
        let mesh = ledger.mesh().ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
        let mut signers = Signers::new(&mesh.id, bundling::policy(mesh.policy));
        for (_, issuer) in ledger.issuers() {
            let info = CertificateInfo::read(&issuer.certificate).map_err(Refused::internal)?;
            signers.add(Signer::Issuer, info.keys).map_err(Refused::internal)?;
        }
        let set = Signed::<Revocations>::from_bytes(set).map_err(refused)?;
        let set = set.open(&signers).map_err(refused)?;
        for revoked in set.entries {
            self.keep(actor, revoked, set.sequence)?;
        }
        Ok(Done { height: self.height() })
    }

    fn keep(&mut self, actor: &str, revoked: Revoked, sequence: u64) -> Result<(), Refused> {
        if self.mesh()?.chain.ledger().revocation(&revoked.keys).is_some() {
            return Ok(());
        }
        let Revoked { keys, kind, node, at_s } = revoked;
        let action = format!("keep-revoked {node}");
        let kind = ledger_kind(kind);
        let kept = self.submit(CommandV1::KeepRevoked { keys, kind, node, at_s, sequence });
        match kept {
            Ok(_) => self.audit(actor, &action, Outcome::Done),
            Err(error) if error.0.code == ErrorCode::Storage => return Err(error),
            // The last issuer cannot be revoked; the others of the set can.
            Err(error) => self.audit(actor, &action, Outcome::Refused(error.to_string())),
        }
        Ok(())
    }

    /// Says that what the sequencer offered is not the mesh's ledger.
    pub(crate) fn contradicts(&mut self, offer: Offer, own: &Place, offered: &Place) -> Refused {
        let (what, to_do) = match offer {
            Offer::Earlier => (
                "the sequencer was superseded when it was restored elsewhere",
                "stop the old host: it is told so, too",
            ),
            Offer::Behind => (
                "the sequencer is behind what it told before",
                "if its disk went back in time it takes our ledger now; if not, look for a second one",
            ),
            Offer::Forked | Offer::Same | Offer::Later => (
                "there are two ledgers of one height",
                "two hosts order changes by the same keys: stop the one that was not meant to",
            ),
        };
        let text = format!(
            "expected the ledger of term {} from height {} on, got one of term {} and height {}: {what}; {to_do}",
            own.term, own.height, offered.term, offered.height
        );
        self.doubt = Some(text.clone());
        Refused::new(ErrorCode::Refused, text)
    }

    /// What newly speaks against a ledger: each text once, until another comes or all is well.
    pub fn untold_doubt(&mut self) -> Option<String> {
        if self.doubt == self.told {
            return None;
        }
        self.told.clone_from(&self.doubt);
        self.told.clone()
    }
}

impl Membership {
    /// How far the ledger here is.
    pub(crate) fn place(&self) -> Place {
        let ledger = self.chain.ledger();
        Place { term: self.term, height: ledger.height(), state_hash: Some(ledger.hash()) }
    }

    /// The head of the ledger as it is: signed here by the sequencer, elsewhere as it was taken. None while
    /// this host is on its way to the head that it will have.
    pub(crate) fn head(&mut self) -> Result<Option<Vec<u8>>, Refused> {
        let Place { term, height, state_hash } = self.place();
        if let Some((head, bytes)) = &self.head
            && (head.term, head.height) == (term, height)
        {
            return Ok(Some(bytes.clone()));
        }
        let (Chain::Sequencer(single), Some(issuer)) = (&self.chain, &self.issuer) else {
            return Ok(None);
        };
        let mesh = single.ledger().mesh().map(|mesh| mesh.id.clone()).unwrap_or_default();
        let state_hash = state_hash.unwrap_or_default();
        let head = LedgerHead { mesh, term, height, state_hash };
        let signed = Signed::sign(&head, issuer.keys()).map_err(Refused::internal)?;
        let bytes = signed.to_bytes().map_err(Refused::internal)?;
        self.head = Some((head, bytes.clone()));
        Ok(Some(bytes))
    }

    /// A head, once it is shown that the issuer's keys of the sequencer have signed it: no other issuer's
    /// count.
    pub(crate) fn verified(&self, bytes: &[u8]) -> Result<LedgerHead, Refused> {
        let ledger = self.chain.ledger();
        let mesh = ledger.mesh().ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
        let issuer = self.sequencer().and_then(|node| ledger.issuer(node));
        let issuer = issuer.ok_or_else(|| {
            let text = "expected the host that orders changes to be an issuer, got none that signs its ledger";
            Refused::new(ErrorCode::Refused, text)
        })?;
        let keys = CertificateInfo::read(&issuer.certificate).map_err(Refused::internal)?.keys;
        let mut signers = Signers::new(&mesh.id, bundling::policy(mesh.policy));
        signers.add(Signer::Issuer, keys).map_err(Refused::internal)?;
        let signed = Signed::<LedgerHead>::from_bytes(bytes).map_err(refused)?;
        signed.open(&signers).map_err(refused)
    }
}

fn refused(error: impl std::fmt::Display) -> Refused {
    Refused::new(ErrorCode::Refused, error.to_string())
}

const fn ledger_kind(kind: RevokedKind) -> hypermesh_consensus::RevokedKind {
    use hypermesh_consensus::RevokedKind as Ledger;
    match kind {
        RevokedKind::Node => Ledger::Node,
        RevokedKind::Operator => Ledger::Operator,
        RevokedKind::Issuer => Ledger::Issuer,
        RevokedKind::Log => Ledger::Log,
    }
}
