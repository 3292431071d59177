//! The state that a mesh agrees on, and the one way to change it.
//!
//! A command is carried out in a transaction over the tables: `stage` changes them (or, when a rule
//! is broken, leaves everything as it was), and whoever staged commits once the command is written,
//! or rolls back. The rules themselves are in the modules by subject; what the rows mean is in
//! `state`.

mod founding;
mod membership;
mod operators;
mod revocation;
mod routes;
mod snapshot;
mod state;
mod tokens;

#[cfg(test)]
mod tests;

use ipnet::IpNet;

pub use snapshot::{SNAPSHOT_MAX_BYTES, SnapshotError};
pub use state::{
    Addresses, Issuer, Member, Mesh, Operator, Revocation, Revoked, RevokedKind, Token,
};
pub use tokens::TOKEN_LIFE_MAX_S;

use crate::command::{Command, CommandV1};
use crate::effect::Effect;
use crate::hash::{Domain, hash};
use crate::rejected::Rejected;
use crate::table::{Table, encode};
use state::Retired;

/// Most members: a mesh is sized for 10,000; the rest is room to grow until that is measured.
pub const MEMBERS_MAX: usize = 16 * 1024;
/// Most open tokens at a time: a batch of hosts that are set up together, not a mesh's size.
pub const TOKENS_MAX: usize = 4096;
/// Most issuers: each node looks at the log of every one, so they are few.
pub const ISSUERS_MAX: usize = 16;
/// Most operators.
pub const OPERATORS_MAX: usize = 1024;
/// Most revoked keys: at most 110 bytes each, so that the signed set stays under 1 MiB.
pub const REVOCATIONS_MAX: usize = 8192;
/// Most networks behind one member.
pub const ROUTES_MAX: usize = 64;
/// Most networks behind all members together: it bounds what each node has to look up in.
pub const ROUTES_TOTAL_MAX: usize = 64 * 1024;
/// Most endpoints of a member: a few uplinks, each with an address of either family.
pub const ENDPOINTS_MAX: usize = 8;
/// Largest certificate, bytes of DER: the verifier reads no larger one.
pub const CERTIFICATE_MAX_BYTES: usize = 16 * 1024;

/// The numbers of the state that are not in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    /// Commands that were carried out.
    height: u64,
    /// Hash chain over them.
    history: [u8; 32],
    /// Sequence of the set of revocations; 0 before the mesh begins.
    sequence: u64,
    /// The highest address index that was ever given.
    last_index: u32,
}

/// What a mesh agrees on.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    mesh: Option<Mesh>,
    /// Hash of `mesh`, which never changes once it is there.
    mesh_hash: [u8; 32],
    counters: Counters,
    /// The counters before the staged command.
    saved: Option<Counters>,
    members: Table<String, Member>,
    tokens: Table<String, Token>,
    issuers: Table<String, Issuer>,
    operators: Table<String, Operator>,
    /// Each network and the member that it lies behind. No two overlap.
    routes: Table<IpNet, String>,
    /// Each address index that can not be given, and for whom it is held.
    indexes: Table<u32, String>,
    /// Keys in use, and by whom.
    keys: Table<[u8; 32], String>,
    revocations: Table<[u8; 32], Revocation>,
    /// Names that never come back.
    retired: Table<String, Retired>,
}

/// Runs one method of every table.
macro_rules! every_table {
    ($ledger:ident.$method:ident()) => {{
        $ledger.members.$method();
        $ledger.tokens.$method();
        $ledger.issuers.$method();
        $ledger.operators.$method();
        $ledger.routes.$method();
        $ledger.indexes.$method();
        $ledger.keys.$method();
        $ledger.revocations.$method();
        $ledger.retired.$method();
    }};
}

impl Ledger {
    /// Carries out a command. One that changes nothing (an enrolment that is repeated, endpoints
    /// that are as they were) has an effect but takes no height.
    ///
    /// # Errors
    /// The first rule that it breaks; then nothing has changed.
    pub fn apply(&mut self, command: &Command) -> Result<Effect, Rejected> {
        let effect = self.stage(command, &encode(command))?;
        self.commit();
        Ok(effect)
    }

    /// Carries out a command whose canonical encoding is `bytes`, until [`Self::commit`] or
    /// [`Self::roll_back`]. When it fails, nothing has changed and neither is due.
    pub(crate) fn stage(&mut self, command: &Command, bytes: &[u8]) -> Result<Effect, Rejected> {
        assert!(self.saved.is_none(), "a command was staged and neither committed nor rolled back");
        self.saved = Some(self.counters);
        let Command::V1(command) = command;
        let effect = self.run(command).inspect_err(|_| self.roll_back())?;
        if self.is_touched() {
            self.counters.height += 1;
            self.counters.history = hash(Domain::History, &[&self.counters.history, bytes]);
        }
        Ok(effect)
    }

    pub(crate) fn commit(&mut self) {
        self.saved = None;
        every_table!(self.commit());
    }

    pub(crate) fn roll_back(&mut self) {
        if let Some(saved) = self.saved.take() {
            self.counters = saved;
        }
        if self.counters.height == 0 {
            (self.mesh, self.mesh_hash) = (None, [0; 32]);
        }
        every_table!(self.roll_back());
    }

    fn is_touched(&self) -> bool {
        self.members.is_touched()
            || self.tokens.is_touched()
            || self.issuers.is_touched()
            || self.operators.is_touched()
            || self.revocations.is_touched()
    }

    fn run(&mut self, command: &CommandV1) -> Result<Effect, Rejected> {
        use CommandV1 as C;
        match command {
            C::Found { mesh, name, prefix, ipv4, policy, root, founder, at_s } => {
                let (mesh, name, root) = (mesh.clone(), name.clone(), root.clone());
                let policy = *policy;
                let mesh = Mesh { id: mesh, name, prefix: *prefix, ipv4: *ipv4, policy, root };
                self.found(mesh, founder, *at_s)
            }
            C::AddIssuer { node, keys, certificate, log, log_certificate } => {
                let (certificate, log_certificate) = (certificate.clone(), log_certificate.clone());
                let issuer = Issuer { keys: *keys, certificate, log: *log, log_certificate };
                self.add_issuer(node, issuer)
            }
            C::CreateToken { hash, node, role, expires_at_s, at_s } => {
                self.create_token(*hash, node, *role, *expires_at_s, *at_s)
            }
            C::DropToken { node } => self.drop_token(node),
            C::Enrol { token, node, keys, endpoints, at_s } => {
                self.enrol(*token, node, *keys, endpoints, *at_s)
            }
            C::SetEndpoints { node, endpoints } => self.set_endpoints(node, endpoints),
            C::AddRoute { node, prefix } => self.add_route(node, *prefix),
            C::RemoveRoute { node, prefix } => self.remove_route(node, *prefix),
            C::Revoke { node, at_s } => self.revoke(node, *at_s),
            C::KeepRevoked { keys, kind, node, at_s, sequence } => {
                let sequence = *sequence;
                let (kind, node, at_s) = (*kind, node.clone(), *at_s);
                self.keep_revoked(*keys, Revocation { kind, node, at_s, sequence })
            }
            C::SetRole { operator, keys, role, at_s } => {
                self.set_role(operator, *keys, *role, *at_s)
            }
            C::Leave { node, at_s } => self.leave(node, *at_s),
        }
    }

    /// The hash of the whole state. Two ledgers with the same hash have carried out the same
    /// commands in the same order and hold the same.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let Counters { height, history, sequence, last_index } = self.counters;
        hash(
            Domain::State,
            &[
                &height.to_be_bytes(),
                &history,
                &sequence.to_be_bytes(),
                &last_index.to_be_bytes(),
                &self.mesh_hash,
                &self.members.root(),
                &self.tokens.root(),
                &self.issuers.root(),
                &self.operators.root(),
                &self.routes.root(),
                &self.indexes.root(),
                &self.keys.root(),
                &self.revocations.root(),
                &self.retired.root(),
            ],
        )
    }

    /// How many commands were carried out; 0 before the mesh is founded.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.counters.height
    }
}
