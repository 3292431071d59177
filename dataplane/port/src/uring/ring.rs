//! One io_uring: set-up with the best that the kernel has, submission, completions.
//!
//! The receive side of a `uring` port has one, each of its transmitters another.
#![allow(unsafe_code, reason = "entries name memory that must outlive them")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{Builder, IoUring};

use super::UringReason;

/// How long closing a ring waits for what is in flight to be cancelled.
const CANCEL: Duration = Duration::from_secs(1);

/// When the kernel runs completions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Only when asked (kernel 6.1): nothing disturbs the worker, a burst is taken in one go.
    Deferred,
    /// At the next return from the kernel (5.19): a chain of sends runs through in one call.
    Cooperative,
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    /// Bytes, or an error number below zero.
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

/// See the module.
pub(crate) struct Ring {
    io: IoUring,
}

impl Ring {
    /// A ring for `entries` submissions and `completions` completions at a time, whose registered
    /// files are `files`.
    pub(crate) fn new(
        entries: u32,
        completions: u32,
        flavour: Flavour,
        files: &[RawFd],
    ) -> Result<Self, UringReason> {
        let mut cooperative = IoUring::builder();
        cooperative.setup_cqsize(completions).setup_coop_taskrun().setup_taskrun_flag();
        let mut deferred: Builder = IoUring::builder();
        deferred.setup_cqsize(completions).setup_single_issuer();
        deferred.setup_defer_taskrun().setup_taskrun_flag();
        let mut plain = IoUring::builder();
        plain.setup_cqsize(completions);
        let mut built = Err(io::Error::from_raw_os_error(libc::EINVAL));
        if flavour == Flavour::Deferred {
            built = deferred.build(entries);
        }
        for builder in [cooperative, plain] {
            // An older kernel calls a flag that it does not know invalid.
            if built.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EINVAL)) {
                built = builder.build(entries);
            }
        }
        let io = built.map_err(UringReason::of)?;
        io.submitter().register_files(files).map_err(UringReason::of)?;
        Ok(Self { io })
    }

    /// Queues an entry, handing over the earlier ones first if the queue is full.
    ///
    /// # Safety
    /// The memory that the entry names must stay valid, and be left alone as the operation
    /// demands, until its (last) completion was taken.
    ///
    /// # Errors
    /// When the kernel takes no more entries.
    pub(crate) unsafe fn push(&mut self, entry: &Entry) -> io::Result<()> {
        if self.io.submission().is_full() {
            self.submit()?;
        }
        // SAFETY: as the caller vouches.
        let pushed = unsafe { self.io.submission().push(entry) };
        pushed.map_err(|_| io::Error::other("the kernel takes no io_uring entries any more"))
    }

    /// Hands over the queued entries and lets the kernel run what it has put off. Does nothing,
    /// and no system call, if there is neither.
    ///
    /// # Errors
    /// When the kernel refuses to go on.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        if self.is_quiet() {
            return Ok(());
        }
        forgive(self.io.submitter().submit())
    }

    /// As [`Ring::submit`], and sleeps until `count` completions wait or `timeout` has passed.
    ///
    /// # Errors
    /// When the kernel refuses to go on.
    pub(crate) fn wait(&mut self, count: usize, timeout: Option<Duration>) -> io::Result<()> {
        let Some(timeout) = timeout else {
            return forgive(self.io.submitter().submit_and_wait(count));
        };
        if timeout.is_zero() {
            return self.submit();
        }
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        forgive(self.io.submitter().submit_with_args(count, &args))
    }

    /// Whether there is nothing to hand over and nothing put off. When not, there may still be
    /// nothing: the kernel raises its flag after it has queued the work, which may be done by then.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let queue = self.io.submission();
        queue.is_empty() && !queue.taskrun() && !queue.cq_overflow()
    }

    /// Takes the next completion.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let entry = self.io.completion().next()?;
        Some(Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        })
    }

    /// Registers a ring of buffers as group `group`.
    ///
    /// # Safety
    /// `address` must be that of `entries` page-aligned entries that stay valid as long as the
    /// ring lives or has operations in flight.
    ///
    /// # Errors
    /// `EINVAL` from a kernel before 5.19.
    pub(crate) unsafe fn register_buffers(
        &self,
        address: u64,
        entries: u16,
        group: u16,
    ) -> io::Result<()> {
        // SAFETY: as the caller vouches.
        unsafe { self.io.submitter().register_buf_ring_with_flags(address, entries, group, 0) }
    }

    /// Cancels all that is in flight and lets the sockets go at once: the kernel frees a closed
    /// ring some time later, and until then its sockets would keep their addresses. Whether the
    /// kernel is known to be done with the memory of the operations.
    pub(crate) fn close(&mut self) -> bool {
        // Entries that were never handed over would not be cancelled.
        let _ = self.submit();
        let timeout = Some(Timespec::from(CANCEL));
        let cancelled =
            match self.io.submitter().register_sync_cancel(timeout, CancelBuilder::any()) {
                Ok(()) => true,
                Err(error) => error.raw_os_error() == Some(libc::ENOENT),
            };
        // Completions of what was cancelled still hold their files until the kernel ran them.
        let _ = self.submit();
        let _ = self.io.submitter().unregister_files();
        cancelled
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's own and lives as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }
    }
}

/// What is no reason to end: the timeout, a signal, or completions to be taken first.
fn forgive(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
        Ok(_) => Ok(()),
    }
}
