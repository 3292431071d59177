//! An AF_XDP socket, for a place in the map of sockets.
#![allow(unsafe_code, reason = "socket(2) has no safe form for this family")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A socket without rings: enough for the program to redirect to.
pub fn af_xdp() -> OwnedFd {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has just made it, so nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
