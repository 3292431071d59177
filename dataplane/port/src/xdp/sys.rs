//! The system calls of AF_XDP that have no safe form elsewhere.
//!
//! Called by lanes alone.
#![allow(unsafe_code, reason = "AF_XDP's options and addresses have no safe form")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use libc::{
    c_int, sockaddr_xdp, socklen_t, xdp_desc, xdp_mmap_offsets, xdp_statistics, xdp_umem_reg,
};

use super::ring::Ring;

/// The packet goes on in the next descriptor (XDP_PKT_CONTD).
pub(super) const CONTINUED: u32 = libc::XDP_PKT_CONTD;

/// Times that a busy queue is tried again: a socket that was just closed frees its queue only after
/// a grace period of the kernel.
const BIND_TRIES: u32 = 40;

/// Between two tries.
const BIND_PAUSE: Duration = Duration::from_millis(25);

/// The rings of one socket.
pub(super) struct Rings {
    pub(super) fill: Ring<u64>,
    pub(super) completion: Ring<u64>,
    pub(super) rx: Ring<xdp_desc>,
    pub(super) tx: Ring<xdp_desc>,
}

/// Opens an AF_XDP socket with this memory of this process.
pub(super) fn open_socket(addr: u64, len: u64, chunk_size: u32) -> io::Result<OwnedFd> {
    // SAFETY: a call without pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, so nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let memory = xdp_umem_reg { addr, len, chunk_size, headroom: 0, flags: 0, tx_metadata_len: 0 };
    set(socket.as_fd(), libc::XDP_UMEM_REG, &memory)?;
    Ok(socket)
}

/// Makes and maps the socket's rings, for so many frames in each direction. The rings that we fill have
/// twice as many places: the kernel shows only now and then how far it has emptied them.
pub(super) fn rings(socket: BorrowedFd<'_>, rx: u32, tx: u32) -> io::Result<Rings> {
    let (rx, tx) = (rx.next_power_of_two(), tx.next_power_of_two());
    let (fill, send) = (2 * rx, 2 * tx);
    set(socket, libc::XDP_UMEM_FILL_RING, &fill)?;
    set(socket, libc::XDP_UMEM_COMPLETION_RING, &tx)?;
    set(socket, libc::XDP_RX_RING, &rx)?;
    set(socket, libc::XDP_TX_RING, &send)?;
    // SAFETY: all zeros are valid offsets.
    let offsets: xdp_mmap_offsets =
        get(socket, libc::XDP_MMAP_OFFSETS, unsafe { std::mem::zeroed() })?;
    let page = |page: u64| i64::try_from(page).unwrap_or(0);
    Ok(Rings {
        fill: Ring::map(socket, &offsets.fr, fill, page(libc::XDP_UMEM_PGOFF_FILL_RING))?,
        completion: Ring::map(socket, &offsets.cr, tx, page(libc::XDP_UMEM_PGOFF_COMPLETION_RING))?,
        rx: Ring::map(socket, &offsets.rx, rx, libc::XDP_PGOFF_RX_RING)?,
        tx: Ring::map(socket, &offsets.tx, send, libc::XDP_PGOFF_TX_RING)?,
    })
}

/// Binds the socket to a queue; returns whether the driver works without a copy. `several`: packets
/// may take more than one frame.
pub(super) fn bind(
    socket: BorrowedFd<'_>,
    interface: u32,
    queue: u32,
    several: bool,
) -> io::Result<bool> {
    let mut common = libc::XDP_USE_NEED_WAKEUP;
    if several {
        common |= libc::XDP_USE_SG;
    }
    if try_bind(socket, interface, queue, common | libc::XDP_ZEROCOPY).is_ok() {
        return Ok(true);
    }
    try_bind(socket, interface, queue, common | libc::XDP_COPY)?;
    Ok(false)
}

fn try_bind(socket: BorrowedFd<'_>, interface: u32, queue: u32, flags: u16) -> io::Result<()> {
    let address = sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let mut tries = 1;
    loop {
        // SAFETY: the address is one of AF_XDP and lives during the call; its length is given.
        let result = unsafe {
            let address = (&raw const address).cast();
            libc::bind(socket.as_raw_fd(), address, size_of::<sockaddr_xdp>() as socklen_t)
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EBUSY) || tries == BIND_TRIES {
            return Err(error);
        }
        tries += 1;
        std::thread::sleep(BIND_PAUSE);
    }
}

/// Lets the kernel look at the fill ring.
pub(super) fn wake_receive(socket: BorrowedFd<'_>) {
    // SAFETY: no memory is passed. It fails only when there is nothing to do or the interface is
    // down, which the transmit side reports.
    let _ = unsafe {
        let none = std::ptr::null_mut();
        libc::recvfrom(socket.as_raw_fd(), none, 0, libc::MSG_DONTWAIT, none.cast(), none.cast())
    };
}

/// Lets the kernel send what is in the tx ring, or some of it.
///
/// # Errors
/// The error's number. Whether packets left shows in the ring, whatever this says.
pub(super) fn wake_transmit(socket: BorrowedFd<'_>) -> Result<(), c_int> {
    // SAFETY: no memory is passed.
    let result = unsafe {
        let none = std::ptr::null();
        libc::sendto(socket.as_raw_fd(), none, 0, libc::MSG_DONTWAIT, none.cast(), 0)
    };
    if result >= 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// What the kernel could not deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    dropped: u64,
    ring_full: u64,
}

impl Statistics {
    /// Packets that found no frame or no place in the rx ring.
    pub(super) const fn missed(&self) -> u64 {
        self.dropped.saturating_add(self.ring_full)
    }
}

/// Reads the socket's counters.
pub(super) fn statistics(socket: BorrowedFd<'_>) -> io::Result<Statistics> {
    // SAFETY: all zeros are valid counters.
    let empty: xdp_statistics = unsafe { std::mem::zeroed() };
    let read = get(socket, libc::XDP_STATISTICS, empty)?;
    Ok(Statistics { dropped: read.rx_dropped, ring_full: read.rx_ring_full })
}

fn set<T>(socket: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value lives during the call and its length is its own.
    let result = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            value,
            size_of::<T>() as socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get<T>(socket: BorrowedFd<'_>, option: c_int, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as socklen_t;
    // SAFETY: the kernel writes at most `len` bytes of plain integers into the value.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value, &raw mut len)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
