//! The four rings that a socket shares with the kernel: two that we fill, two that we empty.
//!
//! Single producer, single consumer, a power of two of places (kernel documentation,
//! networking/af_xdp). The counters run freely and wrap; the place is their remainder. Owned by a
//! lane, on one thread.
#![allow(unsafe_code, reason = "the rings are memory shared with the kernel")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{xdp_desc, xdp_ring_offset};

/// The kernel wants a system call before it goes on (XDP_RING_NEED_WAKEUP).
const NEED_WAKEUP: u32 = 1;

/// One ring of entries `T`: `u64` offsets of frames, or descriptors.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    mapping: NonNull<libc::c_void>,
    mapped: usize,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
    /// Our own counter: what we have produced or consumed but perhaps not yet shown.
    ours: u32,
    /// The other side's counter as last read.
    theirs: u32,
}

// SAFETY: the mapping belongs to this value alone; the kernel's side is reached by atomics only.
unsafe impl<T> Send for Ring<T> {}

/// What a ring can hold: plain data without invalid values.
pub(crate) trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for xdp_desc {}

impl<T: Entry> Ring<T> {
    /// Maps the ring of `size` places (a power of two) at page offset `page` of the socket.
    pub(crate) fn map(
        socket: BorrowedFd<'_>,
        offsets: &xdp_ring_offset,
        size: u32,
        page: i64,
    ) -> io::Result<Self> {
        debug_assert!(size.is_power_of_two(), "the remainder is taken by a mask");
        let mapped = offsets.desc as usize + size as usize * size_of::<T>();
        let mapped = NonZeroUsize::new(mapped).map_or(1, NonZeroUsize::get);
        // SAFETY: a new mapping of the socket's ring at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                page,
            )
        };
        let mapping = NonNull::new(start).filter(|_| start != libc::MAP_FAILED);
        let mapping = mapping.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel says that these lie in the mapping that it just made.
        let at = |offset: u64| unsafe { mapping.cast::<u8>().add(offset as usize) };
        Ok(Self {
            mapping,
            mapped,
            producer: at(offsets.producer).cast(),
            consumer: at(offsets.consumer).cast(),
            flags: at(offsets.flags).cast(),
            entries: at(offsets.desc).cast(),
            mask: size - 1,
            ours: 0,
            theirs: 0,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: aligned and inside the mapping, which lives as long as `self`.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    /// Whether the kernel wants to be called before it looks at the ring.
    pub(crate) fn needs_wakeup(&self) -> bool {
        // SAFETY: as for `producer`.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    /// Producing side: puts an entry in, or says that the ring is full. The kernel sees it after
    /// [`Ring::publish`].
    pub(crate) fn push(&mut self, entry: T) -> Result<(), T> {
        if self.ours.wrapping_sub(self.theirs) > self.mask {
            self.theirs = self.consumer().load(Ordering::Acquire);
            if self.ours.wrapping_sub(self.theirs) > self.mask {
                return Err(entry);
            }
        }
        // SAFETY: the place is inside the ring, and free: the kernel's counter is behind it.
        unsafe { self.entries.add((self.ours & self.mask) as usize).write(entry) };
        self.ours = self.ours.wrapping_add(1);
        Ok(())
    }

    /// Producing side: shows the kernel all that was pushed.
    pub(crate) fn publish(&mut self) {
        self.producer().store(self.ours, Ordering::Release);
    }

    /// Producing side: entries that were published and the kernel has not yet taken.
    pub(crate) fn pending(&mut self) -> u32 {
        self.theirs = self.consumer().load(Ordering::Acquire);
        self.ours.wrapping_sub(self.theirs)
    }

    /// Consuming side: takes the next entry. The kernel may use its place again after
    /// [`Ring::release`].
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.ours == self.theirs {
            self.theirs = self.producer().load(Ordering::Acquire);
            if self.ours == self.theirs {
                return None;
            }
        }
        // SAFETY: the place is inside the ring, and the kernel has written it: its counter is past.
        let entry = unsafe { self.entries.add((self.ours & self.mask) as usize).read() };
        self.ours = self.ours.wrapping_add(1);
        Some(entry)
    }

    /// Consuming side: lets the kernel use again the places of what was taken.
    pub(crate) fn release(&mut self) {
        self.consumer().store(self.ours, Ordering::Release);
    }

    /// Consuming side: whether something is there.
    pub(crate) fn has_entries(&self) -> bool {
        self.ours != self.producer().load(Ordering::Relaxed)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `map`, and nothing of it outlives `self`.
        let _ = unsafe { libc::munmap(self.mapping.as_ptr(), self.mapped) };
    }
}
