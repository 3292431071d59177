//! The service manager: what it is told (`sd_notify(3)`), and what it keeps of stoqd over a restart. Without
//! one all of this does nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::unistd::Pid;
use sd_notify::NotifyState;

use crate::broker;
use crate::inherit::{Estate, Inherited, Kind, Left};

/// Watchdog messages for each of its periods.
const PER_PERIOD: u32 = 3;

/// What the service manager kept.
#[must_use]
pub fn inherited() -> Inherited {
    let named = match sd_notify::listen_fds_with_names() {
        Ok(named) => named.collect::<Vec<_>>(),
        Err(error) => {
            tracing::warn!("what the service manager kept is left: {error}");
            return Inherited::default();
        }
    };
    let fds = broker::listen_fds(named).into_iter();
    // It is true of this start only: after a crash the routes are gone, and a will would name them still.
    forget(Kind::Will);
    let known = fds.filter_map(|(name, fd)| Some((Kind::named(&name)?, fd)));
    Inherited::new(known).unwrap_or_else(|error| {
        tracing::warn!("what the service manager kept is left: {error}");
        Inherited::default()
    })
}

/// Whether there is one, which may keep descriptors.
#[must_use]
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// This process is ready, and has these descriptors to keep.
pub fn ready(estate: &Estate) {
    let pid = std::process::id();
    notify(&[NotifyState::MainPid(pid), NotifyState::Ready]);
    // Those of an address that the configuration has no more would hold it for ever.
    [Kind::Control, Kind::Metrics].into_iter().for_each(forget);
    estate.iter().for_each(store);
}

/// Has a descriptor kept. One that is there already is not kept twice.
pub fn store((kind, fd): Left<'_>) {
    let state = [NotifyState::FdStore, NotifyState::FdName(kind.name())];
    warn(sd_notify::notify_with_fds(&state, &[fd]));
}

/// Has what is kept under this name given up.
pub fn forget(kind: Kind) {
    notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(kind.name())]);
}

/// Has a will kept for the next start.
pub fn store_will(will: &OwnedFd) {
    store((Kind::Will, will.as_fd()));
}

/// Another process is the daemon from now on.
pub fn main_is(pid: Pid) {
    if let Ok(pid) = u32::try_from(pid.as_raw()) {
        notify(&[NotifyState::MainPid(pid)]);
    }
}

/// The daemon ends.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// How often it wants to hear that the daemon is well, if it does.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|period| period / PER_PERIOD)
}

/// The daemon is well.
pub fn well() {
    notify(&[NotifyState::Watchdog]);
}

fn notify(state: &[NotifyState<'_>]) {
    warn(sd_notify::notify(state));
}

/// It is told and goes on: a daemon that carries traffic does not end for want of a listener.
fn warn(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("the service manager does not listen: {error}");
    }
}
