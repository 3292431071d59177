//! What a process holds for the next one, and how far a hand-over has come.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use anyhow::Result;
use stoq::control::BootId;
use stoq_control::{ErrorCode, Refusal};

use super::super::servers::{Listeners, Serving};
use super::super::shared::Shared;
use crate::broker::Channel;
use crate::inherit::{Estate, VERSION, Will};
use crate::manager;

/// How long a hand-over waits for the process before to end: some 4 s without streams.
const ELDER_PATIENCE: Duration = Duration::from_secs(10);

/// How far a hand-over has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// This process carries the traffic, and no other one is there.
    Alone,
    /// It has taken over, and the one before takes what is still on the way to it.
    ElderLives,
    /// It hands over.
    HandingOver,
    /// Another one carries the traffic.
    Left,
}

/// What is made once, at the start.
pub(in super::super) struct Relay {
    /// Descriptors for the next process.
    pub estate: Estate,
    /// A listening socket of each address: packets are steered among all at that address through it.
    pub group: Vec<OwnedFd>,
    /// The run, as peers know it.
    pub boot: BootId,
    /// The number of this process in connection IDs.
    pub generation: u16,
    listeners: Listeners,
    serving: Mutex<Option<Serving>>,
    phase: Mutex<Phase>,
    /// The process before has ended.
    alone: Condvar,
    /// To the process that took over, open until this one ends.
    heir: OnceLock<Channel>,
    /// The daemon, to start its servers again.
    daemon: OnceLock<Weak<Shared>>,
}

impl Relay {
    pub fn new(
        estate: Estate,
        group: Vec<OwnedFd>,
        run: (BootId, u16),
        listeners: Listeners,
        has_elder: bool,
    ) -> Self {
        let phase = if has_elder { Phase::ElderLives } else { Phase::Alone };
        Self {
            estate,
            group,
            boot: run.0,
            generation: run.1,
            listeners,
            serving: Mutex::default(),
            phase: Mutex::new(phase),
            alone: Condvar::new(),
            heir: OnceLock::new(),
            daemon: OnceLock::new(),
        }
    }

    /// Keeps the channel to the process that took over until this one ends.
    pub fn keep(&self, heir: Channel) {
        // There is one at most: nothing is handed over twice.
        let _second = self.heir.set(heir);
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving(&self) -> MutexGuard<'_, Option<Serving>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy(why: &str) -> Refusal {
    Refusal::new(ErrorCode::Busy, why)
}

impl Shared {
    /// Refuses what would change state that another process has read, or owns.
    pub(in super::super) fn may_change(&self) -> Result<(), Refusal> {
        match *self.relay.phase() {
            Phase::Alone | Phase::ElderLives => Ok(()),
            Phase::HandingOver => {
                Err(busy("expected no hand-over under way, got one; ask again in some seconds"))
            }
            Phase::Left => Err(busy("this process has handed over; connect again, to the new one")),
        }
    }

    /// Waits a moment for the process before.
    pub(super) fn begin_hand_over(&self) -> Result<(), Refusal> {
        let phase = self.relay.phase();
        let lives = |phase: &mut Phase| *phase == Phase::ElderLives;
        let waited = self.relay.alone.wait_timeout_while(phase, ELDER_PATIENCE, lives);
        let (mut phase, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match *phase {
            Phase::Alone => {
                *phase = Phase::HandingOver;
                Ok(())
            }
            Phase::ElderLives => Err(busy(
                "expected the process before this one to have ended, but it still has streams of peers; ask \
                 again when they have ended (after an hour at most), or stop that process",
            )),
            Phase::HandingOver | Phase::Left => {
                Err(busy("expected no other hand-over, got one under way; wait for its end"))
            }
        }
    }

    pub(super) fn end_hand_over(&self, done: bool) {
        *self.relay.phase() = if done { Phase::Left } else { Phase::Alone };
    }

    pub(super) fn elder_is_gone(&self) {
        let mut phase = self.relay.phase();
        if *phase == Phase::ElderLives {
            *phase = Phase::Alone;
            self.relay.alone.notify_all();
        }
    }

    /// Whether another process carries the traffic.
    pub(in super::super) fn has_left(&self) -> bool {
        *self.relay.phase() == Phase::Left
    }

    /// Serves control socket and metrics.
    pub(in super::super) fn start_serving(self: &Arc<Self>) -> Result<()> {
        self.relay.daemon.get_or_init(|| Arc::downgrade(self));
        *self.relay.serving() = Some(self.relay.listeners.serve(self)?);
        Ok(())
    }

    /// Leaves both to another process; whoever is being answered is answered.
    pub(super) fn stop_serving(&self) {
        if let Some(serving) = &*self.relay.serving() {
            serving.stop();
        }
    }

    /// Serves again if it was stopped.
    pub(super) fn serve_again(&self) {
        let stopped = self.relay.serving().as_ref().is_some_and(Serving::is_stopped);
        let daemon = self.relay.daemon.get().and_then(Weak::upgrade);
        let Some(daemon) = daemon.filter(|_| stopped) else { return };
        if let Err(error) = daemon.start_serving() {
            tracing::error!("the control socket is lost; restart stoqd: {error:#}");
        }
    }

    /// Has the service manager keep what the next process cannot see from the device.
    pub(in super::super) fn leave_will(&self) -> Result<()> {
        let will = Will { version: VERSION, routes: self.broker().routes(), living: None };
        manager::store_will(&will.to_fd()?);
        Ok(self.broker().keep_routes(true)?)
    }

    /// Waits a moment for the last answers of a server that was stopped.
    pub(in super::super) fn wait_for_answers(&self) {
        let serving = self.relay.serving().take();
        if let Some(serving) = serving.filter(Serving::is_stopped) {
            serving.wait();
        }
    }
}
