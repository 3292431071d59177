//! The heir's part: takes what the elder gives, says when it has the links, and carries on.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stoq::control::BootId;

use super::super::shared::Shared;
use super::{Built, MISSING_MAX, TELL_EVERY_MS, ToElder, ToHeir, receive, send};
use crate::broker::Channel;
use crate::inherit::{Inherited, Living};
use crate::manager;
use crate::worker::{Command, Step};

/// How long a link has been up when it counts: a peer that takes it for the lesser half of a simultaneous
/// dial refuses it within a round trip of HELLO, and the elder must not be gone then. And as long as a peer
/// that hands over next would have its own connections taken for one, beside ours.
const STEADY: Duration = stoq::SIMULTANEOUS;

/// The process that this one takes over from.
pub(in super::super) struct Elder {
    channel: Channel,
    living: Living,
}

/// What was left to this process: by an elder that runs, or through the service manager.
///
/// # Errors
/// When an elder started this process and does not say what it hands over.
pub(in super::super) fn inherit() -> Result<(Inherited, Option<Elder>)> {
    let Some(channel) = Channel::to_elder().context("reaching the process before")? else {
        return Ok((manager::inherited(), None));
    };
    let (message, fds) =
        receive(&channel).context("waiting for what the process before hands over")?;
    let ToHeir::Will(kinds) = message else {
        bail!("expected what is handed over, got {message:?}")
    };
    let mut inherited = Inherited::new(kinds.into_iter().zip(fds))?;
    inherited.has_elder = true;
    let living = inherited.will.living.take().context("expected an elder that lives, got none")?;
    Ok((inherited, Some(Elder { channel, living })))
}

impl Elder {
    /// The boot identity under which this process goes on, and the elder's number in connection IDs.
    pub fn run(&self) -> (BootId, u16) {
        (self.living.boot(), self.living.generation)
    }

    /// Whether its packets went past the kernel.
    pub fn had_bypass(&self) -> bool {
        self.living.bypass
    }

    /// Says how many workers there will be, and waits until the sockets may be opened.
    pub fn announce(&self, workers: u16) -> Result<()> {
        let workers = u8::try_from(workers).context("more workers than a link has slots")?;
        send(&self.channel, &ToElder::Workers(workers), &[])?;
        match receive(&self.channel).context("waiting for packets to be steered")?.0 {
            ToHeir::Steered => Ok(()),
            other => bail!("expected packets to be steered, got {other:?}"),
        }
    }

    /// Tells which links it lacks until the elder lets go, and carries the traffic from then on.
    ///
    /// # Errors
    /// When the elder goes on by itself, or a worker has failed.
    pub fn take_over(self, shared: &Arc<Shared>) -> Result<()> {
        self.wait_for_go(shared).context("the process before goes on")?;
        shared.take_charge().context("taking the tunnel device over")?;
        shared.send_all(|| Command::HandOver(Step::Serve));
        shared.start_serving()?;
        if !shared.is_well() {
            bail!("expected every worker to answer, got one that has failed or is stuck");
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        send(&self.channel, &ToElder::Serving { version }, &[])?;
        tracing::info!(node = shared.node(), "took over");
        self.watch(Arc::clone(shared))
    }

    fn wait_for_go(&self, shared: &Shared) -> io::Result<()> {
        let mut up = HashMap::new();
        loop {
            let built = self.built(shared, &mut up);
            send(&self.channel, &ToElder::Built(built), &[])?;
            if self.channel.wait(TELL_EVERY_MS)? {
                return match receive(&self.channel)?.0 {
                    ToHeir::Go => Ok(()),
                    other => Err(io::Error::other(format!("expected to go on, got {other:?}"))),
                };
            }
        }
    }

    /// What lacks of the elder's links, but those to peers that the configuration has no more. `wholly` is
    /// since when each is up on all workers.
    fn built(&self, shared: &Shared, wholly: &mut HashMap<String, Instant>) -> Built {
        let (now, here) = (Instant::now(), shared.links_up());
        wholly.retain(|name, _| here.wholly.contains(name));
        for name in &here.wholly {
            wholly.entry(name.clone()).or_insert(now);
        }
        let names: HashSet<String> =
            shared.peer_names().into_iter().map(|(_, name)| name).collect();
        let is_steady = |name: &str| wholly.get(name).is_some_and(|&since| now - since >= STEADY);
        let mut built = Built { silent: here.silent, ..Built::default() };
        let wanted = self.living.links.iter().filter(|name| names.contains(*name));
        for (count, name) in wanted.filter(|name| !is_steady(name)).enumerate() {
            let kind = if here.partly.contains(name) { &mut built.partly } else { &mut built.none };
            match count {
                0..MISSING_MAX => kind.push(name.clone()),
                _ => built.more += 1,
            }
        }
        built
    }

    /// Waits for the elder's end on a thread, and takes what only one process can have.
    fn watch(self, shared: Arc<Shared>) -> Result<()> {
        let thread = std::thread::Builder::new().name("elder".into());
        let wait = move || {
            // It says nothing more: what wakes this is its end.
            while matches!(self.channel.wait(u16::MAX), Ok(false)) {}
            tracing::info!("the process before has ended");
            if let Err(error) = shared.steer(None) {
                tracing::warn!("{error}; workers hand packets over to each other instead");
            }
            shared.set_bypass_aside(false);
            shared.elder_is_gone();
        };
        thread.spawn(wait).context("starting to wait for the process before")?;
        Ok(())
    }
}
