//! The way past the kernel, kept true while the host changes: a thread that listens to the kernel's
//! changes, tells the workers' ports their next hops, and takes the lanes away and gives them back as
//! the interface goes and comes. Workers go on through the port beneath meanwhile, with all links.

mod attach;
mod compare;
mod resolve;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use stoq_port::xdp::NextHops;

pub(super) use self::attach::{Attachment, attach};
pub(super) use self::compare::compare;
use self::resolve::Resolver;
use crate::broker::{Broker, ConnectionIds};
use crate::netlink::{Change, Monitor};
use crate::worker::{Command, Handle};

/// Least time between two looks at all next hops: a storm of route changes must not keep a core busy.
const SETTLE: Duration = Duration::from_millis(20);

/// Why packets go through the kernel while two processes are there.
const ASIDE: &str = "another process takes over, or has not ended yet";

/// Between two attempts to attach again while the interface is there.
const RETRY: Duration = Duration::from_secs(1);

/// How packets go now, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Past the kernel, in this mode.
    Active(String),
    /// Through the port beneath, and why.
    Beneath(String),
}

/// What the rest of the daemon sees of it.
pub(super) struct Bypass(Arc<Outside>);

/// What others look at and set.
struct Outside {
    state: Mutex<State>,
    /// The way is another process's now.
    aside: AtomicBool,
    /// Wakes the thread when that has changed.
    changed: EventFd,
}

impl Bypass {
    /// How packets go now.
    pub(super) fn state(&self) -> State {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves the way to another process, or takes it again; soon after.
    pub(super) fn set_aside(&self, aside: bool) {
        self.0.aside.store(aside, Ordering::Release);
        // It fails only at 2^64 - 1 unread wake-ups.
        let _ = self.0.changed.write(1);
    }
}

/// What the thread works with.
pub(super) struct Parts {
    pub broker: Arc<Broker>,
    /// The configured interface.
    pub interface: String,
    /// The mark of our packets.
    pub mark: u32,
    pub ids: ConnectionIds,
    pub workers: Vec<Handle>,
    pub hops: Arc<NextHops>,
}

/// Gives the workers their lanes and starts the thread.
///
/// # Errors
/// When the kernel's changes cannot be listened to, or there is no thread.
pub(super) fn start(parts: Parts, attachment: Option<Attachment>) -> anyhow::Result<Bypass> {
    let outside = Arc::new(Outside {
        state: Mutex::new(State::Beneath(ASIDE.to_owned())),
        aside: AtomicBool::new(attachment.is_none()),
        changed: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
    });
    let mut keeper = Keeper {
        monitor: Monitor::open()?,
        resolver: Resolver::new(parts.mark)?,
        parts,
        outside: Arc::clone(&outside),
        aside: attachment.is_none(),
        attached: None,
        stale: true,
        resolve_at: Instant::now(),
        attach_at: None,
    };
    if let Some(attachment) = attachment {
        keeper.use_lanes(attachment);
    }
    let thread = std::thread::Builder::new().name("bypass".into());
    thread.spawn(move || keeper.run())?;
    Ok(Bypass(outside))
}

/// What is attached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attached {
    interface: u32,
    mtu: u32,
}

/// The thread's own.
struct Keeper {
    parts: Parts,
    monitor: Monitor,
    resolver: Resolver,
    outside: Arc<Outside>,
    /// Whether the way was another process's when it was looked at last.
    aside: bool,
    attached: Option<Attached>,
    /// Next hops may have changed since they were looked at.
    stale: bool,
    /// When they may be looked at again.
    resolve_at: Instant,
    /// When to try to attach again, while nothing is attached and the interface is there.
    attach_at: Option<Instant>,
}

impl Keeper {
    fn run(mut self) {
        loop {
            if let Err(error) = self.turn() {
                // Without the kernel's changes hops would become false: better none.
                tracing::error!("{error}; packets go through the kernel until a restart");
                self.give_up(format!("the kernel's changes cannot be read: {error}"));
                return;
            }
        }
    }

    fn turn(&mut self) -> std::io::Result<()> {
        self.sleep()?;
        self.follow();
        for change in self.monitor.changes()? {
            self.note(&change);
        }
        self.parts.hops.clear();
        while let Some(destination) = self.parts.hops.wanted() {
            self.resolver.want(destination);
            self.stale = true;
        }
        let now = Instant::now();
        if !self.aside && self.attach_at.is_some_and(|at| at <= now) {
            self.attach_again(now);
        }
        self.resolve(now);
        Ok(())
    }

    /// Until something changed, a port asks, or something is due.
    fn sleep(&self) -> std::io::Result<()> {
        let attach_at = self.attach_at.filter(|_| !self.aside);
        let due = [self.stale.then_some(self.resolve_at), attach_at];
        let now = Instant::now();
        let until = due.into_iter().flatten().min().map(|at| at.saturating_duration_since(now));
        // Rounded up: a timeout of 0 ms would spin until the time has come.
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            PollTimeout::try_from(until + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.parts.hops.wake(), PollFlags::POLLIN),
            PollFd::new(self.outside.changed.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets go of the way for another process, or takes it again.
    fn follow(&mut self) {
        // An empty one is no error.
        let _ = self.outside.changed.read();
        let aside = self.outside.aside.load(Ordering::Acquire);
        match (self.aside, aside) {
            (false, true) => {
                tracing::info!("{ASIDE}: packets go through the kernel");
                self.give_up(ASIDE.to_owned());
                self.attach_at = None;
            }
            (true, false) => self.attach_at = Some(Instant::now()),
            _ => {}
        }
        self.aside = aside;
    }

    /// Publishes the next hops as they are now, if they may have changed.
    fn resolve(&mut self, now: Instant) {
        if !self.stale || self.resolve_at > now {
            return;
        }
        self.stale = false;
        self.resolve_at = now + SETTLE;
        if let Some(attached) = self.attached {
            self.parts.hops.publish(self.resolver.hops(attached.interface));
        }
    }

    fn note(&mut self, change: &Change) {
        self.stale = true;
        match change {
            Change::Link(link) if self.attached.is_none() => {
                if link.name == self.parts.interface && link.up {
                    self.attach_at.get_or_insert_with(Instant::now);
                }
            }
            Change::Link(link) => {
                let grown = |at: Attached| at.interface == link.index && link.mtu > at.mtu;
                if self.attached.is_some_and(grown) {
                    self.lose(format!("the MTU became {} bytes", link.mtu));
                    self.attach_at = Some(Instant::now());
                }
            }
            Change::Gone(index) => self.gone(*index),
            Change::Address => self.refresh(),
            Change::Way => {}
            Change::Unknown => {
                self.refresh();
                let index = self.attached.map(|at| at.interface);
                if let Some(index) = index.filter(|index| self.resolver.interface(*index).is_none())
                {
                    self.gone(index);
                }
            }
        }
    }

    fn gone(&mut self, index: u32) {
        if self.attached.is_some_and(|at| at.interface == index) {
            self.lose(format!("the interface {} is gone", self.parts.interface));
            // It may be back already, with another number.
            self.attach_at = Some(Instant::now());
        }
    }

    /// Lets the program know this host's addresses.
    fn refresh(&self) {
        if self.attached.is_some()
            && let Err(error) = self.parts.broker.refresh_xdp()
        {
            tracing::error!("{error}");
        }
    }

    /// Takes the lanes away: from here on packets go through the port beneath.
    fn lose(&mut self, reason: String) {
        tracing::warn!("{reason}: packets go through the kernel until xdp is attached again");
        self.give_up(reason);
    }

    fn give_up(&mut self, reason: String) {
        self.attached = None;
        self.parts.hops.publish(Default::default());
        for worker in &self.parts.workers {
            plug(worker, Vec::new());
        }
        if let Err(error) = self.parts.broker.detach_xdp() {
            tracing::error!("{error}");
        }
        self.set(State::Beneath(reason));
    }

    fn attach_again(&mut self, now: Instant) {
        let workers = self.parts.workers.len();
        match attach(&self.parts.broker, &self.parts.ids, workers) {
            Ok(attachment) => {
                tracing::info!(mode = attachment.mode, "xdp attached again");
                self.attach_at = None;
                self.use_lanes(attachment);
            }
            Err(error) => {
                let reason = error.to_string();
                if self.set(State::Beneath(reason.clone())) {
                    tracing::warn!("xdp is not attached: {reason}");
                }
                // Without the interface there is nothing to try before it is back.
                let there = nix::net::if_::if_nametoindex(&*self.parts.interface).is_ok();
                self.attach_at = there.then(|| now + RETRY);
            }
        }
    }

    fn use_lanes(&mut self, attachment: Attachment) {
        let Attachment { interface, mtu, mode, lanes } = attachment;
        let without = lanes.iter().filter(|lanes| lanes.is_empty()).count();
        if without > 0 {
            tracing::warn!(
                "{} has fewer queues than there are workers: {without} of them go through the \
                 kernel; run `stoqctl tune apply channels`, or set fewer workers",
                self.parts.interface
            );
        }
        for (worker, lanes) in self.parts.workers.iter().zip(lanes) {
            plug(worker, lanes);
        }
        self.attached = Some(Attached { interface, mtu });
        self.stale = true;
        self.set(State::Active(mode));
    }

    /// Returns whether the state is another than before.
    fn set(&self, state: State) -> bool {
        let mut held = self.outside.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *held != state;
        *held = state;
        changed
    }
}

fn plug(worker: &Handle, lanes: Vec<stoq_port::xdp::Lane>) {
    if let Err(error) = worker.send(Command::Plug(lanes)) {
        tracing::error!("{error}");
    }
}
