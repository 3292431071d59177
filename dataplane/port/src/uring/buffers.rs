//! The ring of buffers that the kernel fills: one buffer for each received message.
//!
//! A buffer belongs to the kernel until a completion names it; then it is a [`Filled`] token, which
//! can be read, and given back once.
#![allow(unsafe_code, reason = "the memory is shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::cqueue::buffer_select;
use io_uring::types::BufRingEntry;

use super::ring::{Completion, Ring};

/// Buffers of a port (4 MiB): each takes a train of 64 KiB, so this is as much as a socket's own
/// buffer gives the worker in one burst; a power of two, as the kernel wants it.
const COUNT: u16 = 64;

/// Bytes of a buffer: the largest train, and 512 for the header, address and control messages that
/// the kernel puts before it.
pub(crate) const LEN: usize = 65_536 + 512;

/// The only group of buffers on the ring.
pub(crate) const GROUP: u16 = 0;

const PAGE: usize = 4096;

/// A buffer that the kernel has filled and given away.
#[derive(Debug)]
pub(crate) struct Filled {
    id: u16,
    len: usize,
}

/// See the module.
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    buffers: NonNull<u8>,
    tail: u16,
    /// The kernel may still write: keep the memory.
    leaked: bool,
}

impl BufferRing {
    /// Allocates the buffers and gives all of them to the kernel.
    ///
    /// # Errors
    /// `EINVAL` from a kernel before 5.19.
    pub(crate) fn new(ring: &Ring) -> io::Result<Self> {
        let mut buffers = Self {
            entries: allocate(entries_layout()).cast(),
            buffers: allocate(buffers_layout()),
            tail: 0,
            leaked: false,
        };
        let address = buffers.entries.as_ptr() as u64;
        // SAFETY: the entries are page-aligned (their layout says so), and live until this is
        // dropped, which its owner does after the ring has nothing in flight.
        unsafe { ring.register_buffers(address, COUNT, GROUP)? };
        for id in 0..COUNT {
            buffers.give_back(Filled { id, len: 0 });
        }
        Ok(buffers)
    }

    /// The buffer that a completion names, if it does.
    pub(crate) fn filled(completion: &Completion) -> Option<Filled> {
        let id = buffer_select(completion.flags).filter(|id| *id < COUNT)?;
        let len = usize::try_from(completion.result).unwrap_or(0).min(LEN);
        Some(Filled { id, len })
    }

    /// What the kernel wrote.
    pub(crate) fn bytes(&mut self, filled: &Filled) -> &mut [u8] {
        // SAFETY: the buffer `id` is inside the allocation and initialised (zeroed at first), and
        // the token says that the kernel has given it away; `&mut self` keeps it the only borrow.
        unsafe {
            let start = self.buffers.as_ptr().add(usize::from(filled.id) * LEN);
            std::slice::from_raw_parts_mut(start, filled.len)
        }
    }

    /// Lets the kernel fill it again.
    pub(crate) fn give_back(&mut self, filled: Filled) {
        let place = usize::from(self.tail & (COUNT - 1));
        // SAFETY: `place` and `id` are below COUNT, so both are inside their allocations. The
        // kernel reads an entry only once the tail is past it.
        unsafe {
            let start = self.buffers.as_ptr().add(usize::from(filled.id) * LEN);
            let entry = &mut *self.entries.as_ptr().add(place);
            entry.set_addr(start as u64);
            entry.set_len(LEN as u32);
            entry.set_bid(filled.id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is an aligned `u16` inside the first entry, which nothing but this
        // writes; the kernel reads it at any time, hence the atomic store.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Keeps the memory for good, because the kernel may still write to it.
    pub(crate) fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: both were allocated with these layouts, and are freed once.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout());
            dealloc(self.buffers.as_ptr(), buffers_layout());
        }
    }
}

const fn page_aligned(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, PAGE) {
        Ok(layout) => layout,
        Err(_) => panic!("the sizes above are far below the address space"),
    }
}

const fn entries_layout() -> Layout {
    page_aligned(COUNT as usize * size_of::<BufRingEntry>())
}

const fn buffers_layout() -> Layout {
    page_aligned(COUNT as usize * LEN)
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layouts above have a size that is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
