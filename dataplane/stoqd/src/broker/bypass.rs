//! The broker's requests about the way past the kernel: the XDP program, its maps and its sockets.
//!
//! The program is told what only the broker knows for sure: the ports of the sockets that it opened
//! itself, and this host's addresses, as the kernel lists them.

use std::net::Ipv6Addr;
use std::os::fd::{AsFd, OwnedFd};

use stoq_port::xdp::{Memory, MemoryShape};
use stoq_xdp::{Attached, CidCheck, CidKey, Program, Settings};

use super::message::{ConnectionIds, Reply};
use super::server::{Answer, Server, text};

/// Most ports of sockets: a dozen listen addresses and one of each worker.
const PORTS_MAX: usize = 256;

/// The neighbour that has our own address on the link. A frame to oneself leaves the interface, and the
/// first bridge or switch drops it, for it came from where it should go (IEEE 802.1D §7.7).
pub const MIRROR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x53, 0x544f, 0x51);

/// What the broker keeps of it.
#[derive(Default)]
pub(super) struct Bypass {
    program: Option<Program>,
    ports: Vec<u16>,
    connection_ids: Option<CidCheck>,
}

impl Bypass {
    /// A socket was opened on this port.
    pub(super) fn note_port(&mut self, port: u16) {
        if !self.ports.contains(&port) && self.ports.len() < PORTS_MAX {
            self.ports.push(port);
        }
    }

    fn program(&mut self) -> Result<&mut Program, String> {
        let none = || "expected an attached XDP program, got none; attach it first".to_owned();
        self.program.as_mut().ok_or_else(none)
    }
}

impl Server {
    pub(super) fn attach_xdp(&mut self, ids: ConnectionIds) -> Answer {
        let interface = self.policy.interface()?.to_owned();
        let mut keys = ids.keys.into_iter().map(|(number, secret)| CidKey { number, secret });
        let keys = std::array::from_fn(|_| keys.next());
        self.bypass.connection_ids = Some(CidCheck { generation: ids.generation, keys });
        let settings = self.xdp_settings()?;
        // The one before goes first: it may be on an interface that is gone.
        self.bypass.program = None;
        let program = Program::attach(&interface, &settings).map_err(text)?;
        let native = matches!(program.attached(), Attached::Native);
        let reply = Reply::Attached { interface: program.ifindex(), native };
        self.bypass.program = Some(program);
        Ok((reply, Vec::new()))
    }

    fn xdp_settings(&mut self) -> Result<Settings, String> {
        let addresses = self.netlink()?.addresses().map_err(text)?;
        let (deny, rules) = self.policy.abuse();
        Ok(Settings {
            ports: self.bypass.ports.clone(),
            addresses,
            deny,
            rules,
            connection_ids: self.bypass.connection_ids,
        })
    }

    pub(super) fn steer_xdp(&mut self, queue: u32, mut fds: Vec<OwnedFd>) -> Result<(), String> {
        let socket = fds.pop().ok_or("expected an AF_XDP socket beside the request, got none")?;
        self.bypass.program()?.set_socket(queue, socket.as_fd()).map_err(text)
    }

    pub(super) fn refresh_xdp(&mut self) -> Result<(), String> {
        let settings = self.xdp_settings()?;
        self.bypass.program()?.apply(&settings).map_err(text)
    }

    pub(super) fn detach_xdp(&mut self) -> Result<(), String> {
        self.bypass.program = None;
        Ok(())
    }

    pub(super) fn add_mirror(&mut self) -> Result<(), String> {
        let name = self.policy.interface()?.to_owned();
        let netlink = self.netlink()?;
        let index = netlink.index_of(&name).map_err(text)?;
        let mac = netlink.interface(index).map_err(text)?.mac;
        let mac = mac.ok_or_else(|| format!("expected an Ethernet interface, got {name}"))?;
        netlink.add_neighbour(index, MIRROR.into(), mac).map_err(text)
    }

    pub(super) fn remove_mirror(&mut self) -> Result<(), String> {
        let name = self.policy.interface()?.to_owned();
        let netlink = self.netlink()?;
        let index = netlink.index_of(&name).map_err(text)?;
        netlink.remove_neighbour(index, MIRROR.into()).map_err(text)
    }

    pub(super) fn xdp_counters(&mut self) -> Answer {
        let counters = self.bypass.program()?.counters().map_err(text)?;
        let counters = counters.iter().map(|(verdict, n)| (verdict.label().to_owned(), n));
        Ok((Reply::Counters(counters.collect()), Vec::new()))
    }
}

/// An AF_XDP socket for a memory of the other process: only CAP_NET_RAW may open one, and only
/// CAP_IPC_LOCK may lock so much.
pub(super) fn open_socket(shape: (u32, u32), mut fds: Vec<OwnedFd>) -> Answer {
    let file = fds.pop().ok_or("expected the memory beside the request, got none")?;
    let (frames, frame_len) = shape;
    let memory = Memory::of(file, MemoryShape { frames, frame_len }).map_err(text)?;
    let socket = memory.open_socket().map_err(|error| {
        format!(
            "expected an AF_XDP socket with its memory, got: {error}; give stoqd CAP_NET_RAW and \
             CAP_IPC_LOCK, or set port = \"uring\""
        )
    })?;
    Ok((Reply::XdpSocket, vec![socket]))
}
