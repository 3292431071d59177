//! Why the program could not be loaded, attached or told something.

use std::fmt;
use std::io;
use std::net::IpAddr;

/// Why it was not done: what was asked, what came, what to do.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// There is no such interface.
    #[error("expected an interface named {interface}, got \"{source}\"; look at `ip link`")]
    Interface {
        /// Its name.
        interface: String,
        /// What the kernel said.
        source: nix::Error,
    },
    /// The kernel did not take the program or its maps.
    #[error(
        "expected the kernel to load the XDP program, got \"{reason}\"; it needs Linux 5.18 or later \
         with BPF, and CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; or set port = \"uring\""
    )]
    Load {
        /// What the kernel, or the loader, said.
        reason: String,
    },
    /// Another program is there, and is left there.
    #[error(
        "expected no XDP program on {interface}, got {occupant}; set port = \"uring\", or stop \
         what attached it, or remove it by `ip link set dev {interface} {off} off` \
         (`bpftool net show dev {interface}` shows it)",
        off = occupant.mode.ip_word()
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The program that is there.
        occupant: Occupant,
    },
    /// The interface takes the program in no mode.
    #[error(
        "expected {interface} to take an XDP program, got \"{native}\" from the driver and \
         \"{generic}\" from the kernel; look at the kernel's log, or set port = \"uring\""
    )]
    Attach {
        /// The interface.
        interface: String,
        /// Why not in the driver.
        native: String,
        /// Why not in the generic mode.
        generic: String,
    },
    /// A map could not be read or written.
    #[error(
        "expected to {task} the map {map} of the XDP program, got \"{reason}\"; \
         look at the kernel's log, or set port = \"uring\""
    )]
    Map {
        /// Its name.
        map: &'static str,
        /// What was to be done.
        task: &'static str,
        /// What the kernel, or the loader, said.
        reason: String,
    },
    /// More than a map holds.
    #[error("expected at most {most} {what} for the XDP program, got {got}; use fewer")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: u32,
        /// How many there were.
        got: usize,
    },
    /// A prefix is longer than an address.
    #[error("expected a prefix length up to {most}, got {address}/{length}; correct the deny list")]
    PrefixLength {
        /// The address.
        address: IpAddr,
        /// The length.
        length: u8,
        /// The most for its family.
        most: u8,
    },
    /// A queue that the map of sockets has no place for.
    #[error(
        "expected a receive queue below {most}, got {queue}; give the interface fewer queues by \
         `ethtool -L`, or set port = \"uring\""
    )]
    Queue {
        /// The queue.
        queue: u32,
        /// The bound.
        most: u32,
    },
    /// The kernel did not say what is attached.
    #[error(
        "expected the kernel to tell of {interface}, got \"{source}\"; look at the kernel's log"
    )]
    Query {
        /// The interface.
        interface: String,
        /// What it said.
        source: io::Error,
    },
}

/// A program of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// Its number, as in `bpftool prog show id`.
    pub id: u32,
    /// Its name; the kernel tells it to CAP_SYS_ADMIN alone.
    pub name: Option<String>,
    /// How it is attached.
    pub mode: Mode,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "program {name} (id {}) in {} mode", self.id, self.mode),
            None => write!(f, "program id {} in {} mode", self.id, self.mode),
        }
    }
}

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel makes a packet of the frame.
    Native,
    /// In the kernel, after that: it works everywhere and costs more.
    Generic,
    /// In the network card.
    Hardware,
}

impl Mode {
    /// What `ip link set` calls it.
    const fn ip_word(self) -> &'static str {
        match self {
            Self::Native => "xdp",
            Self::Generic => "xdpgeneric",
            Self::Hardware => "xdpoffload",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Hardware => "hardware",
        })
    }
}
