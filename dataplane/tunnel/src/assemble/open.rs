//! One super-packet that is being received: its headers once they are known, the parts that wait, and
//! how far it was written. Used by the assembler only.

use std::io::{self, IoSlice};
use std::time::Instant;

use stoq_buffer::{Head, PacketBuf};
use stoq_checksum::Sum;
use stoq_telemetry::{DropReason, Drops};

use super::{AssembleError, LIFE, Lane, PARTS_MAX, PATIENCE};
use crate::coalesce::Key;
use crate::device::Sink;
use crate::header::flag::{CWR, FIN, PSH, RST, SYN, URG};
use crate::header::{PACKET_MAX, put, word, write_network};
use crate::packet::{self, Fragment, IPV6_HEADER, View, protocol};
use crate::segment::{
    HEADERS_MAX, SEGMENTS_MAX, TCP_CHECKSUM, UDP_CHECKSUM, UDP_HEADER, tcp_header_len,
};
use crate::vnet::{self, Gso, Partial, Super, VnetHeader};

/// The ECN bits that say congestion was experienced (RFC 3168 §5).
const CE: u8 = 0b11;

#[derive(Debug, Default)]
pub(super) struct Open {
    lane: Lane,
    number: u16,
    headers: Option<Headers>,
    /// Its headers were refused: nothing more of it is taken.
    refused: Option<AssembleError>,
    /// Offset and contents, in order, without overlap.
    parts: Vec<(usize, PacketBuf)>,
    /// Everything before was written or given up.
    written: usize,
    /// Bytes that were written.
    carried: usize,
    congested: bool,
    touched: Option<Instant>,
    /// Since when parts wait for one before them, or for the headers.
    gap_since: Option<Instant>,
}

impl Open {
    /// Begins anew.
    pub fn start(&mut self, lane: Lane, number: u16, now: Instant) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        *self = Self { lane, number, parts, touched: Some(now), ..Self::default() };
    }

    pub fn touch(&mut self, now: Instant, congested: bool) {
        self.touched = Some(now);
        self.congested |= congested;
    }

    pub fn is_number(&self, lane: Lane, number: u16) -> bool {
        self.lane == lane && self.number == number
    }

    pub fn is_of(&self, key: &Key) -> bool {
        self.headers.as_ref().is_some_and(|headers| headers.key.is_same_flow(key))
    }

    /// Takes the headers; `None` if they were there already.
    pub fn begin(
        &mut self,
        head: Head,
        headers: &[u8],
        permits: impl FnOnce(&View) -> bool,
    ) -> Result<Option<View>, AssembleError> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        if self.headers.is_some() {
            return Ok(None);
        }
        let judged = Headers::judge(head, headers).and_then(|headers| {
            let view = headers.key.view;
            let fits = self.parts.last().is_none_or(|last| end(last) <= headers.total);
            match (permits(&view), fits) {
                (false, _) => Err(AssembleError::Source),
                (_, false) => Err(AssembleError::Headers),
                _ => Ok((headers, view)),
            }
        });
        match judged {
            Ok((headers, view)) => {
                self.headers = Some(headers);
                Ok(Some(view))
            }
            Err(error) => {
                self.refused = Some(error);
                self.parts.clear();
                Err(error)
            }
        }
    }

    /// Takes a part of the payload.
    pub fn insert(&mut self, offset: usize, part: PacketBuf) -> Result<(), AssembleError> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let end_here = offset + part.len();
        let total = self.headers.as_ref().map_or(PACKET_MAX, |headers| headers.total);
        let at = self.parts.partition_point(|(start, _)| *start < offset);
        let before = at.checked_sub(1).map_or(self.written, |before| end(&self.parts[before]));
        let after = self.parts.get(at).map_or(total, |(start, _)| *start);
        if offset < before || end_here > after || part.is_empty() {
            return Err(AssembleError::Contradiction { offset, end: end_here });
        }
        if self.parts.len() == PARTS_MAX {
            return Err(AssembleError::Parts);
        }
        self.parts.insert(at, (offset, part));
        Ok(())
    }

    /// Writes the whole packets up to the first gap.
    pub fn write_ready(&mut self, sink: &mut impl Sink, drops: &Drops) {
        if self.parts.first().is_some_and(|(start, _)| *start == self.written) {
            self.write_run(sink, drops);
        }
    }

    /// Whether nothing more is to be waited for.
    pub fn is_over(&mut self, now: Instant) -> bool {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let total = self.headers.as_ref().map(|headers| headers.total);
        if total == Some(self.written) {
            return true;
        }
        let held: usize = self.parts.iter().map(|(_, part)| part.len()).sum();
        let waits = match (self.parts.last(), total) {
            (Some(last), Some(_)) => end(last) > self.written + held,
            (last, _) => last.is_some(),
        };
        self.gap_since = if waits { self.gap_since.or(Some(now)) } else { None };
        since(self.gap_since).is_some_and(|waited| waited >= PATIENCE)
            || since(self.touched).is_some_and(|paused| paused >= LIFE)
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.gap_since.map(|since| since + PATIENCE)
    }

    /// Writes all whole packets, also behind gaps, and counts what is lost.
    pub fn finish(&mut self, sink: &mut impl Sink, drops: &Drops) {
        while self.headers.is_some() && !self.parts.is_empty() {
            let run_end = self.write_run(sink, drops);
            self.parts.retain(|(start, _)| *start >= run_end);
        }
        self.parts.clear();
        let total = self.headers.as_ref().map_or(0, |headers| headers.total);
        if self.refused.is_none() && (self.headers.is_none() || self.carried < total) {
            drops.count(DropReason::SliceIncomplete);
        }
    }

    /// Writes the whole packets of the parts that follow one another from the first on. Returns where
    /// those end.
    fn write_run(&mut self, sink: &mut impl Sink, drops: &Drops) -> usize {
        let (Some(headers), Some((start, _))) = (&self.headers, self.parts.first()) else {
            return PACKET_MAX;
        };
        let mut run_end = *start;
        for part in &self.parts {
            if part.0 != run_end {
                break;
            }
            run_end = end(part);
        }
        let from = start.next_multiple_of(headers.size);
        let whole = run_end - run_end % headers.size;
        let to = if run_end == headers.total { run_end } else { whole };
        if to > from {
            if headers.write(&self.parts, from..to, self.congested, sink).is_err() {
                let packets = (to - from).div_ceil(headers.size);
                drops.count_many(DropReason::DeviceWrite, packets as u64);
            }
            self.carried += to - from;
            self.written = to;
            self.release();
        }
        run_end
    }

    /// Gives up what was written.
    fn release(&mut self) {
        let written = self.written;
        self.parts.retain_mut(|part| {
            let done = written.saturating_sub(part.0).min(part.1.len());
            part.1.advance(done);
            part.0 += done;
            !part.1.is_empty()
        });
    }
}

fn end(part: &(usize, PacketBuf)) -> usize {
    part.0 + part.1.len()
}

/// The headers of a super-packet, judged.
#[derive(Debug)]
struct Headers {
    bytes: [u8; HEADERS_MAX],
    len: usize,
    key: Key,
    size: usize,
    total: usize,
}

impl Headers {
    fn judge(head: Head, headers: &[u8]) -> Result<Self, AssembleError> {
        let (len, total) = (headers.len(), usize::from(head.total));
        let few = head.size > 0 && total.div_ceil(usize::from(head.size)) <= SEGMENTS_MAX;
        if len > HEADERS_MAX || len + total > PACKET_MAX || !few {
            return Err(AssembleError::Headers);
        }
        let mut bytes = [0; HEADERS_MAX];
        bytes[..len].copy_from_slice(headers);
        set_length(&mut bytes[..len]);
        let view = packet::parse(&bytes[..len])?;
        let at = view.transport;
        let transport = match view.protocol {
            protocol::TCP => tcp_header_len(&bytes[..len], at)
                .filter(|_| word(&bytes, at + 12) & (SYN | RST | URG) == 0),
            protocol::UDP => Some(UDP_HEADER),
            _ => None,
        };
        let key = Key::of(&view).ok_or(AssembleError::Headers)?;
        if transport.is_none_or(|transport| at + transport != len)
            || view.fragment != Fragment::Whole
        {
            return Err(AssembleError::Headers);
        }
        Ok(Self { bytes, len, key, size: usize::from(head.size), total })
    }

    /// Writes the packets of a range of the payload, which `parts` hold.
    fn write(
        &self,
        parts: &[(usize, PacketBuf)],
        range: std::ops::Range<usize>,
        congested: bool,
        sink: &mut impl Sink,
    ) -> io::Result<()> {
        let mut bytes = [0; vnet::HEADER + HEADERS_MAX];
        let (before, headers) = bytes.split_at_mut(vnet::HEADER);
        headers.copy_from_slice(&self.bytes);
        let vnet = self.adjust(&mut headers[..self.len], &range, congested);
        before.copy_from_slice(&vnet.encode());
        let mut pieces = [IoSlice::new(&[]); PARTS_MAX + 1];
        pieces[0] = IoSlice::new(&bytes[..vnet::HEADER + self.len]);
        let mut count = 1;
        for (start, part) in parts {
            let begin = range.start.saturating_sub(*start).min(part.len());
            let end = range.end.saturating_sub(*start).min(part.len());
            if begin < end {
                pieces[count] = IoSlice::new(&part.as_slice()[begin..end]);
                count += 1;
            }
        }
        sink.write(&pieces[..count])
    }

    /// Makes the headers those of a part of the super-packet, as segmentation would.
    fn adjust(
        &self,
        headers: &mut [u8],
        range: &std::ops::Range<usize>,
        congested: bool,
    ) -> VnetHeader {
        let view = &self.key.view;
        let (at, payload) = (view.transport, range.len());
        if congested {
            mark(headers, view);
        }
        if !view.is_ipv6() {
            let identification = word(headers, 4).wrapping_add((range.start / self.size) as u16);
            put(headers, 4, identification);
        }
        write_network(headers, view, self.len + payload);
        let length = (self.len - at + payload) as u16;
        let mut ecn = false;
        let (kind, offset) = if view.protocol == protocol::TCP {
            ecn = adjust_tcp(&mut headers[at..], range, self.total);
            (if view.is_ipv6() { Gso::Tcp6 } else { Gso::Tcp4 }, TCP_CHECKSUM)
        } else {
            put(headers, at + 4, length);
            (Gso::Udp, UDP_CHECKSUM)
        };
        let View { source, destination, protocol, .. } = *view;
        let pseudo = Sum::default().pseudo_header(source, destination, protocol, 0);
        put(headers, at + offset, pseudo.word(length).partial());
        let (size, len) = (self.size as u16, self.len as u16);
        let gso = Super { kind, size, headers: len, ecn };
        let partial = Some(Partial { start: at as u16, offset: offset as u16 });
        VnetHeader { gso: (payload > self.size).then_some(gso), partial }
    }
}

/// Sequence number and flags of the packets in `range`. Returns whether CWR is set.
fn adjust_tcp(header: &mut [u8], range: &std::ops::Range<usize>, total: usize) -> bool {
    let sequence = u32::from(word(header, 4)) << 16 | u32::from(word(header, 6));
    let sequence = sequence.wrapping_add(range.start as u32);
    put(header, 4, (sequence >> 16) as u16);
    put(header, 6, sequence as u16);
    let mut flags = word(header, 12);
    if range.start > 0 {
        flags &= !CWR;
    }
    if range.end < total {
        flags &= !(FIN | PSH);
    }
    put(header, 12, flags);
    flags & CWR != 0
}

/// Marks "congestion experienced", if the flow understands it.
fn mark(headers: &mut [u8], view: &View) {
    match (view.ecn(), view.is_ipv6()) {
        (0, _) => {}
        (_, true) => headers[1] |= CE << 4,
        (_, false) => headers[1] |= CE,
    }
}

/// Lets headers name their own length, as those of a packet without payload.
fn set_length(headers: &mut [u8]) {
    let len = headers.len();
    match headers.first().map(|first| first >> 4) {
        Some(4) if len >= 4 => put(headers, 2, len as u16),
        Some(6) if len >= IPV6_HEADER => put(headers, 4, (len - IPV6_HEADER) as u16),
        _ => {}
    }
}
