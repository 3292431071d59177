//! What followers take, and taking it.

use hypermesh_api::{Base64, BundleReply, Command, Commands, ErrorCode, FoundReply, Snapshot};
use hypermesh_consensus::{Entry, FollowError, Ledger};

use super::{Core, Standing};
use crate::refused::Refused;
use crate::store::{BUNDLE, Change, SNAPSHOT, STANDING};
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
        let height = self.mesh()?.chain.ledger().height();
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
        Ok(Commands { commands: entries.into_iter().map(command).collect(), height })
    }

    /// The ledger as it is now.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn snapshot(&mut self) -> Result<Snapshot, Refused> {
        let ledger = self.mesh()?.chain.ledger();
        Ok(Snapshot { height: ledger.height(), ledger: Base64(ledger.snapshot()) })
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

    /// Takes commands from the sequencer; each must come to the hash that it came to there.
    ///
    /// # Errors
    /// When they do not follow: nothing of the first that fails is taken.
    pub fn take_commands(&mut self, commands: Commands) -> Result<(), Refused> {
        for command in commands.commands {
            let state_hash = command.state_hash.0.as_slice().try_into().map_err(|_| {
                Refused::new(ErrorCode::Invalid, "expected a state hash of 32 bytes")
            })?;
            let entry = Entry { height: command.height, command: command.command.0, state_hash };
            let membership = self.mesh()?;
            membership.chain.take(&entry).map_err(follow)?;
        }
        self.adopt_issuer()
    }

    /// Goes on from a snapshot of the sequencer's ledger, where the journal was trimmed.
    ///
    /// # Errors
    /// When it is none, of another mesh, or older.
    pub fn take_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), Refused> {
        let own = self.mesh()?.chain.ledger();
        let ledger = Ledger::restore(&snapshot.ledger.0).map_err(Refused::internal)?;
        let same = ledger.mesh().map(|mesh| &mesh.id) == own.mesh().map(|mesh| &mesh.id);
        if !same || ledger.height() < own.height() {
            let text = "expected a newer snapshot of the own mesh, got another";
            return Err(Refused::new(ErrorCode::Refused, text));
        }
        let values = vec![(SNAPSHOT, snapshot.ledger.0.clone())];
        let trim = Some(ledger.height());
        self.store.write(&Change { values, trim, ..Change::default() })?;
        self.reopen()
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
        self.founded()
    }

    /// Begins to issue when the ledger says that this node does.
    fn adopt_issuer(&mut self) -> Result<(), Refused> {
        let membership = self.mesh()?;
        let named = membership.chain.ledger().issuer(&membership.standing.node).is_some();
        if named && membership.issuer.is_none() { self.reopen() } else { Ok(()) }
    }
}

fn follow(error: FollowError) -> Refused {
    let code = match &error {
        FollowError::Journal(_) => ErrorCode::Storage,
        FollowError::Gap { .. } | FollowError::Parted { .. } => ErrorCode::Refused,
    };
    Refused::new(code, error.to_string())
}
