//! The next hops of the packets that leave past the kernel: found elsewhere, looked up here.
//!
//! The kernel knows routes and neighbours; a resolver (in the daemon) asks it for each destination
//! that a port wants, keeps the answers true as routes and neighbours change, and publishes them as
//! a whole. A destination without a hop goes through the kernel's own socket, which also makes the
//! kernel look for its neighbour (ARP, neighbour discovery): so nothing is lost meanwhile.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::frame::Link;

/// Destinations that wait for the resolver; one that finds no place is asked for again by its next
/// packet.
const WANTED_MAX: usize = 256;

/// Where packets go, and from which address they are to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The receiver.
    pub to: IpAddr,
    /// Our address, if the connection is bound to one.
    pub from: Option<IpAddr>,
}

/// How packets reach a destination past the kernel.
#[derive(Debug)]
pub struct Hop {
    /// What the Ethernet header says.
    pub link: Link,
    /// Our address on that way.
    pub source: IpAddr,
    /// Largest IP packet of that way in bytes.
    pub mtu: u16,
    /// The kernel is no longer sure of the neighbour: let it see a packet, so that it looks.
    doubtful: AtomicBool,
}

impl Hop {
    /// A hop; `doubtful` when the kernel is not sure that the neighbour is still there.
    #[must_use]
    pub const fn new(link: Link, source: IpAddr, mtu: u16, doubtful: bool) -> Self {
        Self { link, source, mtu, doubtful: AtomicBool::new(doubtful) }
    }

    /// Whether the next packet is to go through the kernel; true once for each doubt.
    pub(crate) fn take_doubt(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed) && self.doubtful.swap(false, Ordering::Relaxed)
    }
}

/// What the resolver found: no hop means through the kernel.
pub type Hops = HashMap<Destination, Option<Arc<Hop>>>;

/// Shared by the ports of all workers and the resolver.
#[derive(Debug)]
pub struct NextHops {
    version: AtomicU64,
    hops: Mutex<Arc<Hops>>,
    wanted: ArrayQueue<Destination>,
    wake: EventFd,
}

impl NextHops {
    /// None known yet.
    ///
    /// # Errors
    /// When there is no descriptor left for the resolver's wake-up.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self {
            version: AtomicU64::new(1),
            hops: Mutex::default(),
            wanted: ArrayQueue::new(WANTED_MAX),
            wake: EventFd::from_flags(flags)?,
        })
    }

    /// Replaces all hops. Called by the resolver.
    pub fn publish(&self, hops: Hops) {
        *self.hops.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(hops);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The next destination that a port asks for. Called by the resolver.
    pub fn wanted(&self) -> Option<Destination> {
        self.wanted.pop()
    }

    /// Readable when a port has asked; [`NextHops::clear`] makes it unreadable.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// After [`NextHops::wake`] was readable, before the destinations are taken.
    pub fn clear(&self) {
        // It fails only when nothing was written, which is what is wanted.
        let _ = self.wake.read();
    }

    /// The number of the last publication.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All that is known.
    pub(crate) fn hops(&self) -> Arc<Hops> {
        Arc::clone(&self.hops.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for a destination; `false` when too many wait.
    pub(crate) fn ask(&self, destination: Destination) -> bool {
        let placed = self.wanted.push(destination).is_ok();
        // It fails only at 2^64 - 1 unread wake-ups.
        let _ = self.wake.write(1);
        placed
    }
}
