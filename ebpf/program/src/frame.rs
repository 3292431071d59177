//! The bytes of a frame, and the one way to read them: copied out, after a check of the bounds that
//! the kernel's verifier can follow.
//!
//! Owns the `unsafe` of reading packets. Called by `network` and `quic`.
#![allow(unsafe_code, reason = "the kernel gives a frame as two addresses")]

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;

/// What can be read from any bytes whatsoever.
///
/// # Safety
/// Every pattern of bits must be a value of the type, and it must have no padding.
pub unsafe trait Plain: Copy {}

// SAFETY: integers and arrays of them have no padding and no invalid values.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// The first buffer of a received frame: all of it, but for multi-buffer ones, whose headers are in the
/// first one as well.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    ctx: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> Frame<'a> {
    /// The frame that the program was called for.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx, start: ctx.data(), end: ctx.data_end() }
    }

    /// The value at this offset in bytes, or `None` when it is not in the first buffer.
    #[inline(always)]
    pub fn read<T: Plain>(self, at: usize) -> Option<T> {
        let from = self.start + at;
        if from + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the kernel gave `start..end` as readable, the value lies inside, and any bytes are
        // a value of a plain type.
        Some(unsafe { (from as *const T).read_unaligned() })
    }

    /// Whether the frame, all of its buffers together, has this many bytes.
    #[inline(always)]
    pub fn holds(self, len: usize) -> bool {
        if self.start + len <= self.end {
            return true;
        }
        // SAFETY: the context is the one that the program was called with.
        let total = unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) };
        total >= len as u64
    }

    /// The same frame, of which the compiler knows nothing any more. It leaves out a check whose result
    /// follows from an earlier one by reckoning that the verifier does not do.
    #[inline(always)]
    pub fn unknown(self) -> Self {
        Self { end: core::hint::black_box(self.end), ..self }
    }

    /// The receive queue that it came in by.
    #[inline(always)]
    pub fn queue(self) -> u32 {
        self.ctx.rx_queue_index()
    }
}
