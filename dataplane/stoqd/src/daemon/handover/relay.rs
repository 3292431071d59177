//! What a process holds for the next one, and how far a hand-over has come.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use anyhow::Result;
use stoq::control::BootId;
use stoq_control::{ErrorCode, Refusal};

use super::super::servers::{Listeners, Serving};
use super::super::shared::Shared;
use crate::inherit::{Estate, VERSION, Will};
use crate::manager;

/// How long a hand-over waits for the process before to end: some 4 s without streams.
const ELDER_PATIENCE: Duration = Duration::from_secs(10);

/// How long an end waits for that of a hand-over: its longest step is one answer of the heir, 10 s.
const ENDING_PATIENCE: Duration = Duration::from_secs(15);

/// How far a hand-over has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Another process carries the traffic, and this one comes up beside it.
    Succeeding,
    /// This process carries the traffic, and no other one is there.
    Alone,
    /// It has taken over, and the one before takes what is still on the way to it.
    ElderLives,
    /// It hands over.
    HandingOver,
    /// Another one carries the traffic.
    Left,
    /// It is to end, as soon as it has taken everything back, or has left.
    Ending,
    /// It ends.
    Ended,
}

/// A run of this program.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Run {
    /// The run, as peers know it.
    pub boot: BootId,
    /// The number of this process in connection IDs.
    pub generation: u16,
    /// The MTU of the tunnel device, if there is one.
    pub mtu: Option<u16>,
}

/// What is made once, at the start.
pub(in super::super) struct Relay {
    /// Descriptors for the next process.
    pub estate: Estate,
    /// A listening socket of each address: packets are steered among all at that address through it.
    pub group: Vec<OwnedFd>,
    /// This run.
    pub run: Run,
    listeners: Listeners,
    serving: Mutex<Option<Serving>>,
    phase: Mutex<Phase>,
    /// The process before has ended, or a hand-over.
    changed: Condvar,
    /// The daemon, to start its servers again.
    daemon: OnceLock<Weak<Shared>>,
}

impl Relay {
    pub fn new(
        estate: Estate,
        group: Vec<OwnedFd>,
        run: Run,
        listeners: Listeners,
        has_elder: bool,
    ) -> Self {
        let phase = if has_elder { Phase::Succeeding } else { Phase::Alone };
        Self {
            estate,
            group,
            run,
            listeners,
            serving: Mutex::default(),
            phase: Mutex::new(phase),
            changed: Condvar::new(),
            daemon: OnceLock::new(),
        }
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
            Phase::Succeeding | Phase::Alone | Phase::ElderLives => Ok(()),
            Phase::HandingOver | Phase::Ending => {
                Err(busy("expected no hand-over under way, got one; ask again in some seconds"))
            }
            Phase::Left => Err(busy("this process has handed over; connect again, to the new one")),
            Phase::Ended => Err(busy("expected a process that goes on, but it was told to end")),
        }
    }

    /// Whether this process sets what both share: the routes, the size of the device.
    pub(in super::super) fn is_in_charge(&self) -> bool {
        *self.relay.phase() != Phase::Succeeding
    }

    /// Carries the traffic from now on, and sets what both processes share.
    pub(super) fn take_charge(&self) -> Result<()> {
        *self.relay.phase() = Phase::ElderLives;
        self.broker().keep_routes(false)?;
        if let Some(mtu) = self.relay.run.mtu {
            self.broker().set_mtu(mtu)?;
        }
        self.use_peers()
    }

    /// Waits a moment for the process before.
    pub(super) fn begin_hand_over(&self) -> Result<(), Refusal> {
        let phase = self.relay.phase();
        let lives = |phase: &mut Phase| *phase == Phase::ElderLives;
        let waited = self.relay.changed.wait_timeout_while(phase, ELDER_PATIENCE, lives);
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
            Phase::Succeeding | Phase::HandingOver | Phase::Left => {
                Err(busy("expected no other hand-over, got one under way; wait for its end"))
            }
            Phase::Ending | Phase::Ended => {
                Err(busy("expected a process that goes on, but it was told to end"))
            }
        }
    }

    pub(super) fn end_hand_over(&self, done: bool) {
        let mut phase = self.relay.phase();
        *phase = match *phase {
            _ if done => Phase::Left,
            Phase::Ending => Phase::Ended,
            _ => Phase::Alone,
        };
        self.relay.changed.notify_all();
    }

    /// Whether a hand-over that is under way has to be given up.
    pub(super) fn is_ending(&self) -> bool {
        *self.relay.phase() == Phase::Ending
    }

    /// Has none begin any more, and waits for the end of one that is under way. Returns whether another
    /// process carries the traffic.
    pub(in super::super) fn end_hand_overs(&self) -> bool {
        let mut phase = self.relay.phase();
        *phase = match *phase {
            Phase::Left => return true,
            Phase::HandingOver => Phase::Ending,
            _ => Phase::Ended,
        };
        let under_way = |phase: &mut Phase| *phase == Phase::Ending;
        let waited = self.relay.changed.wait_timeout_while(phase, ENDING_PATIENCE, under_way);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == Phase::Left
    }

    pub(super) fn elder_is_gone(&self) {
        let mut phase = self.relay.phase();
        if *phase == Phase::ElderLives {
            *phase = Phase::Alone;
            self.relay.changed.notify_all();
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
