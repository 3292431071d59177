//! The `xdp` port: packets between the NIC's queues and the worker, past the kernel's stack.
//!
//! ```text
//!            lane (AF_XDP socket, its memory) ──┐
//!   worker ──┤                                  ├── interface
//!            port beneath (uring or mio) ───────┘
//! ```
//!
//! It stands on a socket port, which has the same addresses: what the XDP program lets pass to the
//! kernel (fragments, other interfaces) arrives there, and what has no next hop past the kernel
//! leaves there. Without lanes it is that port and nothing else. So the interface may go down, vanish
//! or come back while links live on: the daemon plugs other lanes in, or none.
//!
//! It owns the lanes and the port beneath; the worker drives it.

mod frame;
mod hops;
mod kick;
mod lane;
mod ring;
mod routes;
mod sys;
mod umem;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use stoq_telemetry::{DropReason, Drops};

pub use frame::Link;
pub use hops::{Destination, Hop, Hops, NextHops};
pub use lane::{Lane, LaneSpec};
pub use umem::{Memory, MemoryShape};

use self::lane::Kick;
use self::routes::{Locals, Routes, Way};

use crate::{BypassMode, Mode, Port, Ready, RxMeta, Socket, TxMeta, WatchToken};

/// Packets taken from one lane in one call of `receive`: some 100 µs of work. More would hold back
/// the worker's timers and what it has to send.
const BURST: usize = 256;

/// The token by which the port beneath knows the lanes; the worker's own are below.
const LANES: WatchToken = 63;

/// Longest sleep while the sending lane has no room: the kernel does not tell when it has some again,
/// and sends about fifty packets in that time.
const ROOM: Duration = Duration::from_micros(50);

/// Sleeps between two looks at what the kernel could not deliver: a look is a system call.
const COUNT_EVERY: u32 = 64;

/// See the module.
pub(crate) struct XdpPort {
    beneath: Box<dyn Port>,
    lanes: Vec<Lane>,
    /// Readable when a lane has packets.
    readiness: Epoll,
    /// The first lane, which sends, had no room.
    blocked: bool,
    /// The core of the thread that calls the kernel to send, where one is wanted.
    thread: Option<Option<usize>>,
    /// Where the last slot was lent.
    lent: Lent,
    routes: Routes,
    locals: Locals,
    sleeps: u32,
    drops: Arc<Drops>,
}

/// Who lent the last slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lent {
    Lane,
    Beneath,
}

impl XdpPort {
    /// A port on top of another one, which has sockets with these local addresses. With `thread`, a lane
    /// that the kernel copies from is sent by a thread, on that core if one is named.
    pub(crate) fn over(
        mut beneath: Box<dyn Port>,
        locals: Vec<(Socket, SocketAddr)>,
        hops: Arc<NextHops>,
        thread: Option<Option<usize>>,
        drops: Arc<Drops>,
    ) -> io::Result<Self> {
        let readiness = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        beneath.watch(readiness.0.as_fd(), LANES)?;
        Ok(Self {
            beneath,
            lanes: Vec::new(),
            readiness,
            blocked: false,
            thread,
            lent: Lent::Beneath,
            routes: Routes::new(hops),
            locals: Locals(locals),
            sleeps: 0,
            drops,
        })
    }

    /// Sends a datagram that was written into a lane's slot through the port beneath.
    fn detour(&mut self, len: usize, meta: &TxMeta) {
        let Some(written) = self.lanes.first_mut().and_then(|lane| lane.written(len)) else {
            return;
        };
        match self.beneath.slot() {
            Some(slot) if slot.len() >= len => {
                slot[..len].copy_from_slice(written);
                self.beneath.commit(len, meta);
            }
            _ => self.drops.count(DropReason::PortSend),
        }
    }

    /// Counts what the kernel could not deliver.
    fn count_missed(&mut self) {
        self.sleeps = self.sleeps.wrapping_add(1);
        if self.sleeps.is_multiple_of(COUNT_EVERY) {
            let missed = self.lanes.iter_mut().map(Lane::missed).sum();
            self.drops.count_many(DropReason::RingFull, missed);
        }
    }
}

impl Port for XdpPort {
    fn receive(&mut self, handler: &mut dyn FnMut(&mut [u8], &RxMeta)) -> io::Result<usize> {
        let Self { lanes, locals, drops, .. } = self;
        let mut datagrams = 0;
        for lane in lanes {
            let (_, oversized) = lane.receive(BURST, &mut |bytes| match frame::parse(bytes) {
                Some(read) => {
                    let socket = locals.socket(read.to);
                    datagrams += 1;
                    let meta = RxMeta { from: read.from, to: read.to, socket, ecn: read.ecn };
                    handler(&mut bytes[read.payload], &meta);
                }
                None => drops.count(DropReason::PortReceive),
            });
            drops.count_many(DropReason::OuterOversized, oversized);
        }
        Ok(datagrams + self.beneath.receive(handler)?)
    }

    fn slot(&mut self) -> Option<&mut [u8]> {
        let Self { lanes, beneath, lent, blocked, .. } = self;
        let Some(lane) = lanes.first_mut() else {
            *lent = Lent::Beneath;
            return beneath.slot();
        };
        *lent = Lent::Lane;
        if lane.is_down() && !lane.has_room() {
            // What is in it waits until the interface is back; the rest must not.
            *lent = Lent::Beneath;
            return beneath.slot();
        }
        let slot = lane.slot();
        *blocked = slot.is_none();
        slot
    }

    fn commit(&mut self, len: usize, meta: &TxMeta) {
        if self.lent == Lent::Beneath {
            return self.beneath.commit(len, meta);
        }
        let Self { lanes, routes, locals, drops, .. } = self;
        let (Some(lane), Some(port)) = (lanes.first_mut(), locals.port(meta.socket)) else {
            return drops.count(DropReason::PortSend);
        };
        match routes.way(meta, port) {
            Way::Lane(template, _) if len > template.payload_max => {
                drops.count(DropReason::PortSend);
            }
            Way::Lane(template, hop) if !hop.take_doubt() => {
                lane.commit(len, template.len(), |packet| template.write(packet));
            }
            _ => self.detour(len, meta),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(lane) = self.lanes.first_mut() {
            self.blocked = lane.flush() == Kick::Blocked || !lane.has_room();
            self.routes.refresh();
        }
        self.beneath.flush()
    }

    fn watch(&mut self, fd: BorrowedFd<'_>, token: WatchToken) -> io::Result<()> {
        self.beneath.watch(fd, token)
    }

    fn unwatch(&mut self, token: WatchToken) -> io::Result<()> {
        self.beneath.unwatch(token)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        self.count_missed();
        let timeout = if self.lanes.iter().any(Lane::has_packets) {
            Some(Duration::ZERO)
        } else if self.blocked {
            Some(timeout.map_or(ROOM, |timeout| timeout.min(ROOM)))
        } else {
            timeout
        };
        let Ready(ready) = self.beneath.wait(timeout)?;
        if self.blocked
            && let Some(lane) = self.lanes.first_mut()
        {
            self.blocked = lane.flush() == Kick::Blocked || !lane.has_room();
        }
        Ok(Ready(ready & !(1 << LANES)))
    }

    fn mode(&self) -> Mode {
        let bypass = self
            .lanes
            .first()
            .map(|lane| BypassMode { native: lane.spec().native, zero_copy: lane.zero_copy() });
        Mode { bypass, ..self.beneath.mode() }
    }

    fn plug(&mut self, lanes: Vec<Lane>) -> io::Result<Vec<Lane>> {
        let before = std::mem::take(&mut self.lanes);
        (self.blocked, self.lent) = (false, Lent::Beneath);
        for lane in &before {
            self.readiness.delete(lane.as_fd())?;
        }
        for lane in &lanes {
            self.readiness.add(lane.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        }
        self.lanes = lanes;
        if let (Some(core), Some(sends)) = (self.thread, self.lanes.first_mut()) {
            sends.use_thread(core)?;
        }
        self.routes.refresh();
        Ok(before)
    }
}
