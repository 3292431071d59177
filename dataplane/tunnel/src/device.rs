//! The TUN device: IP packets to and from the kernel, super-packets whole.
//!
//! [`create`] needs CAP_NET_ADMIN and is called by the broker, which hands the queues to the
//! workers. Each worker wraps its descriptor in a [`Queue`] and is the only one to use it; reading
//! and writing need no privilege.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::header::PACKET_MAX;
use crate::vnet::{self, VnetError, VnetHeader};

mod ioctl;

/// Most queues of one device, and so most workers: an edge host has up to 16 cores, and the kernel
/// stops at 256 (`MAX_TAP_QUEUES`).
pub const QUEUES_MAX: usize = 64;

/// The largest super-packet of this host's own that the device should hand over, in bytes, with
/// headers: set it as `gso_max_size` of the device, **where the host does not forward**.
///
/// Carried in datagrams of about 1400 bytes it becomes 44 of them, and 44 is what one GSO send
/// takes (65,507 bytes of UDP payload, in datagrams of at most 1472). A larger one leaves a second
/// train of a few datagrams, whose system call costs as much as that of a full one.
///
/// But what comes from the site has the size that GRO gave it, up to 64 KiB, and the kernel segments
/// in software whatever is above this limit, before it gets here: then each packet is a read of its
/// own, and a site's TCP stream was seven times slower in a test with 1500-byte frames and GRO at
/// the edge. So a host that forwards keeps the kernel's default.
pub const GSO_MAX_SIZE: u32 = 44 * 1_400;

/// Longest interface name (`IFNAMSIZ` less the closing zero).
const NAME_MAX: usize = 15;

/// Work that the kernel leaves to this side of the device, or takes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums of TCP and UDP may be partial. The other two need it.
    pub checksum: bool,
    /// TCP super-packets, over IPv4 and IPv6.
    pub tso: bool,
    /// UDP super-packets, over IPv4 and IPv6 (Linux 6.2 and later).
    pub uso: bool,
}

impl Offloads {
    /// All that there is.
    pub const ALL: Self = Self { checksum: true, tso: true, uso: true };
    /// Every packet by itself and complete.
    pub const NONE: Self = Self { checksum: false, tso: false, uso: false };

    /// As a byte, to pass from the broker to a worker.
    #[must_use]
    pub fn to_bits(self) -> u8 {
        u8::from(self.checksum) | u8::from(self.tso) << 1 | u8::from(self.uso) << 2
    }

    /// From such a byte; unknown bits are left out.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self { checksum: bits & 1 != 0, tso: bits & 2 != 0, uso: bits & 4 != 0 }
    }

    /// What can really be asked of the kernel: segmentation only with checksums.
    fn consistent(self) -> Self {
        if self.checksum { self } else { Self::NONE }
    }

    /// The kernel's flags.
    fn flags(self) -> libc::c_uint {
        let set = |on: bool, flags: libc::c_uint| if on { flags } else { 0 };
        set(self.checksum, libc::TUN_F_CSUM)
            | set(self.tso, libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN)
            | set(self.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6)
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name cannot be that of an interface.
    #[error(
        "expected an interface name of 1 to {NAME_MAX} letters, digits, '.', '-' or '_', got {0:?}: \
         change [tunnel] device"
    )]
    Name(String),
    /// Too few or too many queues.
    #[error("expected 1 to {QUEUES_MAX} queues, got {0}: change [transport] workers")]
    Queues(usize),
    /// There is no TUN driver here, or it may not be opened.
    #[error("cannot open /dev/net/tun ({0}): load the module with `modprobe tun`")]
    Open(#[source] io::Error),
    /// The kernel refused the device.
    #[error(
        "the kernel refused the TUN device {name} with {queues} queues ({source}): \
         CAP_NET_ADMIN is needed, and no other process may hold an interface of this name"
    )]
    Create {
        /// Its name.
        name: String,
        /// How many queues were asked for.
        queues: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was to be taken over is another device's, or none's.
    #[error("expected a queue of the TUN device {name}, got one of {is:?}: restart stoqd")]
    Adopt {
        /// The configured name.
        name: String,
        /// Whose queue it is; empty for what is none.
        is: String,
    },
    /// There are more or fewer to be taken over than there are workers now.
    #[error(
        "expected {expected} queues of the TUN device, one for each worker, got {is} from the process \
         before: stop stoqd and start it, for the number of workers has changed"
    )]
    Number {
        /// How many there are.
        is: usize,
        /// How many it takes.
        expected: usize,
    },
    /// Not even "no offload" was accepted.
    #[error("the kernel refused to set the offloads of the TUN device ({0}): report it")]
    Offload(#[source] io::Error),
}

/// A device just made.
#[derive(Debug)]
pub struct Created {
    /// One descriptor for each queue; the interface goes with the last of them.
    pub queues: Vec<OwnedFd>,
    /// The offloads that the kernel granted, at most those asked for.
    pub granted: Offloads,
}

/// Makes the TUN device `name` with so many queues, or attaches to one that is there, and asks for
/// the offloads: first all that is wanted, then without USO, then without TSO, then none.
///
/// # Errors
/// See [`DeviceError`].
pub fn create(name: &str, queues: usize, wanted: Offloads) -> Result<Created, DeviceError> {
    check_name(name)?;
    if queues == 0 || queues > QUEUES_MAX {
        return Err(DeviceError::Queues(queues));
    }
    let open = |_| {
        let fd = ioctl::open().map_err(DeviceError::Open)?;
        ioctl::attach(&fd, name, queues > 1).map_err(|source| DeviceError::Create {
            name: name.to_owned(),
            queues,
            source,
        })?;
        Ok(fd)
    };
    let queues = (0..queues).map(open).collect::<Result<Vec<_>, _>>()?;
    let granted = set_offloads(&queues[0], wanted)?;
    Ok(Created { queues, granted })
}

/// Takes over the queues of a device that another process made, and asks for the offloads anew.
///
/// # Errors
/// When a descriptor is no queue of the device `name`, and as [`create`].
pub fn adopt(name: &str, queues: Vec<OwnedFd>, wanted: Offloads) -> Result<Created, DeviceError> {
    check_name(name)?;
    for queue in &queues {
        let is = ioctl::name(queue).unwrap_or_default();
        if is != name {
            return Err(DeviceError::Adopt { name: name.to_owned(), is });
        }
    }
    let first = queues.first().ok_or(DeviceError::Queues(0))?;
    let granted = set_offloads(first, wanted)?;
    Ok(Created { queues, granted })
}

fn check_name(name: &str) -> Result<(), DeviceError> {
    let fits = (1..=NAME_MAX).contains(&name.len());
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits && plain && name != "." && name != ".." {
        return Ok(());
    }
    Err(DeviceError::Name(name.to_owned()))
}

/// The offloads belong to the device, so one queue sets them for all.
fn set_offloads(queue: &OwnedFd, wanted: Offloads) -> Result<Offloads, DeviceError> {
    let wanted = wanted.consistent();
    let steps = [
        wanted,
        Offloads { uso: false, ..wanted },
        Offloads { uso: false, tso: false, ..wanted },
        Offloads::NONE,
    ];
    let mut refusal = None;
    for step in steps {
        match ioctl::set_offload(queue, step.flags()) {
            Ok(()) => return Ok(step),
            Err(error) => refusal = Some(error),
        }
    }
    Err(DeviceError::Offload(refusal.unwrap_or_else(|| io::ErrorKind::Unsupported.into())))
}

/// Room for the largest super-packet and its header, filled by [`Queue::read`].
#[derive(Debug)]
pub struct SuperBuf {
    bytes: Box<[u8]>,
    len: usize,
}

impl Default for SuperBuf {
    fn default() -> Self {
        Self { bytes: vec![0; vnet::HEADER + PACKET_MAX].into_boxed_slice(), len: 0 }
    }
}

impl SuperBuf {
    /// What the last read brought: how to treat the packet, and the packet.
    ///
    /// # Errors
    /// When the header is refused: count it as `device_read` and drop the packet.
    pub fn parts(&self) -> Result<(VnetHeader, &[u8]), VnetError> {
        VnetHeader::parse(&self.bytes[..self.len])
    }
}

/// Takes what is written towards the site: one packet or super-packet at a time, behind its
/// [`VnetHeader`], in pieces that lie apart.
pub trait Sink {
    /// Writes one packet.
    ///
    /// # Errors
    /// When it was not taken; it is lost then.
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()>;
}

/// One queue of the device, used by one worker.
#[derive(Debug)]
pub struct Queue {
    file: File,
    granted: Offloads,
}

impl Queue {
    /// Wraps a descriptor of [`Created::queues`] with what was granted for it.
    #[must_use]
    pub fn from_fd(fd: OwnedFd, granted: Offloads) -> Self {
        Self { file: File::from(fd), granted }
    }

    /// The offloads that the kernel granted.
    #[must_use]
    pub fn granted(&self) -> Offloads {
        self.granted
    }

    /// Reads the next packet or super-packet and returns its length with the header, or `None`
    /// when none is waiting. Never blocks.
    ///
    /// # Errors
    /// When the device is gone or broken.
    pub fn read(&mut self, buf: &mut SuperBuf) -> io::Result<Option<usize>> {
        buf.len = 0;
        match self.file.read(&mut buf.bytes) {
            Ok(len) => {
                buf.len = len;
                Ok(Some(len))
            }
            Err(error) if is_nothing_now(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes one complete packet.
    ///
    /// # Errors
    /// When the kernel refused it: count it as `device_write`.
    pub fn write_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        let header = VnetHeader::default().encode();
        self.write(&[IoSlice::new(&header), IoSlice::new(packet)])
    }
}

impl Sink for Queue {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        // The device takes a packet whole or not at all.
        self.file.write_vectored(parts).map(|_| ())
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn is_nothing_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_interface_are_refused() {
        for name in ["", ".", "..", "tun%d", "a/b", "a b", "sixteen-letters-"] {
            assert!(matches!(create(name, 1, Offloads::ALL), Err(DeviceError::Name(_))), "{name}");
        }
        assert!(check_name("stoq0").is_ok());
    }

    #[test]
    fn the_number_of_queues_is_bounded() {
        for queues in [0, QUEUES_MAX + 1] {
            let refused = create("stoq0", queues, Offloads::ALL);
            assert!(matches!(refused, Err(DeviceError::Queues(_))));
        }
    }

    #[test]
    fn offloads_pass_as_a_byte() {
        for bits in 0..8 {
            assert_eq!(Offloads::from_bits(bits).to_bits(), bits);
        }
    }

    #[test]
    fn segmentation_is_not_asked_for_without_checksums() {
        let wanted = Offloads { checksum: false, ..Offloads::ALL };
        assert_eq!(wanted.consistent(), Offloads::NONE);
    }
}
