//! The four `ethtool` requests of the kernel, as ioctls on a socket. Called by `Host` through the
//! trait only.
//!
//! The ioctls are older than the program `ethtool` and its netlink family, are there on every kernel
//! since 2.6, and need no package; the program's machine-readable output does not cover these
//! requests in the distributions that are supported.
#![allow(unsafe_code, reason = "ioctl has no safe form")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use super::{Channels, Ethtool, Flow, FlowHash};

/// `SIOCETHTOOL` (linux/sockios.h).
const SIOCETHTOOL: libc::Ioctl = 0x8946;

// Commands and flow types of linux/ethtool.h.
const GRXFH: u32 = 0x29;
const SRXFH: u32 = 0x2a;
const GCHANNELS: u32 = 0x3c;
const SCHANNELS: u32 = 0x3d;
const UDP_V4_FLOW: u32 = 0x02;
const UDP_V6_FLOW: u32 = 0x06;

/// The drivers of this host, in the network namespace of the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct RawChannels {
    cmd: u32,
    rx_max: u32,
    tx_max: u32,
    other_max: u32,
    combined_max: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_rxnfc`: what these requests use of it, and room for the rest, which kernels may
/// copy too.
#[repr(C)]
struct RawFlowHash {
    cmd: u32,
    flow_type: u32,
    data: u64,
    rest: [u64; 22],
}

impl Ethtool for Kernel {
    fn channels(&self, interface: &str) -> io::Result<Channels> {
        let raw = get_channels(interface)?;
        Ok(Channels {
            rx: raw.rx,
            tx: raw.tx,
            combined: raw.combined,
            rx_max: raw.rx_max,
            tx_max: raw.tx_max,
            combined_max: raw.combined_max,
        })
    }

    fn set_channels(&self, interface: &str, channels: Channels) -> io::Result<()> {
        let Channels { rx, tx, combined, .. } = channels;
        let mut raw = RawChannels { cmd: SCHANNELS, rx, tx, combined, ..get_channels(interface)? };
        // SAFETY: SCHANNELS takes a `struct ethtool_channels`, which `raw` is.
        unsafe { request(interface, &mut raw) }
    }

    fn flow_hash(&self, interface: &str, flow: Flow) -> io::Result<FlowHash> {
        let mut raw = raw_flow_hash(GRXFH, flow, 0);
        // SAFETY: GRXFH takes a `struct ethtool_rxnfc`, which `raw` is.
        unsafe { request(interface, &mut raw) }?;
        Ok(FlowHash(raw.data))
    }

    fn set_flow_hash(&self, interface: &str, flow: Flow, hash: FlowHash) -> io::Result<()> {
        let mut raw = raw_flow_hash(SRXFH, flow, hash.0);
        // SAFETY: SRXFH takes a `struct ethtool_rxnfc`, which `raw` is.
        unsafe { request(interface, &mut raw) }
    }
}

fn get_channels(interface: &str) -> io::Result<RawChannels> {
    let mut raw = RawChannels { cmd: GCHANNELS, ..RawChannels::default() };
    // SAFETY: GCHANNELS takes a `struct ethtool_channels`, which `raw` is.
    unsafe { request(interface, &mut raw) }?;
    Ok(raw)
}

fn raw_flow_hash(cmd: u32, flow: Flow, data: u64) -> RawFlowHash {
    let flow_type = match flow {
        Flow::Udp4 => UDP_V4_FLOW,
        Flow::Udp6 => UDP_V6_FLOW,
    };
    RawFlowHash { cmd, flow_type, data, rest: [0; 22] }
}

/// Carries out one request about `interface`.
///
/// # Errors
/// `ENODEV` for a name that no interface can have, and what the kernel says.
///
/// # Safety
/// `T` is the structure that the kernel reads and writes for the command at its beginning.
unsafe fn request<T>(interface: &str, value: &mut T) -> io::Result<()> {
    // The last byte stays 0, as the kernel wants it.
    if interface.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let mut ifr_name = [0; libc::IFNAMSIZ];
    ifr_name.iter_mut().zip(interface.bytes()).for_each(|(to, from)| *to = from as libc::c_char);
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: std::ptr::from_mut(value).cast() };
    let mut wrapped = libc::ifreq { ifr_name, ifr_ifru };
    // Any socket of the namespace serves; one without a protocol needs no privilege and no module.
    let socket = UnixDatagram::unbound()?;
    // SAFETY: SIOCETHTOOL takes a `struct ifreq` whose data points to the command's structure: the
    // caller vouches for `value`. Both live through the call; the descriptor is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut wrapped) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// linux/ethtool.h on 64-bit: nine 32-bit numbers, and 192 bytes.
    #[test]
    fn the_structures_have_the_kernels_size() {
        assert_eq!(size_of::<RawChannels>(), 36);
        assert_eq!(size_of::<RawFlowHash>(), 192);
    }

    #[test]
    fn an_interface_that_is_not_there_is_said_so() {
        for name in ["nosuch0", "a-name-that-is-too-long", ""] {
            let error = Kernel.channels(name).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}: {error}");
        }
    }
}
