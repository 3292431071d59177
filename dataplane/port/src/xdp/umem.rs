//! The memory that AF_XDP sockets receive into and send from (UMEM), cut into frames.
//!
//! A frame is at any time in one place: lent to the kernel through a ring, or held here as a token
//! ([`Frame`], which is not `Clone`). Only a token gives access to the bytes, so that nothing is read
//! or written that the kernel may touch. Owned by a lane.
#![allow(unsafe_code, reason = "the memory is shared with the kernel")]

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A place of one frame that the kernel has not got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame(u32);

/// See the module.
#[derive(Debug)]
pub(crate) struct Umem {
    start: NonNull<u8>,
    frame_len: usize,
    frames: u32,
}

// SAFETY: the memory is owned by this value alone, and all access goes through `&self`/`&mut self`.
unsafe impl Send for Umem {}

impl Umem {
    /// Maps `frames` frames of `frame_len` bytes each, all present, and returns them with a token
    /// for each.
    ///
    /// # Errors
    /// When there is not that much memory.
    pub(crate) fn new(frames: u32, frame_len: usize) -> io::Result<(Self, Vec<Frame>)> {
        let len = NonZeroUsize::new(frames as usize * frame_len)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)?
        };
        Ok((Self { start: start.cast(), frame_len, frames }, (0..frames).map(Frame).collect()))
    }

    /// Address of the memory in this process.
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// All bytes.
    pub(crate) fn len(&self) -> usize {
        self.frames as usize * self.frame_len
    }

    /// Bytes of a frame.
    pub(crate) fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// Where a frame begins, counted from the start of the memory.
    pub(crate) fn offset(&self, frame: &Frame) -> u64 {
        u64::from(frame.0) * self.frame_len as u64
    }

    /// The token of a frame that the kernel gave back under this offset, which may lie anywhere in
    /// the frame. To be called once for each time that the kernel names it; `None` for an offset
    /// that is none of ours.
    pub(crate) fn reclaim(&self, offset: u64) -> Option<Frame> {
        let number = u32::try_from(offset / self.frame_len as u64).ok()?;
        (number < self.frames).then_some(Frame(number))
    }

    /// The bytes from `at` on in the memory of `count` adjacent frames from `first` on, of which the
    /// caller holds all tokens.
    pub(crate) fn bytes(&mut self, first: &Frame, at: usize, len: usize) -> &mut [u8] {
        let start = first.0 as usize * self.frame_len + at;
        assert!(start + len <= self.len(), "a frame reaches behind its memory");
        // SAFETY: within the mapping, as was just asked, which is initialised (zeroed by the
        // kernel); the token says that the kernel does not use it, and `&mut self` that nobody
        // else here does.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(start), len) }
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `new` and no slice of it outlives `self`. The kernel
        // holds the pages of its own accord for as long as a socket uses them.
        let _ = unsafe { munmap(self.start.cast(), self.len()) };
    }
}
