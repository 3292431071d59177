//! Assembling: slices that arrive become super-packets for the device again.
//!
//! ```text
//!   slices ─▶ [ super-packet being received ] ─▶ whole packets of what has arrived ─▶ device
//!             at most OPEN_MAX                   at the end of each burst
//! ```
//!
//! Nothing waits for the end of a super-packet: what has arrived in order is written at the end of each
//! burst, as a shorter super-packet of whole packets. Behind a gap slices wait for [`PATIENCE`], in
//! case the network has changed their order, or until the flow goes on; then what whole packets they
//! hold are written, and the others are lost.
//!
//! Within a flow order is kept, also with packets that come alone: the worker calls
//! [`Assembler::make_way`] before such a packet, and flushes the coalescer's flow when a super-packet
//! begins. One [`Assembler`] belongs to one worker. Everything about a slice is the peer's word: headers
//! are checked as those of a packet are, parts may not overlap, and number, bytes and time are bounded.

mod open;

use std::time::{Duration, Instant};

use stoq_buffer::Slice;
use stoq_telemetry::{DropReason, Drops};
use thiserror::Error;

use self::open::Open;
use crate::coalesce::Key;
use crate::device::Sink;
use crate::packet::{ParseError, View};

/// Super-packets that are received at a time: one for each of so many flows that a fair queue serves in
/// turn. With [`PARTS_MAX`] full slices each they hold 4 MiB.
pub const OPEN_MAX: usize = 32;

/// Slices that wait for one super-packet at most: 65,483 bytes of payload on QUIC's smallest path, whose
/// datagrams carry 1160 bytes, are 57.
pub const PARTS_MAX: usize = 64;

/// How long slices behind a gap wait for what is missing: far above the differences between the ways of
/// packets that leave one behind the other, and below what a TCP sender would notice.
pub const PATIENCE: Duration = Duration::from_millis(2);

/// How long a super-packet may pause: its rest is lost, or its sender makes no sense.
pub const LIFE: Duration = Duration::from_secs(1);

/// The peer and the slot of its link that number a super-packet.
pub type Lane = (u32, u8);

/// Why a slice is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AssembleError {
    /// The headers are none of a packet.
    #[error(transparent)]
    Packet(#[from] ParseError),
    /// They are no headers of a super-packet of TCP or UDP, or it would be longer than a packet can be.
    #[error("expected the headers of a TCP or UDP super-packet, got others: drop the slice")]
    Headers,
    /// It repeats, overlaps or exceeds what is there.
    #[error("expected a part that is missing, got {offset} to {end}: drop the slice")]
    Contradiction {
        /// Where it begins.
        offset: usize,
        /// Where it ends.
        end: usize,
    },
    /// There are too many parts.
    #[error("expected at most {PARTS_MAX} slices to wait for one super-packet: drop the slice")]
    Parts,
    /// The peer may not send from this address (BCP 38).
    #[error("expected a source address that the peer may use, got another: drop the slice")]
    Source,
}

impl AssembleError {
    /// The reason under which the drop is counted.
    #[must_use]
    pub fn reason(self) -> DropReason {
        match self {
            Self::Packet(_) => DropReason::MalformedInner,
            Self::Source => DropReason::SourceNotAllowed,
            Self::Headers | Self::Contradiction { .. } | Self::Parts => DropReason::SliceInvalid,
        }
    }
}

/// The super-packets that are being received.
#[derive(Debug, Default)]
pub struct Assembler {
    /// In the order in which they began.
    open: Vec<Open>,
    /// Their memory, for the next ones.
    spare: Vec<Open>,
}

impl Assembler {
    /// Takes a slice that came on this lane. `permits` says whether its peer may send such packets. Returns the headers when a
    /// flow's super-packet begins with it: what came of that flow before has to be written now.
    ///
    /// # Errors
    /// When the slice is dropped, for the caller to count.
    pub fn push(
        &mut self,
        lane: Lane,
        mut slice: Slice,
        now: Instant,
        permits: impl FnOnce(&View) -> bool,
        sink: &mut impl Sink,
        drops: &Drops,
    ) -> Result<Option<View>, AssembleError> {
        let at = self.find_or_open((lane, slice.number), now, sink, drops);
        let open = &mut self.open[at];
        open.touch(now, slice.congested);
        let mut begun = None;
        if let Some(head) = slice.head {
            let len = slice.headers_len();
            let headers = slice.body.as_slice().get(..len).ok_or(AssembleError::Headers)?;
            begun = open.begin(head, headers, permits)?;
            slice.body.advance(len);
        }
        open.insert(usize::from(slice.offset), slice.body)?;
        if let Some(view) = &begun {
            self.finish_before(at, view, sink, drops);
        }
        Ok(begun)
    }

    /// Writes the whole packets that have arrived: the end of a burst.
    pub fn flush(&mut self, now: Instant, sink: &mut impl Sink, drops: &Drops) {
        let mut at = 0;
        while let Some(open) = self.open.get_mut(at) {
            open.write_ready(sink, drops);
            if open.is_over(now) {
                self.finish(at, sink, drops);
            } else {
                at += 1;
            }
        }
    }

    /// Writes the whole packets that have arrived of a flow, before a packet of it that came alone.
    pub fn make_way(&mut self, view: &View, sink: &mut impl Sink, drops: &Drops) {
        if self.open.is_empty() {
            return;
        }
        let Some(key) = Key::of(view) else { return };
        for open in self.open.iter_mut().filter(|open| open.is_of(&key)) {
            open.write_ready(sink, drops);
        }
    }

    /// When [`Assembler::flush`] has to be called at the latest.
    #[must_use]
    pub fn timeout(&self) -> Option<Instant> {
        self.open.iter().filter_map(|open| open.timeout()).min()
    }

    fn find_or_open(
        &mut self,
        (lane, number): (Lane, u16),
        now: Instant,
        sink: &mut impl Sink,
        drops: &Drops,
    ) -> usize {
        // The newest are the likeliest.
        let known = self.open.iter().rposition(|open| open.is_number(lane, number));
        if let Some(at) = known {
            return at;
        }
        if self.open.len() == OPEN_MAX {
            self.finish(0, sink, drops);
        }
        let mut open = self.spare.pop().unwrap_or_default();
        open.start(lane, number, now);
        self.open.push(open);
        self.open.len() - 1
    }

    /// The flow goes on: nothing more is waited for in what began before.
    fn finish_before(&mut self, at: usize, view: &View, sink: &mut impl Sink, drops: &Drops) {
        let Some(key) = Key::of(view) else { return };
        for before in (0..at).rev() {
            if self.open[before].is_of(&key) {
                self.finish(before, sink, drops);
            }
        }
    }

    /// Writes what can be written of it, and closes it.
    fn finish(&mut self, at: usize, sink: &mut impl Sink, drops: &Drops) {
        let mut open = self.open.remove(at);
        open.finish(sink, drops);
        self.spare.push(open);
    }
}

#[cfg(test)]
mod tests;
