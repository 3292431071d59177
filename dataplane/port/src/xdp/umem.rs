//! The memory that AF_XDP sockets receive into and send from (UMEM), cut into frames.
//!
//! It is a file in memory, so that the broker can register it for a process that may not lock so much:
//! the pages are the same, wherever they are mapped. A frame is at any time in one place: lent to the
//! kernel through a ring, or held here as a token ([`Frame`], which is not `Clone`). Only a token gives
//! access to the bytes, so that nothing is read or written that the kernel may touch.
#![allow(unsafe_code, reason = "the memory is shared with the kernel")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

use super::sys;

/// Most bytes of one memory: jumbo frames in both directions, and as much again.
const MEMORY_MAX: usize = 64 << 20;

/// A place of one frame that the kernel has not got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame(u32);

/// The frames of one lane.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    shape: MemoryShape,
    file: OwnedFd,
}

/// How a memory is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShape {
    /// Number of frames.
    pub frames: u32,
    /// Bytes of each: 2048 or 4096.
    pub frame_len: u32,
}

impl MemoryShape {
    fn bytes(self) -> io::Result<NonZeroUsize> {
        let bytes = (self.frames as usize).checked_mul(self.frame_len as usize);
        let bytes = bytes.and_then(NonZeroUsize::new).filter(|len| len.get() <= MEMORY_MAX);
        let text = || format!("expected up to {MEMORY_MAX} bytes of frames, got {self:?}");
        bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, text()))
    }
}

// SAFETY: the mapping is owned by this value alone, and all access goes through `&self`/`&mut self`.
unsafe impl Send for Memory {}

impl Memory {
    /// New memory, all present, and a token for each frame.
    pub(crate) fn new(shape: MemoryShape) -> io::Result<(Self, Vec<Frame>)> {
        let file = memfd_create(c"stoq-frames", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&file, i64::try_from(shape.bytes()?.get()).unwrap_or(i64::MAX))?;
        let memory = Self::map(file, shape, MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE)?;
        Ok((memory, (0..shape.frames).map(Frame).collect()))
    }

    /// The memory of another process, of which this is the file: to register it, never to read it.
    ///
    /// # Errors
    /// When the shape is beyond what a lane has, or it cannot be mapped.
    pub fn of(file: OwnedFd, shape: MemoryShape) -> io::Result<Self> {
        Self::map(file, shape, MapFlags::MAP_SHARED)
    }

    fn map(file: OwnedFd, shape: MemoryShape, flags: MapFlags) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, shape.bytes()?, protection, flags, &file, 0)? };
        Ok(Self { start: start.cast(), shape, file })
    }

    /// Opens an AF_XDP socket, not bound yet, for this memory. It takes CAP_NET_RAW, and CAP_IPC_LOCK
    /// unless the limit of locked memory has room.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn open_socket(&self) -> io::Result<OwnedFd> {
        let len = self.len() as u64;
        sys::open_socket(self.start.as_ptr() as u64, len, self.shape.frame_len)
    }

    /// How it is cut.
    #[must_use]
    pub const fn shape(&self) -> MemoryShape {
        self.shape
    }

    /// All bytes.
    pub(crate) fn len(&self) -> usize {
        self.shape.frames as usize * self.frame_len()
    }

    /// Bytes of a frame.
    pub(crate) fn frame_len(&self) -> usize {
        self.shape.frame_len as usize
    }

    /// Where a frame begins, counted from the start of the memory.
    pub(crate) fn offset(&self, frame: &Frame) -> u64 {
        u64::from(frame.0) * self.frame_len() as u64
    }

    /// The token of a frame that the kernel gave back under this offset, which may lie anywhere in
    /// the frame. To be called once for each time that the kernel names it; `None` for an offset
    /// that is none of ours.
    pub(crate) fn reclaim(&self, offset: u64) -> Option<Frame> {
        let number = u32::try_from(offset / u64::from(self.shape.frame_len)).ok()?;
        (number < self.shape.frames).then_some(Frame(number))
    }

    /// The bytes from `at` on in the memory of adjacent frames from `first` on, of which the caller
    /// holds all tokens.
    pub(crate) fn bytes(&mut self, first: &Frame, at: usize, len: usize) -> &mut [u8] {
        let start = first.0 as usize * self.frame_len() + at;
        assert!(start + len <= self.len(), "a frame reaches behind its memory");
        // SAFETY: within the mapping, as was just asked, which is initialised (zeroed by the
        // kernel); the token says that the kernel does not use it, and `&mut self` that nobody
        // else here does. Whoever has the file besides only registers it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(start), len) }
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `map` and no slice of it outlives `self`. The kernel
        // holds the pages of its own accord for as long as a socket uses them.
        let _ = unsafe { munmap(self.start.cast(), self.len()) };
    }
}
