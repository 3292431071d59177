//! Application streams: opened by either end, each to a service of the other (`docs/protocol.md`,
//! "Streams"). The worker decides about those that a peer opens and moves the bytes; this keeps the
//! books.
//!
//! A stream lives and dies with the connection that it was opened on. A connection that was replaced
//! is kept for its streams, within bounds; one that the peer has closed is kept until what it
//! delivered is read. Connections without streams pay nothing: they have an empty list, and a look
//! at quiche's list of readable streams for each burst.

mod settle;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::Endpoint;
use crate::PeerId;
use crate::conn::{Code, Stage};
use crate::link::Key;
use crate::stream::{self, Broken, Service, StreamCode};

/// Most streams of one worker: what a worker can serve in turns, and with full windows (2 MiB) half
/// a gibibyte of memory at the very most.
pub const STREAMS_MAX: usize = 256;

/// Most streams with one peer at one worker, so that no peer takes the room of all the others.
pub const STREAMS_PER_PEER: usize = 64;

/// A stream at one endpoint. A number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What happened to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A peer opened it: answer by [`Endpoint::accept_stream`] or [`Endpoint::reset_stream`].
    Opened {
        /// The stream.
        stream: StreamId,
        /// Who opened it.
        peer: PeerId,
        /// What it wants.
        service: Service,
    },
    /// The peer has accepted a stream of ours.
    Accepted(StreamId),
    /// There may be something to read, or room to write.
    Ready(StreamId),
    /// It is gone; nothing more can be done with it.
    Closed(StreamId, Broken),
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No connection to the peer is ready at this worker.
    #[error("expected a link to the peer, got none that is up; look at `stoqctl status`")]
    LinkDown,
    /// The bound of this worker or of the peer is reached.
    #[error("expected room for one stream more, got none; end others, or try again later")]
    TooMany,
}

/// What a stream waits for before the application's bytes.
enum Awaits {
    /// The rest of the header of a stream that the peer opened.
    Header(Vec<u8>),
    /// Our worker's decision.
    Decision,
    /// The peer's answer to our header.
    Answer,
    Nothing,
}

struct Stream {
    key: Key,
    /// Its number on the connection.
    id: u64,
    peer: PeerId,
    awaits: Awaits,
    /// Our header or answer, as far as it waits for flow control.
    lead: Vec<u8>,
    /// We have said that nothing more comes.
    sent_fin: bool,
    /// The peer's FIN was read.
    got_fin: bool,
    /// Somebody waits for room to write.
    wants_room: bool,
    /// [`StreamEvent::Ready`] waits to be taken.
    is_announced: bool,
}

/// The streams of an endpoint.
#[derive(Default)]
pub(super) struct Streams {
    table: HashMap<StreamId, Stream>,
    next: u64,
    /// Bounded: [`StreamEvent::Ready`] once for each stream, the others once in its life.
    events: VecDeque<StreamEvent>,
}

impl Streams {
    fn has_room_for(&self, peer: PeerId) -> bool {
        let of_peer = || self.table.values().filter(|stream| stream.peer == peer).count();
        self.table.len() < STREAMS_MAX && of_peer() < STREAMS_PER_PEER
    }

    fn insert(&mut self, key: Key, id: u64, peer: PeerId, awaits: Awaits) -> StreamId {
        let number = StreamId(self.next);
        self.next += 1;
        let stream = Stream {
            key,
            id,
            peer,
            awaits,
            lead: Vec::new(),
            sent_fin: false,
            got_fin: false,
            wants_room: false,
            is_announced: false,
        };
        self.table.insert(number, stream);
        number
    }

    fn announce(&mut self, stream: StreamId) {
        let Some(known) = self.table.get_mut(&stream) else { return };
        if !std::mem::replace(&mut known.is_announced, true) {
            self.events.push_back(StreamEvent::Ready(stream));
        }
    }
}

impl Endpoint {
    /// Streams in the table, those included that only wait for their last acknowledgement.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.table.len()
    }

    /// What happened to streams.
    pub fn poll_stream(&mut self) -> Option<StreamEvent> {
        let event = self.streams.events.pop_front()?;
        if let StreamEvent::Ready(stream) = &event
            && let Some(known) = self.streams.table.get_mut(stream)
        {
            known.is_announced = false;
        }
        Some(event)
    }

    /// Opens a stream to a service of a peer. Bytes may be sent at once; [`StreamEvent::Accepted`]
    /// or [`StreamEvent::Closed`] tells what the peer thinks of it.
    ///
    /// # Errors
    /// When there is no connection for it, or no room.
    pub fn open_stream(&mut self, peer: PeerId, service: &Service) -> Result<StreamId, OpenError> {
        let link = self.links.get(peer.0 as usize).and_then(Option::as_ref);
        let link = link.filter(|_| self.draining.is_none()).ok_or(OpenError::LinkDown)?;
        let current = link.lanes.iter().filter_map(|lane| Some(lane.slot.current?.key));
        let ready = |key: &Key| self.conns.get(*key).is_some_and(|c| c.stage == Stage::Ready);
        let mut ready = current.filter(ready).peekable();
        ready.peek().ok_or(OpenError::LinkDown)?;
        let free = |key: &Key| {
            self.conns.get(*key).is_some_and(|conn| conn.quic.peer_streams_left_bidi() > 0)
        };
        let key = ready.find(free).ok_or(OpenError::TooMany)?;
        if !self.streams.has_room_for(peer) {
            return Err(OpenError::TooMany);
        }
        let conn = self.conns.get_mut(key).ok_or(OpenError::LinkDown)?;
        // The dialler's first stream is the control stream (RFC 9000 §2.1 for the numbers).
        let number = conn.streams_opened;
        let id = if conn.dialled_here() { 4 * number + 4 } else { 4 * number + 1 };
        conn.streams_opened += 1;
        let stream = self.streams.insert(key, id, peer, Awaits::Answer);
        conn.streams.push(stream);
        self.send_lead(stream, service.header());
        Ok(stream)
    }

    /// Takes a stream that a peer opened.
    pub fn accept_stream(&mut self, stream: StreamId) {
        if let Some(known) = self.streams.table.get_mut(&stream) {
            known.awaits = Awaits::Nothing;
            self.send_lead(stream, vec![stream::ACCEPTED]);
            self.streams.announce(stream);
        }
    }

    fn send_lead(&mut self, stream: StreamId, lead: Vec<u8>) {
        if let Some(known) = self.streams.table.get_mut(&stream) {
            known.lead = lead;
        }
        self.flush_lead(stream);
    }

    /// Writes what goes before the application's bytes. Returns whether all of it is on its way.
    fn flush_lead(&mut self, stream: StreamId) -> bool {
        let Some(known) = self.streams.table.get_mut(&stream) else { return false };
        if known.lead.is_empty() {
            return true;
        }
        let key = known.key;
        let Some(conn) = self.conns.get_mut(key) else { return false };
        // Refusals of the peer are found when its side is read.
        let sent = conn.quic.stream_send(known.id, &known.lead, false).unwrap_or(0);
        known.lead.drain(..sent);
        let all = known.lead.is_empty();
        known.wants_room |= !all;
        self.wake(key);
        all
    }

    /// Reads into `out`: how many bytes there were, and whether they were the last.
    ///
    /// # Errors
    /// When it was broken off; then it is gone.
    pub fn stream_recv(
        &mut self,
        stream: StreamId,
        out: &mut [u8],
    ) -> Result<(usize, bool), Broken> {
        let known = self.streams.table.get_mut(&stream).ok_or(Broken::Lost)?;
        if known.got_fin || !matches!(known.awaits, Awaits::Nothing) {
            return Ok((0, known.got_fin));
        }
        let (key, peer) = (known.key, known.peer);
        let conn = self.conns.get_mut(key).ok_or(Broken::Lost)?;
        match conn.quic.stream_recv(known.id, out) {
            Ok((len, fin)) => {
                known.got_fin = fin;
                // The peer may be owed a larger window.
                self.wake(key);
                if let Some(link) = self.link(peer) {
                    link.rx_bytes += len as u64;
                }
                if fin {
                    self.forget_if_over(stream);
                }
                Ok((len, fin))
            }
            Err(quiche::Error::Done) => Ok((0, false)),
            Err(error) => Err(self.fail(stream, error)),
        }
    }

    /// How many bytes [`Endpoint::stream_send`] would take now. If none,
    /// [`StreamEvent::Ready`] says when it will take some.
    ///
    /// # Errors
    /// When it was broken off; then it is gone.
    pub fn stream_capacity(&mut self, stream: StreamId) -> Result<usize, Broken> {
        let known = self.streams.table.get(&stream).ok_or(Broken::Lost)?;
        if known.sent_fin || !self.flush_lead(stream) {
            return Ok(0);
        }
        let known = self.streams.table.get_mut(&stream).ok_or(Broken::Lost)?;
        let conn = self.conns.get_mut(known.key).ok_or(Broken::Lost)?;
        match conn.quic.stream_capacity(known.id) {
            Ok(capacity) => {
                known.wants_room = capacity == 0;
                Ok(capacity)
            }
            Err(error) => Err(self.fail(stream, error)),
        }
    }

    /// Writes bytes; returns how many were taken.
    ///
    /// # Errors
    /// When it was broken off; then it is gone.
    pub fn stream_send(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
        now: Instant,
    ) -> Result<usize, Broken> {
        if self.stream_capacity(stream)? == 0 || bytes.is_empty() {
            return Ok(0);
        }
        let known = self.streams.table.get_mut(&stream).ok_or(Broken::Lost)?;
        let key = known.key;
        let conn = self.conns.get_mut(key).ok_or(Broken::Lost)?;
        match conn.quic.stream_send(known.id, bytes, false) {
            Ok(sent) => {
                known.wants_room = sent < bytes.len();
                conn.unanswered_since.get_or_insert(now);
                let (peer, slot) = (known.peer, conn.slot);
                if let Some(lane) = self.link(peer).and_then(|link| link.lane(slot)) {
                    lane.tx_bytes += sent as u64;
                }
                self.wake(key);
                Ok(sent)
            }
            Err(quiche::Error::Done) => {
                known.wants_room = true;
                Ok(0)
            }
            Err(error) => Err(self.fail(stream, error)),
        }
    }

    /// Says that nothing more will be written. Returns whether that could be said already; if not,
    /// [`StreamEvent::Ready`] says when to try again.
    ///
    /// # Errors
    /// When it was broken off; then it is gone.
    pub fn finish_stream(&mut self, stream: StreamId) -> Result<bool, Broken> {
        let known = self.streams.table.get(&stream).ok_or(Broken::Lost)?;
        if known.sent_fin {
            return Ok(true);
        }
        if !self.flush_lead(stream) {
            return Ok(false);
        }
        let known = self.streams.table.get_mut(&stream).ok_or(Broken::Lost)?;
        let key = known.key;
        let conn = self.conns.get_mut(key).ok_or(Broken::Lost)?;
        if let Err(error) = conn.quic.stream_capacity(known.id) {
            return Err(self.fail(stream, error));
        }
        conn.ends.push(known.id);
        known.sent_fin = true;
        self.wake(key);
        Ok(true)
    }

    /// Breaks a stream off, in both directions. It is gone.
    pub fn reset_stream(&mut self, stream: StreamId, code: StreamCode) {
        let Some(known) = self.streams.table.get(&stream) else { return };
        let (key, id) = (known.key, known.id);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.ends.forget(id);
            for direction in [quiche::Shutdown::Read, quiche::Shutdown::Write] {
                // A direction that has ended already needs no more words.
                let _ended = conn.quic.stream_shutdown(id, direction, code as u64);
            }
            self.wake(key);
        }
        self.forget(stream);
    }

    /// What an error of quiche means for the stream, which is gone with it.
    fn fail(&mut self, stream: StreamId, error: quiche::Error) -> Broken {
        let broken = match error {
            quiche::Error::StreamReset(code) | quiche::Error::StreamStopped(code) => {
                Broken::ByPeer(StreamCode::from_wire(code))
            }
            _ => Broken::Lost,
        };
        self.reset_stream(stream, StreamCode::Cancelled);
        broken
    }

    /// Removes a stream from the books; the last one of a replaced connection closes that.
    fn forget(&mut self, stream: StreamId) {
        let Some(known) = self.streams.table.remove(&stream) else { return };
        let Some(conn) = self.conns.get_mut(known.key) else { return };
        conn.streams.retain(|other| *other != stream);
        if conn.streams.is_empty() && conn.retired.is_some() && conn.stage == Stage::Ready {
            self.close(known.key, Code::Done, b"replaced");
        }
    }

    /// Puts a connection on the list of those that may have something to send.
    fn wake(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !conn.is_active {
            conn.is_active = true;
            self.active.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests;
