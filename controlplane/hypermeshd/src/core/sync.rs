//! What followers take, and taking it.

use hypermesh_api::{Base64, BundleReply, Command, Commands, ErrorCode, FoundReply, Snapshot};
use hypermesh_consensus::{Entry, FollowError, Ledger};

use super::{Core, Followed, Membership, Standing, lost};
use crate::refused::Refused;
use crate::store::{BUNDLE, Change, LEDGER_HEAD, SNAPSHOT, STANDING, TERM};
use crate::term::{Offer, Place, SignedHead, judge};
use crate::{bundling, chain, files, pem};

/// What a joiner stores in one transaction.
#[derive(Debug)]
pub struct Joined {
    /// This node's name.
    pub node: String,
    /// The root's certificate, DER: the one that the token names.
    pub root: Vec<u8>,
    /// What the issuer answered.
    pub reply: hypermesh_api::EnrolReply,
}

impl Core {
    /// The commands above a height.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] when they were trimmed: a snapshot has them.
    pub fn commands(&mut self, above: u64) -> Result<Commands, Refused> {
        let membership = self.mesh()?;
        membership.phase.check()?;
        let (height, head) = (membership.chain.ledger().height(), membership.head()?.map(Base64));
        let entries = chain::entries(&self.store, above)?;
        if height > above && entries.first().is_none_or(|first| first.height != above + 1) {
            let text = "the journal begins later; take a snapshot of the ledger";
            return Err(Refused::new(ErrorCode::NotFound, text));
        }
        let command = |entry: Entry| Command {
            height: entry.height,
            command: Base64(entry.command),
            state_hash: Base64(entry.state_hash.to_vec()),
        };
        Ok(Commands { commands: entries.into_iter().map(command).collect(), height, head })
    }

    /// The ledger as it is now.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn snapshot(&mut self) -> Result<Snapshot, Refused> {
        let membership = self.mesh()?;
        membership.phase.check()?;
        let head = membership.head()?.map(Base64);
        let ledger = membership.chain.ledger();
        Ok(Snapshot { height: ledger.height(), ledger: Base64(ledger.snapshot()), head })
    }

    /// The bundle now.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn bundle(&mut self) -> Result<BundleReply, Refused> {
        self.mesh()?;
        let Some(membership) = self.membership.as_mut() else {
            return Err(Refused::internal("no membership"));
        };
        let (number, bundle) = membership.bundle(&self.store)?;
        Ok(BundleReply { number, bundle: Base64(bundle) })
    }

    /// Takes commands from the sequencer; each must come to the hash that it came to there. A ledger of a
    /// later term is only recognised.
    ///
    /// # Errors
    /// When they do not follow: nothing of the first that fails is taken.
    pub fn take_commands(&mut self, commands: Commands) -> Result<Followed, Refused> {
        let membership = self.mesh()?;
        let head = offered_head(membership, commands.head)?;
        let own = membership.place();
        let offered = head
            .as_ref()
            .map_or(Place { term: 0, height: commands.height, state_hash: None }, |(head, _)| {
                Place::from(head)
            });
        match judge(&own, &offered) {
            Offer::Same => {}
            Offer::Later => return Ok(Followed::Later),
            offer => return Err(self.contradicts(offer, &own, &offered)),
        }
        for command in commands.commands {
            let state_hash = command.state_hash.0.as_slice().try_into().map_err(|_| {
                Refused::new(ErrorCode::Invalid, "expected a state hash of 32 bytes")
            })?;
            let entry = Entry { height: command.height, command: command.command.0, state_hash };
            let with = head.as_ref().filter(|(head, _)| {
                (head.height, head.state_hash) == (entry.height, entry.state_hash)
            });
            let with = Change { values: with.map(values).unwrap_or_default(), ..Change::default() };
            match self.mesh()?.chain.take(&entry, with) {
                Err(error @ FollowError::Parted { .. }) => {
                    self.doubt = Some(error.to_string());
                    return Err(follow(error));
                }
                taken => taken.map_err(follow)?,
            };
        }
        self.reached(head)?;
        self.doubt = None;
        self.adopt_issuer()?;
        Ok(Followed::Taken)
    }

    /// Learns the term in which this node joined.
    fn take_head(&mut self, head: Option<Base64>) -> Result<(), Refused> {
        let membership = self.mesh()?;
        let place = membership.place();
        let head = offered_head(membership, head)?.filter(|(head, _)| {
            (head.height, Some(head.state_hash)) == (place.height, place.state_hash)
        });
        let Some(head) = head else { return Ok(()) };
        self.store.write(&Change { values: values(&head), ..Change::default() })?;
        self.reopen()
    }

    /// Keeps the head, if the ledger has come to it. It is stored with the entry that came to it, but for the
    /// first one of a host that is as far already.
    fn reached(&mut self, head: Option<SignedHead>) -> Result<(), Refused> {
        let membership = self.mesh()?;
        let Some(head) = head.filter(|(head, _)| Place::from(head) == membership.place()) else {
            return Ok(());
        };
        let is_new = membership.head.is_none();
        membership.head = Some(head.clone());
        if is_new {
            self.store.write(&Change { values: values(&head), ..Change::default() })?;
        }
        Ok(())
    }

    /// Goes on from a snapshot of the sequencer's ledger: where the journal was trimmed, and where one of a
    /// later term takes the place of this one. Returns what that loses, by name.
    ///
    /// # Errors
    /// When it is none, of another mesh, not the one that its head names, or behind this one.
    pub fn take_snapshot(&mut self, snapshot: &Snapshot) -> Result<Option<String>, Refused> {
        let membership = self.mesh()?;
        let old = membership.chain.ledger();
        let ledger = Ledger::restore(&snapshot.ledger.0).map_err(Refused::internal)?;
        if ledger.mesh().map(|mesh| &mesh.id) != old.mesh().map(|mesh| &mesh.id) {
            return Err(another_snapshot());
        }
        let head = offered_head(membership, snapshot.head.clone())?;
        let (height, hash) = (ledger.height(), ledger.hash());
        if head.as_ref().is_some_and(|(head, _)| (head.height, head.state_hash) != (height, hash)) {
            return Err(another_snapshot());
        }
        let term = head.as_ref().map_or(0, |(head, _)| head.term);
        let (own, offered) = (membership.place(), Place { term, height, state_hash: Some(hash) });
        let lost = match judge(&own, &offered) {
            Offer::Same => None,
            Offer::Later => lost::described(old, &ledger),
            offer => return Err(self.contradicts(offer, &own, &offered)),
        };
        let mut values = head.as_ref().map(values).unwrap_or_default();
        values.push((SNAPSHOT, snapshot.ledger.0.clone()));
        // Those of this ledger too: they do not lead to the other.
        let trim = Some(height.max(own.height));
        self.store.write(&Change { values, trim, ..Change::default() })?;
        self.doubt = None;
        self.reopen()?;
        Ok(lost)
    }

    /// Keeps a bundle of an issuer, verified under the root.
    ///
    /// # Errors
    /// When it does not verify.
    pub fn take_bundle(&mut self, reply: BundleReply) -> Result<(), Refused> {
        let ledger = self.mesh()?.chain.ledger();
        let mesh = ledger.mesh().ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
        bundling::verify(mesh, &reply.bundle.0)?;
        let number = bundling::number(&reply.bundle.0)?;
        let values = vec![(BUNDLE, reply.bundle.0)];
        self.store.write(&Change { values, ..Change::default() })?;
        self.mesh()?.taken = number;
        Ok(())
    }

    /// Becomes a member by what the issuer answered. The store is written last, in one transaction:
    /// an interrupted joining is joined again with the same keys.
    ///
    /// # Errors
    /// When the answer does not verify under the token's root, or cannot be written.
    pub fn take_membership(&mut self, joined: Joined) -> Result<FoundReply, Refused> {
        let Joined { node, root, reply } = joined;
        let ledger = Ledger::restore(&reply.snapshot.ledger.0).map_err(Refused::internal)?;
        let mesh = ledger.mesh().filter(|mesh| mesh.root == root).ok_or_else(|| {
            Refused::new(ErrorCode::Refused, "expected a ledger of the token's mesh, got another")
        })?;
        bundling::verify(mesh, &reply.bundle.0)?;
        let keys = crate::identity::keys_or_new(&self.dir, files::NODE_KEYS)?;
        let der = pem::first_certificate("the node's certificate", &reply.certificate)?;
        crate::identity::write(&self.dir, &der, &keys, &reply.log_proof.0, &ledger)?;
        self.dir.write(files::ROOT, 0o644, pem::certificate(&root).as_bytes())?;
        let standing = Standing { node, sequencer: false, left: false };
        let standing = postcard::to_stdvec(&standing).map_err(Refused::internal)?;
        let values = vec![
            (STANDING, standing),
            (SNAPSHOT, reply.snapshot.ledger.0),
            (BUNDLE, reply.bundle.0),
        ];
        self.store.write(&Change { values, ..Change::default() })?;
        self.reopen()?;
        self.take_head(reply.snapshot.head)?;
        self.founded()
    }

    /// Begins to issue when the ledger says that this node does.
    fn adopt_issuer(&mut self) -> Result<(), Refused> {
        let membership = self.mesh()?;
        let named = membership.chain.ledger().issuer(&membership.standing.node).is_some();
        if named && membership.issuer.is_none() { self.reopen() } else { Ok(()) }
    }
}

/// The head of an answer, verified.
fn offered_head(
    membership: &Membership,
    head: Option<Base64>,
) -> Result<Option<SignedHead>, Refused> {
    let Some(Base64(bytes)) = head else { return Ok(None) };
    Ok(Some((membership.verified(&bytes)?, bytes)))
}

/// What is stored of a head.
fn values((head, bytes): &SignedHead) -> Vec<(&'static str, Vec<u8>)> {
    vec![(LEDGER_HEAD, bytes.clone()), (TERM, head.term.to_be_bytes().to_vec())]
}

fn another_snapshot() -> Refused {
    let text = "expected a snapshot of the own mesh that comes to its signed head, got another";
    Refused::new(ErrorCode::Refused, text)
}

fn follow(error: FollowError) -> Refused {
    let code = match &error {
        FollowError::Journal(_) => ErrorCode::Storage,
        FollowError::Gap { .. } | FollowError::Parted { .. } => ErrorCode::Refused,
    };
    Refused::new(code, error.to_string())
}
