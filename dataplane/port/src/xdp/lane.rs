//! One AF_XDP socket on one queue of the interface, with its memory and its four rings.
//!
//! ```text
//!   receive:  fill ring (empty frames) ──▶ kernel ──▶ rx ring ──▶ the handler ──▶ fill ring
//!   transmit: slot ──▶ tx ring ──▶ kernel ──▶ completion ring ──▶ slot
//! ```
//!
//! The two directions have frames of their own, so neither starves the other. A lane is made by the
//! daemon, which has the socket from its broker, and lives in the port of one worker.

use std::collections::TryReserveError;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::xdp_desc;

use super::frame::HEADROOM;
use super::kick::Kicker;
use super::ring::Ring;
use super::sys::{self, CONTINUED, Statistics};
use super::umem::{Frame, Memory, MemoryShape};
use crate::{PortError, PortKind};

/// Frames to receive into: 18 ms at 2.5 Gbit/s, for a worker that is not scheduled for a while.
const RX_FRAMES: u32 = 4096;

/// Datagrams on their way out: 4 ms at 2.5 Gbit/s. In copy mode the socket's send buffer lets the
/// kernel hold about a hundred of them; a NIC's own ring has room for some hundreds.
const TX_SLOTS: u32 = 1024;

/// A frame where an Ethernet frame fits whole, behind what the kernel keeps free before it.
const SMALL: usize = 2048;

/// The largest frame that the kernel takes; what is longer comes and goes in several.
const LARGE: usize = 4096;

const GIVE_MEMORY: &str = "give the host more memory";

/// Bytes that the kernel leaves free in front of a received frame (XDP_PACKET_HEADROOM).
const RX_HEADROOM: usize = 256;

/// Ethernet's header with two tags, and the IP packet's MTU on top of it.
const LINK_HEADER: usize = 22;

/// How a lane was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSpec {
    /// Index of the interface.
    pub interface: u32,
    /// Number of its queue.
    pub queue: u32,
    /// MTU of the interface in bytes.
    pub mtu: u16,
    /// The XDP program is in the driver, not behind the allocation of an skb.
    pub native: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    /// Who calls the kernel to send; the worker itself without one.
    kicker: Option<Kicker>,
    fill: Ring<u64>,
    completion: Ring<u64>,
    rx: Ring<xdp_desc>,
    tx: Ring<xdp_desc>,
    umem: Memory,
    // Behind rings and memory: they go first, or the queue stays busy.
    socket: OwnedFd,
    slots: Slots,
    /// The slot that is being written.
    current: Option<Frame>,
    /// Where a packet of several frames is put together.
    joined: Vec<u8>,
    zero_copy: bool,
    spec: LaneSpec,
    counted: Statistics,
    down: bool,
}

/// Transmit slots: each so many adjacent frames that the largest packet fits.
#[derive(Debug)]
struct Slots {
    free: Vec<Frame>,
    /// Frames of one slot.
    frames: u32,
    /// Number of the first slot's first frame.
    first: u32,
    /// Descriptors of each slot that the kernel has.
    out: Vec<u8>,
}

/// How far the kernel went with what is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kick {
    /// All of it.
    Done,
    /// It has no room now.
    Blocked,
    /// The interface is down or gone.
    Down,
}

impl Lane {
    /// Opens a lane: memory, a socket for it, rings, then the queue; without a copy where the driver
    /// can. `open_socket` opens an AF_XDP socket for the memory, as [`Memory::open_socket`] does, which
    /// takes privilege that the caller may not have.
    ///
    /// # Errors
    /// When the kernel refuses a part: which one, and what to do; or what `open_socket` says.
    pub fn open<E: From<PortError>>(
        spec: LaneSpec,
        open_socket: impl FnOnce(&Memory) -> Result<OwnedFd, E>,
    ) -> Result<Self, E> {
        let whole = LINK_HEADER + usize::from(spec.mtu);
        let frame_len = if RX_HEADROOM + whole <= SMALL { SMALL } else { LARGE };
        let slot_frames = (HEADROOM + usize::from(spec.mtu)).div_ceil(frame_len) as u32;
        let tx_frames = TX_SLOTS * slot_frames;
        let shape = MemoryShape { frames: RX_FRAMES + tx_frames, frame_len: frame_len as u32 };
        let (memory, frames) = Memory::new(shape).map_err(failed("memory", GIVE_MEMORY))?;
        let socket = open_socket(&memory)?;
        Ok(Self::bind(spec, memory, frames, slot_frames, socket)?)
    }

    fn bind(
        spec: LaneSpec,
        umem: Memory,
        mut frames: Vec<Frame>,
        slot_frames: u32,
        socket: OwnedFd,
    ) -> Result<Self, PortError> {
        let whole = LINK_HEADER + usize::from(spec.mtu);
        let several = RX_HEADROOM + whole > umem.frame_len();
        let rings = sys::rings(socket.as_fd(), RX_FRAMES, TX_SLOTS * slot_frames)
            .map_err(failed("rings", GIVE_MEMORY))?;
        let zero_copy = sys::bind(socket.as_fd(), spec.interface, spec.queue, several)
            .map_err(failed("queue", "look whether another program has it (ethtool -l)"))?;
        let tx_frames = frames.split_off(RX_FRAMES as usize);
        let slots = Slots::new(tx_frames, slot_frames);
        let joined = scratch(whole).map_err(|_| io::ErrorKind::OutOfMemory.into());
        let joined = joined.map_err(failed("memory", GIVE_MEMORY))?;
        let sys::Rings { fill, completion, rx, tx } = rings;
        let mut lane = Self {
            fill,
            completion,
            rx,
            tx,
            umem,
            socket,
            slots,
            current: None,
            joined,
            zero_copy,
            spec,
            counted: Statistics::default(),
            down: false,
            kicker: None,
        };
        for frame in frames {
            lane.give_back(frame);
        }
        lane.fill.publish();
        Ok(lane)
    }

    /// How it was opened.
    #[must_use]
    pub const fn spec(&self) -> &LaneSpec {
        &self.spec
    }

    /// Whether the NIC reads and writes the frames itself.
    #[must_use]
    pub const fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Calls `handler` with each frame that has arrived, at most `most`; returns how many there
    /// were, and how many of them were longer than any that this interface carries.
    pub(crate) fn receive(
        &mut self,
        most: usize,
        handler: &mut dyn FnMut(&mut [u8]),
    ) -> (usize, u64) {
        let mut taken = 0;
        let mut oversized = 0;
        while taken < most
            && let Some(desc) = self.rx.pop()
        {
            taken += 1;
            if desc.options & CONTINUED == 0 {
                self.single(&desc, handler);
            } else if !self.several(&desc, handler) {
                oversized += 1;
            }
        }
        if taken > 0 {
            self.rx.release();
            self.fill.publish();
            if self.fill.needs_wakeup() {
                sys::wake_receive(self.socket.as_fd());
            }
        }
        (taken, oversized)
    }

    fn single(&mut self, desc: &xdp_desc, handler: &mut dyn FnMut(&mut [u8])) {
        let Some(frame) = self.umem.reclaim(desc.addr) else { return };
        let at = (desc.addr % self.umem.frame_len() as u64) as usize;
        let len = (desc.len as usize).min(self.umem.frame_len() - at);
        handler(self.umem.bytes(&frame, at, len));
        self.give_back(frame);
    }

    /// Puts a packet together that came in several frames; `false` if it is too long.
    fn several(&mut self, first: &xdp_desc, handler: &mut dyn FnMut(&mut [u8])) -> bool {
        self.joined.clear();
        let mut whole = true;
        let mut next = Some(*first);
        while let Some(desc) = next {
            whole &= self.join(&desc);
            next = if desc.options & CONTINUED == 0 { None } else { self.rx.pop() };
        }
        if whole {
            let mut joined = std::mem::take(&mut self.joined);
            handler(&mut joined);
            self.joined = joined;
        }
        whole
    }

    fn join(&mut self, desc: &xdp_desc) -> bool {
        let Some(frame) = self.umem.reclaim(desc.addr) else { return false };
        let at = (desc.addr % self.umem.frame_len() as u64) as usize;
        let len = (desc.len as usize).min(self.umem.frame_len() - at);
        let fits = self.joined.len() + len <= self.joined.capacity();
        if fits {
            self.joined.extend_from_slice(self.umem.bytes(&frame, at, len));
        }
        self.give_back(frame);
        fits
    }

    /// Lets the kernel receive into a frame again. There is a place for each.
    fn give_back(&mut self, frame: Frame) {
        let full = self.fill.push(self.umem.offset(&frame));
        debug_assert!(full.is_ok(), "the fill ring has a place for every frame");
    }

    /// Whether packets wait.
    pub(crate) fn has_packets(&self) -> bool {
        self.rx.has_entries()
    }

    /// Room for the next datagram, or `None` while all slots are on their way.
    pub(crate) fn slot(&mut self) -> Option<&mut [u8]> {
        if self.has_room() && self.current.is_none() {
            self.current = self.slots.free.pop();
        }
        let len = self.slots.frames as usize * self.umem.frame_len() - HEADROOM;
        let frame = self.current.as_ref()?;
        Some(self.umem.bytes(frame, HEADROOM, len))
    }

    /// Whether there is room for a datagram.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.current.is_none() && self.slots.free.is_empty() {
            self.collect();
        }
        self.current.is_some() || !self.slots.free.is_empty()
    }

    /// The datagram in the last slot, to be read again.
    pub(crate) fn written(&mut self, len: usize) -> Option<&mut [u8]> {
        Some(self.umem.bytes(self.current.as_ref()?, HEADROOM, len))
    }

    /// Sends the datagram of the last slot, `len` bytes long, behind `headers` bytes that `write`
    /// fills in: it gets both.
    pub(crate) fn commit(&mut self, len: usize, headers: usize, write: impl FnOnce(&mut [u8])) {
        let Some(frame) = self.current.take() else { return };
        let start = HEADROOM - headers;
        write(self.umem.bytes(&frame, start, headers + len));
        let base = self.umem.offset(&frame);
        let slot = self.slots.index(self.number(&frame));
        let (mut at, end) = (start, HEADROOM + len);
        while at < end {
            // A descriptor stays within its frame.
            let frame_end = (at / self.umem.frame_len() + 1) * self.umem.frame_len();
            let piece = end.min(frame_end) - at;
            let options = if at + piece < end { CONTINUED } else { 0 };
            let desc = xdp_desc { addr: base + at as u64, len: piece as u32, options };
            let full = self.tx.push(desc);
            debug_assert!(full.is_ok(), "the tx ring has a place for every frame");
            self.slots.out[slot] += 1;
            at += piece;
        }
    }

    fn number(&self, frame: &Frame) -> u32 {
        (self.umem.offset(frame) / self.umem.frame_len() as u64) as u32
    }

    /// Leaves the calls that send to a thread, unless the driver sends without a copy: then a call only
    /// rings a bell.
    ///
    /// # Errors
    /// When there is no thread left.
    pub(crate) fn use_thread(&mut self, core: Option<usize>) -> io::Result<()> {
        if !self.zero_copy && self.kicker.is_none() {
            self.kicker = Some(Kicker::spawn(self.socket.as_fd(), core)?);
        }
        Ok(())
    }

    /// Hands all that was committed to the kernel, and calls it where it wants to be called.
    pub(crate) fn flush(&mut self) -> Kick {
        self.tx.publish();
        let mut before = self.tx.pending();
        if let Some(kicker) = &self.kicker {
            if before > 0 {
                kicker.kick();
            }
            self.down = kicker.is_down();
            return if self.down { Kick::Down } else { Kick::Done };
        }
        while before > 0 && self.tx.needs_wakeup() {
            let result = sys::wake_transmit(self.socket.as_fd());
            let after = self.tx.pending();
            self.down = matches!(result, Err(libc::ENETDOWN | libc::ENXIO));
            if self.down {
                return Kick::Down;
            }
            if after == before {
                return Kick::Blocked;
            }
            before = after;
        }
        Kick::Done
    }

    /// Whether the interface was down or gone at the last call.
    pub(crate) fn is_down(&self) -> bool {
        self.down
    }

    /// Takes back the slots that were sent.
    fn collect(&mut self) {
        while let Some(offset) = self.completion.pop() {
            if let Some(frame) = self.umem.reclaim(offset) {
                self.slots.done(self.number(&frame), &self.umem);
            }
        }
        self.completion.release();
    }

    /// Packets that the kernel had no frame or no place for, since the last call.
    pub(crate) fn missed(&mut self) -> u64 {
        let Ok(now) = sys::statistics(self.socket.as_fd()) else { return 0 };
        let missed = now.missed().saturating_sub(self.counted.missed());
        self.counted = now;
        missed
    }
}

impl AsFd for Lane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Slots {
    fn new(frames: Vec<Frame>, per_slot: u32) -> Self {
        let slots = frames.len() / per_slot as usize;
        let mut free: Vec<Frame> = frames.into_iter().step_by(per_slot as usize).collect();
        // The last is taken first; so begin with the first in memory.
        free.reverse();
        Self { free, frames: per_slot, first: RX_FRAMES, out: vec![0; slots] }
    }

    fn index(&self, frame: u32) -> usize {
        (frame.saturating_sub(self.first) / self.frames) as usize
    }

    /// One descriptor of the slot with this frame was sent.
    fn done(&mut self, frame: u32, umem: &Memory) {
        let index = self.index(frame);
        let Some(out) = self.out.get_mut(index).filter(|out| **out > 0) else { return };
        *out -= 1;
        if *out == 0 {
            let first = self.first + index as u32 * self.frames;
            let offset = u64::from(first) * umem.frame_len() as u64;
            self.free.extend(umem.reclaim(offset));
        }
    }
}

fn failed(what: &'static str, advice: &'static str) -> impl FnOnce(io::Error) -> PortError {
    move |source| PortError::Open { port: PortKind::Xdp, what, source, advice }
}

fn scratch(len: usize) -> Result<Vec<u8>, TryReserveError> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len)?;
    Ok(bytes)
}
