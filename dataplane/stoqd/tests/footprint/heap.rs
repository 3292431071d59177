//! What the C library's allocator has handed out and not got back: Rust's memory is from it in tests, and
//! BoringSSL's always.
#![allow(unsafe_code, reason = "the C library is asked")]

/// Bytes in use now, over all threads.
pub fn used() -> usize {
    // SAFETY: it only reads the allocator's books, under its locks.
    let info = unsafe { nix::libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
