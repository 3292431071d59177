//! Streams of a worker: each is joined to a Unix socket, that of a configured service when a peer
//! opened it, or that of a program which asked for it at the control socket.
//!
//! ```text
//!   program ── Unix socket ── Pipe ── stream ═══ peer's stream ── Pipe ── Unix socket ── service
//! ```
//!
//! The sockets are watched by one epoll instance, edge by edge, and the port watches that instance:
//! so they cost the port one token, and a worker without streams nothing at all. With streams, each
//! turn of the worker asks it once.

mod pipe;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use stoq::{Broken, OpenError, PeerId, Service, StreamCode, StreamEvent, StreamId};
use stoq_telemetry::DropReason;

use self::pipe::{Ended, Pipe};
use super::Worker;

/// Bytes moved at a time: some fifty packets, and a third of what a Unix socket holds.
const CHUNK: usize = 64 << 10;

/// Sockets that are asked about in one turn at most; the rest are asked about in the next.
const EVENTS: usize = 64;

/// How long a peer may take to accept a stream: several round trips of the longest paths, and of a
/// peer that connects to its service.
const ANSWER: Duration = Duration::from_secs(5);

/// A service that peers may open streams to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name in the header of streams.
    pub service: Service,
    /// The Unix socket that it listens on.
    pub socket: PathBuf,
    /// Who may use it.
    pub peers: Users,
    /// It is told who opened a stream.
    pub announce: bool,
}

/// The peers that may use a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// Every one.
    All,
    /// These.
    These(Vec<PeerId>),
}

impl Users {
    fn contains(&self, peer: PeerId) -> bool {
        match self {
            Self::All => true,
            Self::These(peers) => peers.contains(&peer),
        }
    }
}

/// A stream that a program of this host asks for.
#[derive(Debug)]
pub struct Wanted {
    /// To which peer.
    pub peer: PeerId,
    /// To which of its services.
    pub service: Service,
    /// The program's socket, which becomes the stream.
    pub socket: UnixStream,
    /// Goes to the program before the peer's bytes, once the peer has accepted.
    pub greeting: Vec<u8>,
    /// Is told how it went; after an error the worker has let go of the socket.
    pub reply: Sender<Result<(), StreamRefused>>,
}

/// Why a wanted stream did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefused {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The peer has no such service.
    #[error(
        "expected the peer to have this service, got `unknown service`; see [[service]] in its \
         configuration"
    )]
    UnknownService,
    /// The peer does not let this node.
    #[error(
        "expected the peer to accept, got `refused`; add this node to `peers` of its [[service]], \
         or end other streams"
    )]
    NotAllowed,
    /// The peer's service does not answer.
    #[error("expected the peer's service to answer, got none; is the service running there?")]
    Service,
    /// The link broke, or the peer did not answer in time.
    #[error("expected an answer of the peer within {}, got none; try again", ANSWER.as_secs())]
    NoAnswer,
    /// This host's kernel did not watch the socket.
    #[error("expected to watch the program's socket, which the kernel refused; try again")]
    Local,
}

impl From<Broken> for StreamRefused {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::ByPeer(StreamCode::UnknownService) => Self::UnknownService,
            Broken::ByPeer(StreamCode::Refused) => Self::NotAllowed,
            Broken::ByPeer(_) => Self::Service,
            Broken::Lost => Self::NoAnswer,
        }
    }
}

/// A wanted stream that the peer has not accepted yet.
struct Opening {
    wanted: Wanted,
    until: Instant,
}

/// The streams of one worker.
pub(super) struct Streams {
    epoll: Epoll,
    pipes: HashMap<StreamId, Pipe>,
    openings: HashMap<StreamId, Opening>,
    /// Streams that may have something to move.
    due: VecDeque<StreamId>,
    chunk: Box<[u8]>,
}

impl Streams {
    /// No streams.
    ///
    /// # Errors
    /// When the kernel has no epoll instance left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            pipes: HashMap::new(),
            openings: HashMap::new(),
            due: VecDeque::new(),
            chunk: vec![0; CHUNK].into(),
        })
    }

    /// Readable when a socket has something to say.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Joins a stream to a socket.
    fn join(&mut self, stream: StreamId, socket: UnixStream, first: Vec<u8>) -> io::Result<()> {
        let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        self.epoll.add(&socket, EpollEvent::new(edges | EpollFlags::EPOLLET, stream.0))?;
        self.pipes.insert(stream, Pipe::new(socket, first));
        self.due.push_back(stream);
        Ok(())
    }

    fn part(&mut self, stream: StreamId) {
        if let Some(pipe) = self.pipes.remove(&stream) {
            // The program may hold a duplicate, so that closing ours would not end the watch.
            let _gone = self.epoll.delete(pipe.socket());
        }
    }

    /// Asks which sockets have something to say.
    fn ask(&mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        // An interrupted look is made again in the next turn.
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let over = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        for event in &events[..count] {
            let (stream, flags) = (StreamId(event.data()), event.events());
            let Some(pipe) = self.pipes.get_mut(&stream) else { continue };
            let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | over;
            pipe.note(flags.intersects(readable), flags.intersects(EpollFlags::EPOLLOUT | over));
            self.due.push_back(stream);
        }
    }
}

impl Worker {
    /// Opens a stream for a program of this host.
    pub(super) fn open_stream(&mut self, wanted: Wanted, now: Instant) {
        match self.endpoint.open_stream(wanted.peer, &wanted.service) {
            Ok(stream) => {
                let opening = Opening { wanted, until: now + ANSWER };
                self.streams.openings.insert(stream, opening);
            }
            Err(error) => refuse(wanted, error.into()),
        }
    }

    /// Does what there is to do for streams. Returns how many bytes were moved.
    pub(super) fn carry_streams(&mut self, now: Instant) -> usize {
        while let Some(event) = self.endpoint.poll_stream() {
            self.stream_event(event);
        }
        if !self.streams.openings.is_empty() {
            self.expire_openings(now);
        }
        if self.streams.pipes.is_empty() {
            return 0;
        }
        self.streams.ask();
        let mut moved = 0;
        // Those that come back in line have their next turn after the packets had theirs.
        for _ in 0..self.streams.due.len() {
            let Some(stream) = self.streams.due.pop_front() else { break };
            moved += self.turn_stream(stream, now);
        }
        moved
    }

    fn turn_stream(&mut self, stream: StreamId, now: Instant) -> usize {
        let Self { endpoint, streams, drops, .. } = self;
        let Some(pipe) = streams.pipes.get_mut(&stream) else { return 0 };
        match pipe.turn(stream, endpoint, &mut streams.chunk, now) {
            Ok(turn) => {
                if turn.is_over {
                    streams.part(stream);
                } else if turn.has_more {
                    streams.due.push_back(stream);
                }
                turn.moved
            }
            Err(ended) => {
                if ended == Ended::Socket {
                    drops.count(DropReason::StreamLocal);
                }
                endpoint.reset_stream(stream, ended.code());
                streams.part(stream);
                0
            }
        }
    }

    fn stream_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened { stream, peer, service } => {
                if let Err(code) = self.serve(stream, peer, &service) {
                    self.endpoint.reset_stream(stream, code);
                }
            }
            StreamEvent::Accepted(stream) => {
                let Some(opening) = self.streams.openings.remove(&stream) else { return };
                self.accepted(stream, opening.wanted);
            }
            StreamEvent::Ready(stream) => self.streams.due.push_back(stream),
            StreamEvent::Closed(stream, broken) => {
                if let Some(opening) = self.streams.openings.remove(&stream) {
                    refuse(opening.wanted, broken.into());
                }
                self.streams.part(stream);
            }
        }
    }

    /// Joins a stream that the peer has accepted to the program that wanted it.
    fn accepted(&mut self, stream: StreamId, wanted: Wanted) {
        let Wanted { socket, greeting, reply, .. } = wanted;
        let joined = self.streams.join(stream, socket, greeting);
        if joined.is_err() {
            self.endpoint.reset_stream(stream, StreamCode::LocalFailure);
        }
        // Whoever asked may have gone.
        let _gone = reply.try_send(joined.map_err(|_| StreamRefused::Local));
    }

    /// Connects a stream that a peer opened to the service that it names.
    fn serve(
        &mut self,
        stream: StreamId,
        peer: PeerId,
        service: &Service,
    ) -> Result<(), StreamCode> {
        let offer = self.peering.offers.iter().find(|offer| offer.service == *service);
        let Some(offer) = offer else {
            self.drops.count(DropReason::StreamUnknown);
            return Err(StreamCode::UnknownService);
        };
        if !offer.peers.contains(peer) {
            self.drops.count(DropReason::StreamNotAllowed);
            return Err(StreamCode::Refused);
        }
        let first = if offer.announce { self.announcement(peer) } else { Vec::new() };
        let joined = connect_to(&offer.socket)
            .and_then(|socket| self.streams.join(stream, socket, first));
        if let Err(error) = joined {
            self.drops.count(DropReason::StreamLocal);
            if self.log_budget.take(Instant::now()) {
                let path = offer.socket.display();
                tracing::warn!(
                    "expected service {service} to listen on {path}, got: {error}; start it, or \
                     mend [[service]]"
                );
            }
            return Err(StreamCode::LocalFailure);
        }
        self.endpoint.accept_stream(stream);
        Ok(())
    }

    /// Who has opened a stream, in one line of JSON: names need no escapes.
    fn announcement(&self, peer: PeerId) -> Vec<u8> {
        let (mesh, name) = (self.node.mesh(), self.name(peer));
        format!("{{\"peer\":\"{name}\",\"node\":\"stoq://{mesh}/{name}\"}}\n").into_bytes()
    }

    /// Gives up streams that no peer has answered.
    fn expire_openings(&mut self, now: Instant) {
        let late =
            |(stream, opening): (&StreamId, &Opening)| (now >= opening.until).then_some(*stream);
        let late: Vec<StreamId> = self.streams.openings.iter().filter_map(late).collect();
        for stream in late {
            self.endpoint.reset_stream(stream, StreamCode::Cancelled);
            if let Some(opening) = self.streams.openings.remove(&stream) {
                refuse(opening.wanted, StreamRefused::NoAnswer);
            }
        }
    }
}

fn refuse(wanted: Wanted, why: StreamRefused) {
    let Wanted { socket, reply, .. } = wanted;
    drop(socket);
    let _gone = reply.try_send(Err(why));
}

/// Connects to a Unix socket without waiting: a service that has no room for one connection more
/// refuses it.
fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    Ok(fd.into())
}
