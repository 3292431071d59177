//! The sender thread: takes full transmit buffers from a worker, sends them, gives them back.
//!
//! ```text
//! worker ── full buffers (bounded queue) ──▶ sender ── sendmmsg or ring ──▶ kernel
//!        ◀── empty buffers (bounded queue) ──
//! ```
//!
//! Buffers are moved, never copied or freed. The sender parks when its queue is empty and the
//! worker's push unparks it (a futex call only then); the other way round an eventfd wakes the
//! worker, only when it said that it starves for buffers. Neither way allocates.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::Pid;

use crate::train::TxBuffer;
use crate::transmit::{Progress, Transmit};

/// How long a sender without room sleeps before it looks whether its port is closed.
const CLOSE_CHECK: Duration = Duration::from_millis(50);

/// What worker and sender share.
struct Shared {
    full: ArrayQueue<TxBuffer>,
    empty: ArrayQueue<TxBuffer>,
    /// The worker has no buffer left and wants `room` written.
    starving: AtomicBool,
    /// The worker is gone: end, and give up what the kernel does not take.
    closing: AtomicBool,
    room: EventFd,
}

/// The worker's end of a sender thread.
pub(crate) struct SenderThread {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
    /// Buffers that are with the sender.
    out: usize,
}

impl SenderThread {
    /// Starts the thread with room for `buffers` in each queue; `make` makes its transmitter there.
    ///
    /// # Errors
    /// What the kernel says about the thread, its core or the transmitter.
    pub(crate) fn spawn<F>(buffers: usize, core: Option<usize>, make: F) -> io::Result<Self>
    where
        F: FnOnce() -> io::Result<Box<dyn Transmit>> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            full: ArrayQueue::new(buffers),
            empty: ArrayQueue::new(buffers),
            starving: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            room: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
        });
        let theirs = Arc::clone(&shared);
        let (ready, started) = sync_channel(1);
        let body = move || {
            let transmit = match place_on(core).and_then(|()| make()) {
                Ok(transmit) => transmit,
                Err(error) => return drop(ready.send(Err(error))),
            };
            drop(ready.send(Ok(())));
            Loop { shared: theirs, transmit }.run();
        };
        let handle = std::thread::Builder::new().name("stoq-send".into()).spawn(body)?;
        let gone = |_| Err(io::Error::other("the sender thread ended before it began"));
        started.recv().unwrap_or_else(gone)?;
        Ok(Self { shared, handle: Some(handle), out: 0 })
    }

    /// Buffers that are with the sender.
    pub(crate) fn out(&self) -> usize {
        self.out
    }

    /// Hands a buffer over; never blocks, since there are no more buffers than places.
    ///
    /// # Errors
    /// The buffer, when the sender is gone.
    pub(crate) fn send(&mut self, buffer: TxBuffer) -> Result<(), TxBuffer> {
        let Some(handle) = self.handle.as_ref().filter(|handle| !handle.is_finished()) else {
            return Err(buffer);
        };
        self.shared.full.push(buffer)?;
        handle.thread().unpark();
        self.out += 1;
        Ok(())
    }

    /// A buffer that came back.
    pub(crate) fn take_back(&mut self) -> Option<TxBuffer> {
        let buffer = self.shared.empty.pop()?;
        self.out -= 1;
        Some(buffer)
    }

    /// Asks for [`SenderThread::room`] to be written when the next buffer comes back. Look once
    /// more for a buffer afterwards: it may have come just before.
    pub(crate) fn starve(&self) {
        self.shared.starving.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Readable when a buffer came back to a starving worker.
    pub(crate) fn room(&self) -> BorrowedFd<'_> {
        self.shared.room.as_fd()
    }

    /// Makes [`SenderThread::room`] unreadable again.
    pub(crate) fn clear_room(&self) {
        // It fails only when nothing was written, which is what is wanted.
        let _ = self.shared.room.read();
    }
}

impl Drop for SenderThread {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            // A panic of the sender was already printed by it; the port ends all the same.
            let _ = handle.join();
        }
    }
}

/// The thread's own state.
struct Loop {
    shared: Arc<Shared>,
    transmit: Box<dyn Transmit>,
}

impl Loop {
    /// Sends until the worker closes the port, and what it handed over before; or until the kernel
    /// refuses to go on.
    fn run(mut self) {
        loop {
            // Read before the queue: what was pushed before the close is seen.
            let closing = self.shared.closing.load(Ordering::Acquire);
            let Some(buffer) = self.shared.full.pop() else {
                if closing {
                    return;
                }
                std::thread::park();
                continue;
            };
            self.transmit.start(buffer);
            let Some(buffer) = self.finish() else { return };
            if self.shared.empty.push(buffer).is_err() {
                return;
            }
            self.wake();
        }
    }

    /// Sends the started buffer to its end; `None` when that is not to be.
    fn finish(&mut self) -> Option<TxBuffer> {
        loop {
            match self.transmit.progress() {
                Ok(Progress::Done(buffer)) => return Some(buffer),
                Ok(Progress::Blocked) if !self.shared.closing.load(Ordering::Acquire) => {}
                Ok(Progress::Blocked | Progress::Idle) | Err(_) => return None,
            }
            self.transmit.wait(CLOSE_CHECK).ok()?;
        }
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.shared.starving.swap(false, Ordering::Relaxed) {
            // It fails only at 2^64 - 1 unread wake-ups.
            let _ = self.shared.room.write(1);
        }
    }
}

/// Puts this thread on `core`; without one, on all cores, for it inherits its worker's only one.
pub(crate) fn place_on(core: Option<usize>) -> io::Result<()> {
    let mut cores = CpuSet::new();
    let all = 0..CpuSet::count();
    for core in core.map_or(all, |core| core..core + 1) {
        cores.set(core)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}
