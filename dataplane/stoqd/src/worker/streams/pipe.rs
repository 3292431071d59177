//! One stream and the Unix socket that it is joined to: bytes go both ways, the end of each direction
//! is passed on, and whoever does not read holds whoever writes.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use stoq::{Broken, Endpoint, StreamCode, StreamId};

/// Bytes that one stream moves in each direction before the next one has its turn: what 256 packets,
/// a turn of the worker, carry.
const TURN_BYTES: usize = 256 << 10;

/// Why a pipe ends before both directions have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The stream was broken off.
    Stream(Broken),
    /// The socket failed.
    Socket,
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        Self::Stream(broken)
    }
}

/// The socket's end of a stream.
pub(super) struct Pipe {
    socket: UnixStream,
    /// Came from the stream and found no room in the socket: at most one chunk.
    held: Vec<u8>,
    /// What the kernel has said last, edge by edge.
    readable: bool,
    writable: bool,
    /// The socket has given its last byte; and the stream was told.
    socket_ended: bool,
    finished: bool,
    /// The stream has given its last byte; and the socket was told.
    stream_ended: bool,
    shut: bool,
}

/// What a turn of a pipe did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Bytes moved in both directions.
    pub moved: usize,
    /// It stopped because its turn was over, not for want of bytes or room.
    pub has_more: bool,
    /// Both directions have ended.
    pub is_over: bool,
}

impl Pipe {
    /// Joins a nonblocking socket, to which `first` goes before anything of the stream.
    pub fn new(socket: UnixStream, first: Vec<u8>) -> Self {
        Self {
            socket,
            held: first,
            readable: true,
            writable: true,
            socket_ended: false,
            finished: false,
            stream_ended: false,
            shut: false,
        }
    }

    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Notes what the kernel says of the socket.
    pub fn note(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Moves what can be moved, by way of `chunk`.
    pub fn turn(
        &mut self,
        stream: StreamId,
        endpoint: &mut Endpoint,
        chunk: &mut [u8],
        now: Instant,
    ) -> Result<Turn, Ended> {
        let inwards = self.feed_socket(stream, endpoint, chunk)?;
        let outwards = self.feed_stream(stream, endpoint, chunk, now)?;
        Ok(Turn {
            moved: inwards + outwards,
            has_more: inwards.max(outwards) >= TURN_BYTES,
            is_over: self.shut && self.finished,
        })
    }

    fn feed_socket(
        &mut self,
        stream: StreamId,
        endpoint: &mut Endpoint,
        chunk: &mut [u8],
    ) -> Result<usize, Ended> {
        let mut moved = 0;
        self.write_held()?;
        // Nothing is taken from the stream that the socket may have no room for.
        while moved < TURN_BYTES && self.writable && !self.stream_ended {
            let (len, fin) = endpoint.stream_recv(stream, chunk)?;
            self.stream_ended = fin;
            self.held.extend_from_slice(&chunk[..len]);
            self.write_held()?;
            moved += len;
            if len == 0 {
                break;
            }
        }
        if self.stream_ended && self.held.is_empty() && !self.shut {
            self.shut = true;
            // A socket whose other end is gone needs not be told.
            let _gone = self.socket.shutdown(Shutdown::Write);
        }
        Ok(moved)
    }

    fn write_held(&mut self) -> Result<(), Ended> {
        let mut written = 0;
        while self.writable && written < self.held.len() {
            match self.socket.write(&self.held[written..]) {
                Ok(0) => return Err(Ended::Socket),
                Ok(len) => written += len,
                Err(error) => self.writable = !blocked(&error)?,
            }
        }
        self.held.drain(..written);
        Ok(())
    }

    fn feed_stream(
        &mut self,
        stream: StreamId,
        endpoint: &mut Endpoint,
        chunk: &mut [u8],
        now: Instant,
    ) -> Result<usize, Ended> {
        let mut moved = 0;
        while moved < TURN_BYTES && self.readable && !self.socket_ended {
            // Nothing is taken from the socket that the stream has no room for.
            let room = endpoint.stream_capacity(stream)?.min(chunk.len());
            if room == 0 {
                break;
            }
            match self.socket.read(&mut chunk[..room]) {
                Ok(0) => self.socket_ended = true,
                Ok(len) if endpoint.stream_send(stream, &chunk[..len], now)? == len => moved += len,
                Ok(_) => return Err(Ended::Socket),
                Err(error) => self.readable = !blocked(&error)?,
            }
        }
        if self.socket_ended && !self.finished {
            self.finished = endpoint.finish_stream(stream)?;
        }
        Ok(moved)
    }
}

/// Whether an error says that the socket has nothing, or no room, now.
fn blocked(error: &io::Error) -> Result<bool, Ended> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(true),
        io::ErrorKind::Interrupted => Ok(false),
        _ => Err(Ended::Socket),
    }
}

impl Ended {
    /// What the peer is told, if it does not know.
    pub fn code(self) -> StreamCode {
        match self {
            Self::Socket => StreamCode::LocalFailure,
            Self::Stream(_) => StreamCode::Cancelled,
        }
    }
}
