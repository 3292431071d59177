//! What the broker can be asked, and its answers. This list is all that a taken-over stoqd could
//! still do with privilege.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Request {
    /// Read the configuration file again; it comes back open.
    Reload,
    /// Take back the last reload: what the file names is not to be used.
    Revert,
    /// Make the configured device.
    CreateTunnel {
        /// How many queues.
        queues: u16,
    },
    /// Set the device's MTU and bring it up.
    SetMtu {
        /// In bytes.
        mtu: u16,
    },
    /// Add a route through the device.
    AddRoute {
        /// Its destination, within the prefixes of the configuration.
        prefix: String,
        /// Keep it beside the main table, where marked packets do not look.
        beside: bool,
    },
    /// Remove such a route.
    RemoveRoute {
        /// Its destination.
        prefix: String,
    },
    /// Open a UDP socket.
    OpenSocket {
        /// Which of the configured ones.
        which: UdpSocket,
    },
    /// Open the sockets of a server of names.
    OpenNames {
        /// Where: an address of the device, or a loopback address.
        address: IpAddr,
    },
    /// Open a file for reading.
    OpenFile {
        /// Which of the configured ones.
        which: ConfiguredFile,
    },
    /// Attach the XDP program to the configured interface, for the sockets that were opened.
    AttachXdp {
        /// By what it knows our connection IDs.
        connection_ids: ConnectionIds,
    },
    /// Open an AF_XDP socket, not bound yet, for the memory whose file comes beside.
    OpenXdpSocket {
        /// Its frames.
        frames: u32,
        /// Bytes of each.
        frame_len: u32,
    },
    /// Let the program send the packets of this queue to the socket that comes beside.
    SteerXdp {
        /// The queue.
        queue: u32,
    },
    /// Tell the program anew which addresses are this host's.
    RefreshXdp,
    /// Detach the program.
    DetachXdp,
    /// Make the interface's own address on the link that of a made-up neighbour, to which ports are tried.
    AddMirror,
    /// Take that neighbour away.
    RemoveMirror,
    /// Read the program's counters.
    XdpCounters,
    /// Start the process that takes over, with the end of a channel that comes beside.
    StartHeir,
    /// End that process: it did not take over.
    EndHeir,
    /// Leave routes and rules to the next process, or do not.
    KeepRoutes {
        /// Whether they are left.
        keep: bool,
    },
}

/// What tells a connection ID of ours from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionIds {
    /// The number of this run.
    pub generation: u16,
    /// The valid keys, at most two: number and secret of the tag.
    pub keys: Vec<(u8, [u8; 16])>,
}

/// A socket that the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UdpSocket {
    /// The listen address at this place of the list, shared among workers.
    Listen(u8),
    /// A port of its own to dial from.
    Dial,
}

/// A file that the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfiguredFile {
    /// `identity.certificate`
    Certificate,
    /// `identity.key`
    Key,
    /// `identity.authority`
    Authority,
}

/// An answer; descriptors come beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is done.
    Done,
    /// The device's queues come beside.
    Tunnel {
        /// The offloads as bits of `stoq_tunnel::device::Offloads`.
        granted: u8,
        /// It is no device of the process before.
        anew: bool,
    },
    /// The socket comes beside.
    Socket {
        /// Where it is bound.
        local: SocketAddr,
        /// What was not granted.
        warnings: Vec<String>,
    },
    /// The two sockets come beside, UDP first.
    Names,
    /// The file comes beside.
    File,
    /// The program is attached.
    Attached {
        /// Index of the interface.
        interface: u32,
        /// It runs in the driver.
        native: bool,
    },
    /// The AF_XDP socket comes beside.
    XdpSocket,
    /// The process is started.
    Heir {
        /// Its number.
        pid: i32,
    },
    /// How the process ended.
    Ended {
        /// In words.
        how: String,
    },
    /// What became of packets, by name.
    Counters(Vec<(String, u64)>),
    /// It is not done.
    Refused {
        /// What was expected, what came, and what to do.
        reason: String,
    },
}
