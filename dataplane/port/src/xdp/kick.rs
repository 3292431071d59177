//! A thread that calls the kernel to send what is in a lane's ring.
//!
//! Without zero copy that call is the whole transmit path, a packet at a time: left to another core, it
//! costs the worker a flag. It owns nothing but a descriptor of the socket; the ring stays the worker's,
//! and the kernel counts in it how far it came.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::sys;
use crate::sender::place_on;

/// Calls in a row that say "again" before the thread sleeps between them: as many as it takes to send a
/// full ring of 1024 packets, of which the kernel takes 32 at a time. Beyond it the driver has no room: on
/// a slow link, for as long as there is more to send.
const CALLS: u32 = 32;

/// How long it sleeps then: a link of 1 Gbit/s sends four full-size packets in that time, and the driver's
/// own ring holds more.
const PAUSE: Duration = Duration::from_micros(50);

/// What worker and thread share.
#[derive(Debug, Default)]
struct Shared {
    /// There is something to send.
    due: AtomicBool,
    closing: AtomicBool,
    /// The interface was down or gone at the last call.
    down: AtomicBool,
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Kicker {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
}

impl Kicker {
    /// Starts the thread for this socket, on `core` or wherever the scheduler likes.
    ///
    /// # Errors
    /// When there is no thread or descriptor left, or no such core.
    pub(crate) fn spawn(socket: BorrowedFd<'_>, core: Option<usize>) -> io::Result<Self> {
        let socket = socket.try_clone_to_owned()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let body = move || {
            // On its worker's core it would still send, only without the gain.
            let _ = place_on(core);
            run(&socket, &theirs);
        };
        let handle = std::thread::Builder::new().name("stoq-kick".into()).spawn(body)?;
        Ok(Self { shared, handle: Some(handle) })
    }

    /// Lets the kernel send what was published.
    pub(crate) fn kick(&self) {
        // A thread that is at it looks once more before it sleeps.
        if !self.shared.due.swap(true, Ordering::AcqRel)
            && let Some(handle) = &self.handle
        {
            handle.thread().unpark();
        }
    }

    /// Whether the interface was down or gone at the last call.
    pub(crate) fn is_down(&self) -> bool {
        self.shared.down.load(Ordering::Relaxed)
    }
}

impl Drop for Kicker {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            // A panic of the thread was already printed by it; the lane ends all the same.
            let _ = handle.join();
        }
    }
}

fn run(socket: &OwnedFd, shared: &Shared) {
    while !shared.closing.load(Ordering::Acquire) {
        if !shared.due.swap(false, Ordering::AcqRel) {
            std::thread::park();
            continue;
        }
        send_all(socket, shared);
    }
}

/// Calls until the kernel has taken all: it takes some at a time, and stops while its own buffer is full.
fn send_all(socket: &OwnedFd, shared: &Shared) {
    let mut calls = 0;
    while !shared.closing.load(Ordering::Acquire) {
        let result = sys::wake_transmit(socket.as_fd());
        let down = matches!(result, Err(libc::ENETDOWN | libc::ENXIO));
        shared.down.store(down, Ordering::Relaxed);
        // Every other error is about one packet, or says that there are more.
        if result.is_ok() || down {
            return;
        }
        calls += 1;
        if calls > CALLS {
            std::thread::sleep(PAUSE);
        }
    }
}
