//! What happens to streams by itself: headers and answers are read, the worker is told what it may
//! do, and connections are kept for their streams or give them up.

use std::time::{Duration, Instant};

use stoq_telemetry::DropReason;

use super::{Awaits, Endpoint, StreamEvent, StreamId};
use crate::conn::{CONTROL_STREAM, Code, Stage};
use crate::link::Key;
use crate::stream::{self, Broken, HEADER_MAX, StreamCode};

/// How long a replaced connection is kept for its streams: after that, streams of an old
/// certificate and of old keys end.
const RETIRED_LIFE: Duration = Duration::from_secs(3600);

/// Packets under one key after which a replaced connection is closed in spite of its streams: below
/// AES-GCM's 2^23 (RFC 9001 §6.6) by more than what is sent between two looks.
pub(super) const KEY_PACKETS_MAX: u64 = (1 << 23) - (1 << 18);

/// How long what a closed connection has delivered may stay unread.
const UNREAD_LIFE: Duration = Duration::from_secs(30);

impl Endpoint {
    /// Looks at the streams of a connection after packets or timers may have changed them.
    pub(in crate::endpoint) fn settle_streams(&mut self, key: Key) {
        while let Some(id) = self.next_readable(key) {
            self.begin_stream(key, id);
        }
        let count = self.conns.get(key).map_or(0, |conn| conn.streams.len());
        // From the end: whatever is forgotten meanwhile has been looked at.
        for at in (0..count).rev() {
            let stream = self.conns.get(key).and_then(|conn| conn.streams.get(at).copied());
            if let Some(stream) = stream {
                self.settle_stream(stream);
            }
        }
    }

    fn next_readable(&mut self, key: Key) -> Option<u64> {
        let conn = self.conns.get_mut(key).filter(|conn| conn.stage == Stage::Ready)?;
        conn.quic.stream_readable_next()
    }

    /// Takes note of a stream if the peer has just opened it.
    fn begin_stream(&mut self, key: Key, id: u64) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let of_peer = id.is_multiple_of(2) != conn.dialled_here();
        let known = |stream: &StreamId| self.streams.table.get(stream).is_some_and(|s| s.id == id);
        let Some(peer) = conn.peer else { return };
        if id == CONTROL_STREAM || !of_peer || conn.streams.iter().any(known) {
            return;
        }
        if self.streams.has_room_for(peer) {
            let stream = self.streams.insert(key, id, peer, Awaits::Header(Vec::new()));
            conn.streams.push(stream);
            return;
        }
        self.local.drops.count(DropReason::StreamLimit);
        for direction in [quiche::Shutdown::Read, quiche::Shutdown::Write] {
            let _ended = conn.quic.stream_shutdown(id, direction, StreamCode::Refused as u64);
        }
        // Reads the end of a stream that the peer has reset at once, so that quiche forgets it.
        let _ended = conn.quic.stream_recv(id, &mut []);
    }

    fn settle_stream(&mut self, stream: StreamId) {
        let Some(known) = self.streams.table.get(&stream) else { return };
        match known.awaits {
            Awaits::Header(_) => self.read_header(stream),
            Awaits::Answer => self.read_answer(stream),
            Awaits::Decision => {}
            Awaits::Nothing => self.look_at(stream),
        }
    }

    fn read_header(&mut self, stream: StreamId) {
        let Some(known) = self.streams.table.get_mut(&stream) else { return };
        let Some(conn) = self.conns.get_mut(known.key) else { return };
        let Awaits::Header(got) = &mut known.awaits else { return };
        let mut chunk = [0; HEADER_MAX];
        loop {
            let missing = stream::header_missing(got).min(HEADER_MAX);
            if missing == 0 || got.len() > HEADER_MAX || known.got_fin {
                break;
            }
            match conn.quic.stream_recv(known.id, &mut chunk[..missing]) {
                Ok((len, fin)) => {
                    got.extend_from_slice(&chunk[..len]);
                    known.got_fin = fin;
                }
                Err(quiche::Error::Done) => return,
                Err(_) => return self.reset_stream(stream, StreamCode::Cancelled),
            }
        }
        let service = stream::parse_header(got).ok();
        let whole = stream::header_missing(got) == 0;
        let Some(service) = service.filter(|_| whole) else {
            self.local.drops.count(DropReason::StreamInvalid);
            return self.reset_stream(stream, StreamCode::Invalid);
        };
        known.awaits = Awaits::Decision;
        let peer = known.peer;
        self.streams.events.push_back(StreamEvent::Opened { stream, peer, service });
    }

    fn read_answer(&mut self, stream: StreamId) {
        self.flush_lead(stream);
        let Some(known) = self.streams.table.get_mut(&stream) else { return };
        let Some(conn) = self.conns.get_mut(known.key) else { return };
        let mut answer = [0];
        let refused = match conn.quic.stream_recv(known.id, &mut answer) {
            Ok((1, fin)) if answer[0] == stream::ACCEPTED => {
                known.awaits = Awaits::Nothing;
                known.got_fin = fin;
                self.streams.events.push_back(StreamEvent::Accepted(stream));
                self.streams.announce(stream);
                return;
            }
            Ok(_) => {
                self.local.drops.count(DropReason::StreamInvalid);
                self.reset_stream(stream, StreamCode::Invalid);
                Broken::ByPeer(StreamCode::Invalid)
            }
            Err(quiche::Error::Done) => return,
            // Nothing was written yet, so quiche has not heard of it.
            Err(quiche::Error::InvalidStreamState(_)) if !known.lead.is_empty() => return,
            Err(error) => self.fail(stream, error),
        };
        self.streams.events.push_back(StreamEvent::Closed(stream, refused));
    }

    /// Finds out whether the worker has something to do for a stream, or nobody has any more.
    fn look_at(&mut self, stream: StreamId) {
        self.flush_lead(stream);
        let Some(known) = self.streams.table.get(&stream) else { return };
        if known.sent_fin && known.got_fin {
            return self.forget_if_over(stream);
        }
        let Some(conn) = self.conns.get_mut(known.key) else { return };
        let room = match conn.quic.stream_capacity(known.id) {
            Ok(capacity) => known.wants_room && capacity > 0,
            Err(_) => !known.sent_fin,
        };
        if room || conn.quic.stream_readable(known.id) {
            self.streams.announce(stream);
        }
    }

    /// Forgets a stream of which the last is acknowledged in both directions.
    pub(super) fn forget_if_over(&mut self, stream: StreamId) {
        let Some(known) = self.streams.table.get(&stream) else { return };
        let Some(conn) = self.conns.get_mut(known.key) else { return };
        // quiche forgets it then.
        let forgotten = conn.quic.stream_capacity(known.id);
        let forgotten = matches!(forgotten, Err(quiche::Error::InvalidStreamState(_)));
        if known.sent_fin && known.got_fin && forgotten {
            self.forget(stream);
        }
    }

    /// A replaced connection whose time is over is closed, unless it still has streams.
    pub(in crate::endpoint) fn retire(&mut self, key: Key, now: Instant) {
        match self.conns.get_mut(key) {
            Some(conn) if !conn.streams.is_empty() => conn.retired = Some(now + RETIRED_LIFE),
            _ => self.close(key, Code::Done, b"replaced"),
        }
    }

    /// Closes a connection that was kept for its streams if it has reached a bound.
    pub(in crate::endpoint) fn check_retired(&mut self, key: Key, now: Instant) {
        let Some(conn) = self.conns.get(key) else { return };
        let stats = conn.quic.stats();
        let packets = stats.sent.max(stats.recv) as u64;
        if conn.retired.is_some_and(|end| now >= end || packets >= KEY_PACKETS_MAX) {
            self.close(key, Code::Done, b"replaced long ago");
        }
    }

    /// Whether a closed connection has to be kept a while, because a stream that is complete for
    /// the peer has bytes that nobody has read here.
    pub(in crate::endpoint) fn keeps_unread(&mut self, key: Key, now: Instant) -> bool {
        let Some(conn) = self.conns.get_mut(key) else { return false };
        if conn.streams.is_empty() {
            return false;
        }
        let table = &self.streams.table;
        let unread = |stream: &StreamId| {
            table.get(stream).is_some_and(|known| {
                known.sent_fin && !known.got_fin && conn.quic.stream_readable(known.id)
            })
        };
        let (unread, rest): (Vec<StreamId>, _) = conn.streams.iter().partition(|s| unread(s));
        conn.stage = Stage::Closing;
        let end = *conn.unread_until.get_or_insert(now + UNREAD_LIFE);
        conn.streams = unread;
        let keep = !conn.streams.is_empty() && now < end;
        let peer = conn.peer;
        self.lose_streams(rest);
        if let Some(peer) = peer.filter(|_| keep) {
            self.remove_from_lane(key, peer, now);
        }
        keep
    }

    /// Tells the worker of streams whose connection is gone.
    pub(in crate::endpoint) fn lose_streams(&mut self, streams: Vec<StreamId>) {
        for stream in streams {
            let lost = self.streams.table.remove(&stream);
            if lost.is_some_and(|known| !(known.sent_fin && known.got_fin)) {
                self.streams.events.push_back(StreamEvent::Closed(stream, Broken::Lost));
            }
        }
    }
}
