//! The `uring` port: receives and sends without a system call for each, through io_uring.
//!
//! ```text
//! main ring (the worker's):  receives (multishot or single) and polls of watched descriptors;
//!                            the worker sleeps in its io_uring_enter
//! send ring (worker's):      chains of sendmsg entries, when there is little to send
//! send ring (sender's):      the same on the sender thread, when there is much
//! ```
//!
//! It owns the rings, the receive buffers and the worker's sockets; the worker drives it.

mod buffers;
mod intake;
mod message;
mod reason;
mod ring;
mod transmit;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use stoq_telemetry::{DropReason, Drops};

pub use reason::UringReason;

use self::intake::{Arrival, Intake, Multishot, RECEIVE, SingleShot};
use self::ring::{Flavour, Ring};
use self::transmit::RingTransmit;
use self::watch::{Polls, ROOM, TRANSMIT};
use crate::outlet::{BUFFERS, Outlet};
use crate::sender::SenderThread;
use crate::sockets::Sockets;
use crate::split::deliver;
use crate::transmit::Transmit;
use crate::{
    Mode, Port, PortError, PortKind, PortOptions, Ready, RxMeta, Sender, Socket, TxMeta, WatchToken,
};

/// Entries that the worker queues between two calls into the kernel: every socket and every watched
/// descriptor armed anew.
const ENTRIES: u32 = 256;

/// Completions that fit: every buffer filled, every descriptor readable, and as much again, so that
/// the kernel never has to keep any back.
const COMPLETIONS: u32 = 512;

/// Messages delivered in one call of `receive`; more would hold back the worker's timers and what
/// it has to send.
const MESSAGES_MAX: usize = 64;

/// See the module.
pub(crate) struct UringPort {
    intake: Intake,
    arrived: VecDeque<Arrival>,
    polls: Polls,
    outlet: Outlet,
    sockets: Sockets,
    drops: Arc<Drops>,
    ring: Ring,
}

impl UringPort {
    /// Opens the port on bound sockets, on the thread that will use it.
    pub(crate) fn open(
        sockets: Vec<(Socket, OwnedFd)>,
        options: &PortOptions,
        drops: Arc<Drops>,
    ) -> Result<Self, PortError> {
        let sockets = Sockets::new(PortKind::Uring, sockets, options)?;
        for bound in sockets.iter() {
            make_blocking(&bound.fd).map_err(|source| open_error("socket", source))?;
        }
        let files: Vec<RawFd> = sockets.iter().map(|bound| bound.fd.as_raw_fd()).collect();
        let mut ring = Ring::new(ENTRIES, COMPLETIONS, Flavour::Deferred, &files)?;
        let intake = start_intake(&mut ring, &sockets, options)
            .map_err(|source| open_error("receive entries", source))?;
        let thread = match options.sender {
            Sender::Inline => None,
            Sender::Thread => Some(spawn_sender(&sockets, options)?),
        };
        let gso = options.gso && sockets.know_gso();
        let inline = Box::new(RingTransmit::new(sockets.clone())?);
        let outlet = Outlet::new(inline, thread, gso, Arc::clone(&drops));
        let arrived = VecDeque::with_capacity(COMPLETIONS as usize);
        Ok(Self { intake, arrived, polls: Polls::default(), outlet, sockets, drops, ring })
    }

    /// Sorts what has completed.
    fn reap(&mut self) {
        while let Some(completion) = self.ring.next() {
            if completion.user_data & RECEIVE == 0 {
                self.polls.fired(completion.user_data);
            } else if let Some(arrival) = self.intake.take(&completion) {
                self.arrived.push_back(arrival);
            }
        }
    }

    /// Arms the polls of the worker's descriptors and of those inside the port.
    fn arm_polls(&mut self) -> io::Result<()> {
        if let Some(room) = self.outlet.room() {
            self.polls.arm_internal(&mut self.ring, ROOM, room)?;
        }
        if let Some((ring, _)) = self.outlet.blocked_on() {
            self.polls.arm_internal(&mut self.ring, TRANSMIT, ring)?;
        }
        self.polls.arm(&mut self.ring)
    }
}

impl Port for UringPort {
    fn receive(&mut self, handler: &mut dyn FnMut(&mut [u8], &RxMeta)) -> io::Result<usize> {
        let mut messages = 0;
        let mut datagrams = 0;
        let mut asked = false;
        loop {
            self.reap();
            let before = messages;
            while messages < MESSAGES_MAX
                && let Some(arrival) = self.arrived.pop_front()
            {
                messages += 1;
                let bound = self.sockets.get(arrival.socket);
                let drops = &self.drops;
                datagrams += self.intake.read(arrival, |message| match message {
                    Some(message) => deliver(message, bound, drops, handler),
                    None => {
                        drops.count(DropReason::PortReceive);
                        0
                    }
                });
            }
            self.intake.arm(&mut self.ring)?;
            // The ring's word that work was put off may be stale, so asking must bring something.
            let in_vain = asked && messages == before;
            if messages >= MESSAGES_MAX || in_vain || self.ring.is_quiet() {
                return Ok(datagrams);
            }
            self.ring.submit()?;
            asked = true;
        }
    }

    fn slot(&mut self) -> Option<&mut [u8]> {
        self.outlet.slot()
    }

    fn commit(&mut self, len: usize, meta: &TxMeta) {
        self.outlet.commit(len, meta);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.outlet.flush()
    }

    fn watch(&mut self, fd: BorrowedFd<'_>, token: WatchToken) -> io::Result<()> {
        self.polls.watch(fd, token)
    }

    fn unwatch(&mut self, token: WatchToken) -> io::Result<()> {
        self.polls.unwatch(token);
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        self.reap();
        self.intake.arm(&mut self.ring)?;
        self.arm_polls()?;
        let busy = !self.arrived.is_empty() || self.polls.any_fired();
        self.ring.wait(1, if busy { Some(Duration::ZERO) } else { timeout })?;
        self.reap();
        let fired = self.polls.take();
        if fired.room {
            self.outlet.clear_room();
        }
        if fired.transmit {
            self.outlet.advance()?;
        }
        Ok(fired.ready)
    }

    fn mode(&self) -> Mode {
        let single_shot = matches!(self.intake, Intake::SingleShot(_));
        Mode { gso: self.outlet.gso(), gro: self.sockets.gro, single_shot, bypass: None }
    }
}

impl Drop for UringPort {
    fn drop(&mut self) {
        if !self.ring.close() {
            self.intake.leak();
        }
    }
}

/// Multishot if it is wanted and the kernel can.
fn start_intake(ring: &mut Ring, sockets: &Sockets, options: &PortOptions) -> io::Result<Intake> {
    let multishot = if options.multishot { Multishot::new(ring, sockets.len())? } else { None };
    Ok(multishot
        .map_or_else(|| Intake::SingleShot(SingleShot::new(sockets.len())), Intake::Multishot))
}

/// On a non-blocking socket an entry would fail at once instead of waiting for its packet.
fn make_blocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(())
}

fn spawn_sender(sockets: &Sockets, options: &PortOptions) -> Result<SenderThread, PortError> {
    let sockets = sockets.clone();
    let make = move || {
        let transmit = RingTransmit::new(sockets).map_err(io::Error::other)?;
        Ok(Box::new(transmit) as Box<dyn Transmit>)
    };
    SenderThread::spawn(BUFFERS, options.sender_core, make)
        .map_err(|source| open_error("sender thread", source))
}

fn open_error(what: &'static str, source: io::Error) -> PortError {
    let advice = "use the mio port, or check the core numbers and the limit of open files";
    PortError::Open { port: PortKind::Uring, what, source, advice }
}
