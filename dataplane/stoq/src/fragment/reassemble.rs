//! Putting fragmented packets together again, in bounded memory and time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stoq_buffer::PacketBuf;

use super::{FragmentError, FragmentHeader, MAX_FRAGMENTS, MAX_TOTAL_LEN};

/// Most packets of one connection that are incomplete at a time, 64 KiB of buffers. A sender sends
/// the fragments of a packet one after the other, so more than a few are incomplete only when
/// fragments were lost.
pub const MAX_INCOMPLETE: usize = 32;

/// How long a packet may be incomplete. Its fragments leave together and differ by what the path
/// reorders, which is far below a second; a TCP sender has sent the data again by then.
pub const REASSEMBLY_TIMEOUT: Duration = Duration::from_secs(1);

static ZEROS: [u8; MAX_TOTAL_LEN] = [0; MAX_TOTAL_LEN];

/// A packet of which parts are missing.
#[derive(Debug)]
struct Incomplete {
    packet: u32,
    deadline: Instant,
    buffer: PacketBuf,
    /// The parts that came, as start and end; `parts` of them are valid.
    ranges: [(u16, u16); MAX_FRAGMENTS],
    parts: usize,
    received: usize,
}

impl Incomplete {
    fn new(header: FragmentHeader, now: Instant) -> Self {
        Self {
            packet: header.packet,
            deadline: now + REASSEMBLY_TIMEOUT,
            buffer: PacketBuf::from_slice(&ZEROS[..usize::from(header.total)]),
            ranges: Default::default(),
            parts: 0,
            received: 0,
        }
    }

    /// Adds a part. `false` if it contradicts what came before.
    fn add(&mut self, header: FragmentHeader, body: &[u8]) -> bool {
        let start = usize::from(header.offset);
        let end = start + body.len();
        let ranges = &self.ranges[..self.parts];
        let overlaps = ranges.iter().any(|&(s, e)| start < usize::from(e) && usize::from(s) < end);
        let total = usize::from(header.total);
        if overlaps || total != self.buffer.len() || self.parts == MAX_FRAGMENTS {
            return false;
        }
        self.buffer.as_mut_slice()[start..end].copy_from_slice(body);
        self.ranges[self.parts] = (header.offset, header.offset + (end - start) as u16);
        self.parts += 1;
        self.received += body.len();
        debug_assert!(self.received <= total, "parts that do not overlap fit the packet");
        true
    }
}

/// Puts the fragments of one connection together.
#[derive(Debug, Default)]
pub struct Reassembler {
    /// In the order of their deadlines.
    incomplete: VecDeque<Incomplete>,
    given_up: u64,
}

impl Reassembler {
    /// Takes a fragment; returns its packet if it is whole now. When too many packets are
    /// incomplete, the oldest is given up.
    ///
    /// # Errors
    /// When the fragment is invalid; one that contradicts others takes its packet with it.
    pub fn push(
        &mut self,
        header: FragmentHeader,
        body: PacketBuf,
        now: Instant,
    ) -> Result<Option<PacketBuf>, FragmentError> {
        check(header, body.len())?;
        self.handle_timeout(now);
        let at = self.find_or_start(header, now);
        if !self.incomplete[at].add(header, body.as_slice()) {
            self.incomplete.remove(at);
            return Err(FragmentError::Contradiction { packet: header.packet });
        }
        if self.incomplete[at].received < usize::from(header.total) {
            return Ok(None);
        }
        Ok(self.incomplete.remove(at).map(|whole| whole.buffer))
    }

    /// When [`Reassembler::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.incomplete.front().map(|oldest| oldest.deadline)
    }

    /// Gives up the packets that were incomplete for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.incomplete.front().is_some_and(|oldest| oldest.deadline <= now) {
            self.incomplete.pop_front();
            self.given_up += 1;
        }
    }

    /// Packets given up since the last call, to be counted under
    /// [`FragmentTimeout`](stoq_telemetry::DropReason::FragmentTimeout).
    pub fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }

    fn find_or_start(&mut self, header: FragmentHeader, now: Instant) -> usize {
        // From the back: the packet that is being sent is the newest.
        let found = self.incomplete.iter().rposition(|known| known.packet == header.packet);
        found.unwrap_or_else(|| {
            if self.incomplete.len() == MAX_INCOMPLETE {
                self.incomplete.pop_front();
                self.given_up += 1;
            }
            self.incomplete.push_back(Incomplete::new(header, now));
            self.incomplete.len() - 1
        })
    }
}

/// Checks what a fragment says of itself.
fn check(header: FragmentHeader, len: usize) -> Result<(), FragmentError> {
    let (offset, total) = (usize::from(header.offset), usize::from(header.total));
    if total == 0 || total > MAX_TOTAL_LEN {
        return Err(FragmentError::Total { got: total });
    }
    if len == 0 || offset + len > total {
        return Err(FragmentError::OutOfBounds { offset, len, total });
    }
    Ok(())
}
