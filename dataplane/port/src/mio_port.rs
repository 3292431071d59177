//! The `mio` port: readiness, `recvmmsg` with GRO, `sendmmsg` with GSO.
//!
//! Works on every kernel and without privilege. It owns the worker's sockets, the receive buffers
//! and the poll; the worker drives it through [`Port`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use stoq_telemetry::Drops;

use crate::outlet::{BUFFERS, Outlet};
use crate::port::{WATCH_MAX, check_token};
use crate::sender::SenderThread;
use crate::sockets::{SOCKETS_MAX, Sockets};
use crate::split::deliver;
use crate::sys::{RECV_BATCH, RecvBatch};
use crate::transmit::{CallTransmit, Transmit};
use crate::{
    Mode, Port, PortError, PortKind, PortOptions, Ready, RxMeta, Sender, Socket, TxMeta, WatchToken,
};

/// Messages taken from one socket in one call of `receive`: four batches. More would hold back the
/// worker's timers and what it has to send; fewer would make each burst dearer.
const MESSAGES_MAX: usize = 4 * RECV_BATCH;

/// Below this the poll's resolution of a millisecond is too coarse to pace packets.
const FINE_TIMEOUT: Duration = Duration::from_millis(20);

/// Token of the sender thread's eventfd; the watched descriptors' and the sockets' are below.
const ROOM: Token = Token(WATCH_MAX + SOCKETS_MAX);

/// A watched descriptor.
struct Watched {
    fd: OwnedFd,
    token: WatchToken,
    /// It was readable and may still be: mio tells only once, so ask again before sleeping.
    fired: bool,
}

/// See the module.
pub(crate) struct MioPort {
    poll: Poll,
    events: Events,
    sockets: Sockets,
    /// Sockets that may have packets waiting, by place.
    readable: [bool; SOCKETS_MAX],
    inbox: RecvBatch,
    outlet: Outlet,
    /// The socket whose writability is being watched.
    write_watch: Option<usize>,
    watched: Vec<Watched>,
    drops: Arc<Drops>,
}

impl MioPort {
    /// Opens the port on bound sockets.
    pub(crate) fn open(
        sockets: Vec<(Socket, OwnedFd)>,
        options: &PortOptions,
        drops: Arc<Drops>,
    ) -> Result<Self, PortError> {
        let sockets = Sockets::new(PortKind::Mio, sockets, options)?;
        let poll = Poll::new().map_err(|source| open_error("poll", source))?;
        let thread = match options.sender {
            Sender::Inline => None,
            Sender::Thread => Some(spawn_sender(&sockets, options)?),
        };
        let gso = options.gso && sockets.know_gso();
        let inline = Box::new(CallTransmit::new(sockets.clone()));
        let outlet = Outlet::new(inline, thread, gso, Arc::clone(&drops));
        let registry = poll.registry();
        for (index, bound) in sockets.iter().enumerate() {
            let fd = bound.fd.as_raw_fd();
            registry
                .register(&mut SourceFd(&fd), socket_token(index), Interest::READABLE)
                .map_err(|source| open_error("poll", source))?;
        }
        if let Some(room) = outlet.room() {
            registry
                .register(&mut SourceFd(&room.as_raw_fd()), ROOM, Interest::READABLE)
                .map_err(|source| open_error("poll", source))?;
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(WATCH_MAX),
            sockets,
            readable: [true; SOCKETS_MAX],
            inbox: RecvBatch::new(),
            outlet,
            write_watch: None,
            watched: Vec::new(),
            drops,
        })
    }

    /// Takes a burst from one socket.
    fn receive_from(&mut self, index: usize, handler: &mut dyn FnMut(&mut [u8], &RxMeta)) -> usize {
        let bound = self.sockets.get(index);
        let mut messages = 0;
        let mut datagrams = 0;
        while self.readable[index] && messages < MESSAGES_MAX {
            let count = match self.inbox.receive(bound.as_fd()) {
                Ok(count) => count,
                Err(error) => {
                    // A socket's own error (of an earlier send) is told once and then gone.
                    let again = error.kind() != io::ErrorKind::WouldBlock;
                    self.readable[index] = again;
                    messages += usize::from(again);
                    continue;
                }
            };
            messages += count;
            self.readable[index] = count == RECV_BATCH;
            for message in 0..count {
                datagrams += deliver(self.inbox.message(message), bound, &self.drops, handler);
            }
        }
        datagrams
    }

    /// Asks again for watched descriptors that were readable: mio tells each readiness once.
    fn rearm(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        for watched in self.watched.iter_mut().filter(|watched| watched.fired) {
            let fd = watched.fd.as_raw_fd();
            registry.reregister(
                &mut SourceFd(&fd),
                Token(usize::from(watched.token)),
                Interest::READABLE,
            )?;
            watched.fired = false;
        }
        Ok(())
    }

    /// Watches the writability of the socket that the outlet waits for, and of no other: a socket
    /// becomes writable with every packet that leaves.
    fn watch_writable(&mut self) -> io::Result<()> {
        let blocked = self.outlet.blocked_on().map(|(fd, _)| fd.as_raw_fd());
        let blocked = self.sockets.iter().position(|bound| Some(bound.fd.as_raw_fd()) == blocked);
        if blocked == self.write_watch {
            return Ok(());
        }
        for (index, interest) in [
            (self.write_watch, Interest::READABLE),
            (blocked, Interest::READABLE | Interest::WRITABLE),
        ] {
            let Some(index) = index else { continue };
            let fd = self.sockets.get(index).fd.as_raw_fd();
            let registry = self.poll.registry();
            registry.reregister(&mut SourceFd(&fd), socket_token(index), interest)?;
        }
        self.write_watch = blocked;
        Ok(())
    }

    /// Sleeps up to `timeout`; the events are in `self.events` then.
    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut timeout = timeout;
        if let Some(fine) = timeout.filter(|t| !t.is_zero() && *t < FINE_TIMEOUT) {
            let registry = self.poll.registry().as_fd();
            let mut readiness = [PollFd::new(registry, PollFlags::POLLIN)];
            match ppoll(&mut readiness, Some(TimeSpec::from_duration(fine)), None) {
                Ok(_) | Err(nix::Error::EINTR) => timeout = Some(Duration::ZERO),
                Err(error) => return Err(error.into()),
            }
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        Ok(())
    }

    /// Notes what the events say; the bits are those of watched descriptors.
    fn note_events(&mut self) -> Ready {
        let mut ready = Ready::default();
        let mut room = false;
        for event in &self.events {
            match event.token() {
                ROOM => room = true,
                Token(token) if token >= WATCH_MAX => self.readable[token - WATCH_MAX] = true,
                Token(token) => {
                    ready.0 |= 1 << token;
                    let watched = self.watched.iter_mut();
                    let fired = watched.filter(|w| usize::from(w.token) == token);
                    fired.for_each(|w| w.fired = true);
                }
            }
        }
        if room {
            self.outlet.clear_room();
        }
        ready
    }
}

impl Port for MioPort {
    fn receive(&mut self, handler: &mut dyn FnMut(&mut [u8], &RxMeta)) -> io::Result<usize> {
        let sockets = 0..self.sockets.len();
        Ok(sockets.map(|index| self.receive_from(index, handler)).sum())
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
        check_token(token)?;
        let fd = fd.try_clone_to_owned()?;
        let raw = fd.as_raw_fd();
        let source = &mut SourceFd(&raw);
        self.poll.registry().register(source, Token(usize::from(token)), Interest::READABLE)?;
        self.watched.push(Watched { fd, token, fired: false });
        Ok(())
    }

    fn unwatch(&mut self, token: WatchToken) -> io::Result<()> {
        for gone in self.watched.extract_if(.., |watched| watched.token == token) {
            self.poll.registry().deregister(&mut SourceFd(&gone.fd.as_raw_fd()))?;
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        self.rearm()?;
        self.watch_writable()?;
        let waiting = self.readable[..self.sockets.len()].contains(&true);
        self.sleep(if waiting { Some(Duration::ZERO) } else { timeout })?;
        let ready = self.note_events();
        if self.write_watch.is_some() {
            self.outlet.advance()?;
        }
        Ok(ready)
    }

    fn mode(&self) -> Mode {
        Mode { gso: self.outlet.gso(), gro: self.sockets.gro, single_shot: false, bypass: None }
    }
}

fn socket_token(index: usize) -> Token {
    Token(WATCH_MAX + index)
}

fn spawn_sender(sockets: &Sockets, options: &PortOptions) -> Result<SenderThread, PortError> {
    let sockets = sockets.clone();
    let make = move || Ok(Box::new(CallTransmit::new(sockets)) as Box<dyn Transmit>);
    SenderThread::spawn(BUFFERS, options.sender_core, make)
        .map_err(|source| open_error("sender thread", source))
}

fn open_error(what: &'static str, source: io::Error) -> PortError {
    let advice = "raise the limits of processes and open files, or check the core numbers";
    PortError::Open { port: PortKind::Mio, what, source, advice }
}
