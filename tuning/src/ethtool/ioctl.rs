//! The `ethtool` requests of the kernel, as ioctls on a socket. Called by `Host` through the
//! trait only.
//!
//! The ioctls are older than the program `ethtool` and its netlink family, are there on every kernel
//! since 2.6, and need no package; the program's machine-readable output does not cover these
//! requests in the distributions that are supported.
#![allow(unsafe_code, reason = "ioctl has no safe form")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use super::{Channels, Ethtool, Feature, Flow, FlowHash, MAX_TABLE, Rings, Spread, Table};

/// `SIOCETHTOOL` (linux/sockios.h).
const SIOCETHTOOL: libc::Ioctl = 0x8946;

// Commands and flow types of linux/ethtool.h.
const GRINGPARAM: u32 = 0x10;
const SRINGPARAM: u32 = 0x11;
const GSTRINGS: u32 = 0x1b;
const GRXFH: u32 = 0x29;
const SRXFH: u32 = 0x2a;
const GSSET_INFO: u32 = 0x37;
const GRXFHINDIR: u32 = 0x38;
const SRXFHINDIR: u32 = 0x39;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const GCHANNELS: u32 = 0x3c;
const SCHANNELS: u32 = 0x3d;
const UDP_V4_FLOW: u32 = 0x02;
const UDP_V6_FLOW: u32 = 0x06;
/// The names of features (`ETH_SS_FEATURES`).
const SET_FEATURES: u32 = 4;
/// Bytes of a name (`ETH_GSTRING_LEN`).
const NAME_LEN: usize = 32;
/// Most features: the kernel keeps them in 64 bits, some releases in more.
const MAX_FEATURES: usize = 1024;

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

/// `struct ethtool_ringparam`.
#[repr(C)]
#[derive(Default)]
struct RawRings {
    cmd: u32,
    rx_max: u32,
    mini_max: u32,
    jumbo_max: u32,
    tx_max: u32,
    rx: u32,
    mini: u32,
    jumbo: u32,
    tx: u32,
}

/// `struct ethtool_sset_info` with room for one number.
#[repr(C)]
struct RawSetInfo {
    cmd: u32,
    reserved: u32,
    mask: u64,
    count: u32,
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

    fn rings(&self, interface: &str) -> io::Result<Rings> {
        let raw = get_rings(interface)?;
        Ok(Rings { rx: raw.rx, tx: raw.tx, rx_max: raw.rx_max, tx_max: raw.tx_max })
    }

    fn set_rings(&self, interface: &str, rings: Rings) -> io::Result<()> {
        let Rings { rx, tx, .. } = rings;
        let mut raw = RawRings { cmd: SRINGPARAM, rx, tx, ..get_rings(interface)? };
        // SAFETY: SRINGPARAM takes a `struct ethtool_ringparam`, which `raw` is.
        unsafe { request(interface, &mut raw) }
    }

    fn table(&self, interface: &str) -> io::Result<Table> {
        // Asked with room for none, the driver says how many entries there are.
        let mut head = [GRXFHINDIR, 0];
        // SAFETY: GRXFHINDIR takes a `struct ethtool_rxfh_indir`: command, size, `size` numbers.
        unsafe { request(interface, &mut head) }?;
        let size = head[1] as usize;
        if size == 0 || size > MAX_TABLE {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let mut words = vec![0; size + 2];
        words[..2].copy_from_slice(&[GRXFHINDIR, head[1]]);
        // SAFETY: as above, with room for `size` numbers behind the head.
        unsafe { request(interface, words.as_mut_slice()) }?;
        Ok(Table(words.split_off(2)))
    }

    fn set_table(&self, interface: &str, spread: &Spread) -> io::Result<()> {
        // No entries ask for the driver's own.
        let entries = if let Spread::Table(Table(entries)) = spread { &entries[..] } else { &[] };
        let size = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut words = [&[SRXFHINDIR, size][..], entries].concat();
        // SAFETY: SRXFHINDIR takes a `struct ethtool_rxfh_indir`: command, size, `size` numbers.
        unsafe { request(interface, words.as_mut_slice()) }
    }

    fn feature(&self, interface: &str, feature: Feature) -> io::Result<bool> {
        let (place, count) = place_of(interface, feature)?;
        let blocks = count.div_ceil(32);
        // struct ethtool_gfeatures: command, size, and for each 32 features four words, of which the
        // third has those that are on.
        let mut words = vec![0; 2 + 4 * blocks];
        words[..2].copy_from_slice(&[GFEATURES, u32::try_from(blocks).unwrap_or(0)]);
        // SAFETY: GFEATURES takes what was just described; there is room for `size` blocks.
        unsafe { request(interface, words.as_mut_slice()) }?;
        Ok(words[2 + 4 * (place / 32) + 2] >> (place % 32) & 1 == 1)
    }

    fn set_feature(&self, interface: &str, feature: Feature, on: bool) -> io::Result<()> {
        let (place, count) = place_of(interface, feature)?;
        let blocks = count.div_ceil(32);
        // struct ethtool_sfeatures: command, size, and for each 32 features which are meant and which of
        // those shall be on.
        let mut words = vec![0; 2 + 2 * blocks];
        words[..2].copy_from_slice(&[SFEATURES, u32::try_from(blocks).unwrap_or(0)]);
        let block = 2 + 2 * (place / 32);
        words[block] = 1 << (place % 32);
        words[block + 1] = u32::from(on) << (place % 32);
        // SAFETY: SFEATURES takes what was just described; there are `size` blocks.
        unsafe { request(interface, words.as_mut_slice()) }
    }
}

fn get_rings(interface: &str) -> io::Result<RawRings> {
    let mut raw = RawRings { cmd: GRINGPARAM, ..RawRings::default() };
    // SAFETY: GRINGPARAM takes a `struct ethtool_ringparam`, which `raw` is.
    unsafe { request(interface, &mut raw) }?;
    Ok(raw)
}

/// The place of a feature among those that this kernel names, and how many those are.
fn place_of(interface: &str, feature: Feature) -> io::Result<(usize, usize)> {
    let unknown = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
    let mut info = RawSetInfo { cmd: GSSET_INFO, reserved: 0, mask: 1 << SET_FEATURES, count: 0 };
    // SAFETY: GSSET_INFO takes a `struct ethtool_sset_info` with a number for each bit of the mask.
    unsafe { request(interface, &mut info) }?;
    let count = info.count as usize;
    if info.mask == 0 || count > MAX_FEATURES {
        return Err(unknown());
    }
    // struct ethtool_gstrings: command, set, length, and so many names.
    let mut words = vec![0u32; 3 + count * NAME_LEN / 4];
    words[..3].copy_from_slice(&[GSTRINGS, SET_FEATURES, info.count]);
    // SAFETY: GSTRINGS takes what was just described; there is room for `count` names.
    unsafe { request(interface, words.as_mut_slice()) }?;
    let bytes: Vec<u8> = words[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut names = bytes.chunks_exact(NAME_LEN);
    let is_it =
        |name: &[u8]| name.split(|byte| *byte == 0).next() == Some(feature.name().as_bytes());
    names.position(is_it).map(|place| (place, count)).ok_or_else(unknown)
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
/// `T` is the structure that the kernel reads and writes for the command at its beginning, with room for
/// as much as its head says.
unsafe fn request<T: ?Sized>(interface: &str, value: &mut T) -> io::Result<()> {
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
        assert_eq!(size_of::<RawRings>(), 36);
        assert_eq!(std::mem::offset_of!(RawSetInfo, count), 16);
    }

    #[test]
    fn an_interface_that_is_not_there_is_said_so() {
        for name in ["nosuch0", "a-name-that-is-too-long", ""] {
            let error = Kernel.channels(name).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}: {error}");
            let errors = [
                Kernel.rings(name).unwrap_err(),
                Kernel.table(name).unwrap_err(),
                Kernel.feature(name, Feature::Gro).unwrap_err(),
                Kernel.set_feature(name, Feature::Gro, true).unwrap_err(),
                Kernel.set_rings(name, Rings::default()).unwrap_err(),
                Kernel.set_table(name, &Spread::Equal).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}: {error}");
            }
        }
    }
}
