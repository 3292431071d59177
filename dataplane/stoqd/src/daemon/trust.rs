//! The mesh's signed state in the daemon: how it is put in force, whoever it came from.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam::channel::{Receiver, Sender};
use stoq::task::Task;
use stoq::tls::Credentials;
use stoq_control::{Certificate, Refusal, Snapshot};
use stoq_identity::{Policy, Span};
use stoq_mesh::Signers;
use stoq_telemetry::Drops;

use super::identity::{check, credentials, described};
use super::shared::{Held, Shared, certificates, refused};
use crate::config::Config;
use crate::control::PushedPeers;
use crate::mesh::{Keeper, LogCheck, MeshError, Opened, Rules};
use crate::worker::{Command, Errand};

/// Puts in force what was in force before the restart, and checks this node's own certificate by it.
/// Returns the credentials for workers, too.
pub(super) fn restore(
    config: &Config,
    own: &Credentials,
    pushed: &mut PushedPeers,
    heads: Sender<Errand>,
) -> Result<(Keeper, LogCheck, Credentials)> {
    let grace = Duration::from_secs(config.identity.log_grace_s.into());
    let signers = Signers::new(own.identity.id().mesh(), own.policy);
    let logs = LogCheck::new(Rules { signers, has_logs: false, grace }, own.clock, heads);
    let (state, drops) = (&config.transport.state, Arc::new(Drops::default()));
    let mut keeper = Keeper::open(state, own, grace, logs.clone(), drops)?;
    keeper.set_outlive(Duration::from_secs(config.identity.outlive_issuer_s.into()));
    if let Some(bundle) = pushed.bundle().map(str::to_owned) {
        match keeper.restore(&bundle) {
            Ok(members) => pushed.set_members(members),
            Err(error) => tracing::error!("the mesh's members are left out: {error}"),
        }
    }
    let credentials = keeper.credentials()?;
    check(&credentials)?;
    Ok((keeper, logs, credentials))
}

/// Starts the thread that takes in what peers say of the mesh. It ends when every worker has.
pub(super) fn start(errands: Receiver<Errand>, shared: Arc<Shared>) -> Result<()> {
    let thread = std::thread::Builder::new().name("mesh".into());
    let serve = move || {
        for (_, task) in errands {
            shared.take_in(task);
        }
    };
    thread.spawn(serve).context("starting the keeper of the mesh's state")?;
    Ok(())
}

impl Shared {
    /// Takes in what a peer says.
    fn take_in(&self, task: Task) {
        let names = self.peer_names();
        let name = |peer| {
            let known = names.iter().find(|(id, _)| *id == peer);
            known.map_or("a removed peer", |(_, name)| name.as_str()).to_owned()
        };
        let mut held = self.held();
        match task {
            Task::Revocations { peer, sequence, set } => {
                match held.keeper.receive(sequence, &set) {
                    Ok(false) => {}
                    Ok(true) => {
                        tracing::info!(sequence, from = name(peer), "revocations");
                        self.use_revocations(&mut held);
                        self.write_down(&held);
                    }
                    Err(error) => tracing::warn!(from = name(peer), "revocations: {error}"),
                }
            }
            Task::State { peer, state } => held.keeper.hear_all(&state.heads, &name(peer)),
            Task::Sign(_) | Task::Verify(_) => {}
        }
    }

    /// Workers cut off who is revoked, before anything else is done; then they go from the peers.
    fn use_revocations(&self, held: &mut Held) {
        self.send_mesh(held);
        let members = held.keeper.members();
        held.pushed.set_members(members);
        if let Err(error) = self.use_peers_of(held) {
            tracing::error!("the peers stay as they were: {error:#}");
        }
    }

    /// Writes the revocations in force down, unless another process of this node does so.
    fn write_down(&self, held: &Held) {
        if self.may_change().is_ok()
            && let Err(error) = held.keeper.write_down()
        {
            tracing::error!("revocations are in force, but will be lost by a restart: {error}");
        }
    }

    /// Takes expired certificates for so long from now on, on links that are up too.
    pub(super) fn use_outlive(&self, held: &mut Held) -> Result<(), MeshError> {
        let outlive = Duration::from_secs(held.config.identity.outlive_issuer_s.into());
        if held.keeper.set_outlive(outlive) {
            let credentials = held.keeper.credentials()?;
            self.send_all(|| Command::Issuers(credentials.clone()));
        }
        Ok(())
    }

    /// Tells workers the mesh's state.
    pub(super) fn send_mesh(&self, held: &Held) {
        let mesh = held.keeper.mesh();
        self.send_all(|| Command::Mesh(Arc::clone(&mesh)));
    }

    /// Puts a snapshot in force. Returns what was left out of it.
    pub(super) fn push_now(&self, snapshot: Snapshot) -> Result<Vec<String>, Refusal> {
        let opening = self.held().keeper.opening();
        // Not under the lock: a large mesh's takes a second.
        let opened = snapshot.bundle.as_deref().map(|text| opening.open(text)).transpose();
        let mut held = self.held();
        let done =
            opened.map_err(refused).and_then(|opened| self.take(&mut held, snapshot, opened));
        if let Err(refusal) = &done {
            held.keeper.count_refused_push();
            tracing::warn!("a push was refused: {}", refusal.message);
        }
        done
    }

    fn take(
        &self,
        held: &mut Held,
        snapshot: Snapshot,
        opened: Option<Opened>,
    ) -> Result<Vec<String>, Refusal> {
        let members = opened.as_ref().map(Opened::members).unwrap_or_default();
        if let Some(opened) = &opened {
            held.keeper.prepare(opened).map_err(refused)?;
            self.send_mesh(held);
        }
        held.pushed.push(snapshot, members, &held.config)?;
        if let Some(opened) = opened {
            let members = held.keeper.use_bundle(opened);
            held.pushed.set_members(members);
            let credentials = held.keeper.credentials().map_err(refused)?;
            self.send_all(|| Command::Issuers(credentials.clone()));
            self.send_mesh(held);
        }
        let (_, left_out) = held.pushed.merged(&held.config);
        self.use_peers_of(held).map_err(refused)?;
        Ok(left_out)
    }

    /// Uses the identity that is in the files now, if it is another one.
    pub(super) fn renew(&self, held: &mut Held) -> Result<Credentials> {
        let policy = held.policy;
        let own = credentials(&held.config, policy, self.broker())?;
        let before = held.keeper.set_credentials(own);
        let renewed = held.keeper.credentials().map_err(MeshError::into);
        let renewed = renewed.and_then(|renewed| check(&renewed).map(|()| renewed));
        let renewed = match renewed {
            Ok(renewed) => renewed,
            Err(error) => {
                held.keeper.set_credentials(before);
                return Err(error);
            }
        };
        let found = certificates(&renewed);
        if found != held.certificates {
            held.certificates = found;
            self.send_all(|| Command::Credentials(renewed.clone()));
            tracing::info!(until = ?renewed.identity.not_after(), "another certificate is in use");
        }
        Ok(renewed)
    }

    /// This node's certificate.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        let held = self.held();
        held.keeper.credentials().ok().map(|credentials| described(&credentials))
    }

    /// What the operator must look at in the mesh's state. `newest` is the highest sequence of a set
    /// of revocations that a connected peer has named.
    pub(super) fn mesh_warnings(&self, newest: Option<u64>) -> Vec<String> {
        let held = self.held();
        let mut warnings = held.keeper.warnings();
        let known = held.keeper.sequence().unwrap_or(0);
        if let Some(newest) = newest.filter(|newest| *newest > known) {
            warnings.push(format!(
                "the set of revocations is stale: {known} is in force, and a peer has {newest}; it is \
                 being fetched, look for `revocations` in the log if this stays"
            ));
        }
        let Ok(credentials) = held.keeper.credentials() else { return warnings };
        let identity = &credentials.identity;
        match identity.not_after().duration_since((credentials.clock)()) {
            Err(_) => warnings.push(
                "this node's certificate has expired: new links are refused; renew it".to_owned(),
            ),
            Ok(left) if left < EXPIRES_SOON => warnings
                .push(format!("this node's certificate expires in {}; renew it", Span(left))),
            Ok(_) => {}
        }
        let lacks_proof = held.keeper.has_logs() && identity.log_proof().is_none();
        if lacks_proof && credentials.policy == Policy::Hybrid {
            warnings.push(
                "this node's certificate came without a proof of its log: peers refuse it after a \
                 grace period; renew it"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Time left to a certificate below which the operator is told: those of a mesh live a day and are renewed
/// with a third of it left.
const EXPIRES_SOON: Duration = Duration::from_secs(4 * 3600);
