//! The link between a program and an interface: one system call.
//!
//! The loader's own way to attach falls back to netlink, and what is attached by that outlives the
//! process. Here it is a link or an error. Owns the `unsafe` of that call; called by `program`.
#![allow(unsafe_code, reason = "bpf(2) has no safe form for this")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `BPF_LINK_CREATE` of `enum bpf_cmd`.
const LINK_CREATE: libc::c_int = 28;
/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;

/// Where in the host's way from the card to the socket.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Place {
    /// `XDP_FLAGS_DRV_MODE`: in the driver.
    Driver = 1 << 2,
    /// `XDP_FLAGS_SKB_MODE`: in the kernel's generic part.
    Generic = 1 << 1,
}

/// The fields of `union bpf_attr` that this command reads; the kernel takes all others as zero.
#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a loaded XDP program; it stays attached while the returned descriptor, or a copy of it, is open.
///
/// # Errors
/// What the kernel says: `EBUSY` or `EEXIST` when another program is there, `EOPNOTSUPP` when the driver
/// cannot do it.
pub(crate) fn create(program: BorrowedFd<'_>, ifindex: u32, place: Place) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        ifindex,
        attach_type: ATTACH_XDP,
        flags: place as u32,
    };
    // SAFETY: the pointer and the length describe `attributes`, which lives through the call and is
    // only read.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LINK_CREATE,
            &raw const attributes,
            size_of::<LinkCreate>() as libc::c_uint,
        )
    };
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
