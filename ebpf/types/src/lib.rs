//! What the XDP program and its loader share: the layout of the maps, their names and sizes, the
//! verdicts, and the two computations that both sides must do alike.
//!
//! Owns no state. The program (`ebpf/program`) and the loader (`dataplane/xdp`) use it, so it has no
//! dependencies and no standard library. What is computed here is tested on the host; what the program
//! makes of it is tested in the kernel, by the loader's table of cases.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod address;
mod config;
mod limit;
mod tag;
mod verdict;

pub use address::{Address, address, from_v4, source_prefix};
pub use config::{Config, KEYS_MAX, KeySlot, Rule};
pub use limit::{LIMITS, Limit, LimitIndex};
pub use tag::tag;
pub use verdict::{VERDICTS, Verdict};

/// Name of the program: in the object, in `bpftool prog`, and in the kernel's log.
pub const PROGRAM: &str = "stoq";

/// Names of the maps. The kernel keeps 15 bytes of a name.
pub mod map {
    /// One [`Config`](crate::Config).
    pub const CONFIG: &str = "CONFIG";
    /// The UDP ports, one bit for each.
    pub const PORTS: &str = "PORTS";
    /// The addresses of this host.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// Refused IPv4 source prefixes.
    pub const DENY_V4: &str = "DENY_V4";
    /// Refused IPv6 source prefixes.
    pub const DENY_V6: &str = "DENY_V6";
    /// The state of the token bucket of each source prefix that sent an Initial packet.
    pub const SOURCES: &str = "SOURCES";
    /// One [`Core`](crate::Core) for each CPU.
    pub const CORES: &str = "CORES";
    /// The AF_XDP socket of each receive queue.
    pub const SOCKETS: &str = "SOCKETS";
}

/// Words of the map of ports: a bit for each of the 65,536.
pub const PORT_WORDS: u32 = 1 << 10;

/// Most UDP ports: one for each of the 256 workers that a connection ID can name, and as many to listen
/// on. The map has a bit for each port there is; this bounds what user space writes at a time.
pub const PORTS_MAX: u32 = 512;

/// Most local addresses: an edge host has some dozens, one with containers some hundreds.
pub const ADDRESSES_MAX: u32 = 1024;

/// Most refused prefixes of one family. Public deny lists of whole networks hold some thousands; the
/// kernel takes about 100 bytes for one, and its steps for a packet grow with the length of a prefix
/// alone.
pub const DENY_MAX: u32 = 16_384;

/// Source prefixes whose Initial packets are counted; the least recently seen makes room. It must
/// outlast the time in which a bucket fills (4 s by default) at the rate that the whole host lets
/// through (5,000 a second and core): enough for three such cores at their limit, 5 MiB of memory.
pub const SOURCES_MAX: u32 = 65_536;

/// Most receive queues of an interface: one a core on the largest hosts that this is for. What arrives
/// on a queue beyond goes to the kernel's socket.
pub const QUEUES_MAX: u32 = 64;

/// Length of a connection ID of STOQ in bytes.
pub const CID_LEN: usize = 12;

/// Length of a stateless reset of STOQ in bytes of UDP payload.
pub const RESET_LEN: u32 = 40;

/// What one CPU keeps: it alone writes it, so counting takes no lock.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Packets by [`Verdict`].
    pub packets: [u64; VERDICTS],
    /// The state of each token bucket of this CPU, by [`LimitIndex`].
    pub buckets: [u64; LIMITS],
}
