//! The system calls that make a TUN device, or take one over; called by `device` only.
#![allow(unsafe_code, reason = "ioctl has no safe form")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Opens the driver, non-blocking; std adds close-on-exec.
pub(super) fn open() -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    Ok(file.into())
}

/// Makes `fd` a queue of the device `name`, which is made if it is not there. `name` is shorter
/// than `IFNAMSIZ`; a longer one is cut.
pub(super) fn attach(fd: &OwnedFd, name: &str, several: bool) -> io::Result<()> {
    let multi_queue = if several { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | multi_queue;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    let room = ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    room.zip(name.bytes()).for_each(|(to, from)| *to = from as libc::c_char);
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short };
    let request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `request` is, initialised as far
    // as it is read and alive through the call; the descriptor is open.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw const request) })
}

/// The device that `fd` is a queue of.
pub(super) fn name(fd: &OwnedFd) -> io::Result<String> {
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: 0 };
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru };
    // SAFETY: TUNGETIFF writes one `struct ifreq`, which `request` is, alive through the call; on a
    // descriptor of another kind it fails and writes nothing.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    let bytes = request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
    Ok(String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned())
}

/// Says which packets this side can take as they are (`TUN_F_*`).
pub(super) fn set_offload(fd: &OwnedFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value; the descriptor is open.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
