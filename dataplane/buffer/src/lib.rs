//! Packet buffers that are taken from a pool of their thread and go back to it when dropped.
//!
//! A worker shares nothing, so the pool is thread-local: no lock, and after the first bursts no
//! allocation. A buffer may be dropped on another thread; it then joins that thread's pool.
#![forbid(unsafe_code)]

use std::cell::RefCell;

mod slice;

pub use slice::{Head, Slice};

/// Room kept free in front of a packet, so that headers are prepended without moving it.
///
/// The longest that is ever prepended is the head of a slice (context, flags, number, offset: 6 bytes; lengths:
/// 5) and what recovery puts in front (context, kind, number: 6); 32 keeps the payload aligned.
pub const HEADROOM: usize = 32;

/// Capacity of a pooled buffer: one datagram at an MTU of 1500 with headroom, in a 2 KiB slab.
pub const SLAB: usize = 2048;

/// Most buffers a thread's pool holds (8 MiB): one full queue towards a link and a burst.
const POOL_MAX: usize = 4096;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// One packet, owned, with headroom in front.
#[derive(Debug, Default)]
pub struct PacketBuf {
    bytes: Vec<u8>,
    start: usize,
}

impl PacketBuf {
    /// An empty packet with [`HEADROOM`] free bytes in front.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = POOL
            .try_with(|pool| pool.borrow_mut().pop())
            .ok()
            .flatten()
            .unwrap_or_else(|| Vec::with_capacity(SLAB));
        bytes.clear();
        bytes.resize(HEADROOM, 0);
        Self { bytes, start: HEADROOM }
    }

    /// A packet with these contents.
    #[must_use]
    pub fn from_slice(contents: &[u8]) -> Self {
        let mut packet = Self::new();
        packet.extend_from_slice(contents);
        packet
    }

    /// Length of the contents in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether there are no contents.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends to the contents.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
    }

    /// Cuts the contents to `len` bytes; does nothing if they are shorter.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }

    /// Removes `count` bytes from the front; at most all of them.
    pub fn advance(&mut self, count: usize) {
        self.start += count.min(self.len());
    }

    /// Puts `header` in front of the contents; moves them only if the headroom is too small.
    pub fn prepend(&mut self, header: &[u8]) {
        if let Some(start) = self.start.checked_sub(header.len()) {
            self.start = start;
            self.bytes[start..start + header.len()].copy_from_slice(header);
        } else {
            self.bytes.splice(..self.start, header.iter().copied());
            self.start = 0;
        }
    }

    /// The contents, to change in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// The contents.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl AsRef<[u8]> for PacketBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<Vec<u8>> for PacketBuf {
    /// Takes the vector over without a copy; it has no headroom.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }
}

impl Drop for PacketBuf {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() < SLAB {
            return;
        }
        // While the thread ends the pool may be gone already; then the buffer is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOL_MAX {
                pool.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_goes_in_front_without_moving_the_payload() {
        let mut packet = PacketBuf::from_slice(b"payload");
        let before = packet.as_slice().as_ptr();
        packet.prepend(&[0]);
        assert_eq!(packet.as_slice(), b"\0payload");
        packet.advance(1);
        assert_eq!(packet.as_slice().as_ptr(), before);
    }

    #[test]
    fn a_header_longer_than_the_headroom_still_goes_in_front() {
        let mut packet = PacketBuf::from(b"abc".to_vec());
        packet.advance(1);
        packet.prepend(b"12");
        assert_eq!(packet.as_slice(), b"12bc");
    }

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let first = PacketBuf::from_slice(b"x");
        let slab = first.as_slice().as_ptr();
        drop(first);
        assert_eq!(PacketBuf::from_slice(b"y").as_slice().as_ptr(), slab);
    }

    #[test]
    fn bounds_are_kept() {
        let mut packet = PacketBuf::from_slice(b"abc");
        packet.advance(10);
        assert!(packet.is_empty());
        packet.truncate(5);
        assert_eq!(packet.len(), 0);
    }
}
