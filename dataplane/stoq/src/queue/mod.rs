//! The queue towards a link: FQ-CoDel (RFC 8290), so that a saturated link stays responsive and one
//! flow cannot starve another.
//!
//! ```text
//!            hash      flow queues             deficit round robin      CoDel
//!   item ────────▶ [ ][ ][■■■■][ ][■][ ] ──▶ new flows, then old ──▶ mark, drop or ──▶ item
//!                  the fattest loses its                                deliver
//!                  head when all is full
//! ```
//!
//! A flow that was empty is served before those that stand in line: a packet of a sparse flow (DNS,
//! a ping, a key press) waits for about one packet of each other sparse flow, however long the queue
//! of a bulk flow is. Standing queues are held near the target delay by CoDel, each flow for itself.
//!
//! Owns the waiting items, bounded in number and bytes. It does no I/O and reads no clock; it is
//! called by a slot of a link, on the packet path, and by nobody else at the same time.

mod codel;
pub mod ecn;
mod store;

use std::time::{Duration, Instant};

use stoq_telemetry::DropReason;

use codel::{Codel, Params};
use store::{List, NIL, Store, Taken};

/// Most items dropped at once from the fattest flow when the queue is full. Finding it takes one
/// look at each flow; a batch spreads that over many packets (as Linux's `drop_batch` does).
const DROP_BATCH_MAX: u32 = 64;

/// Least quantum in bytes: a flow of the longest items (64 KiB) then waits at most 256 rounds.
const QUANTUM_MIN: u32 = 256;

/// Most items of a queue: the places are numbered by 16 bits, of which one says "none".
const PACKETS_LIMIT: u16 = NIL - 1;

/// What can wait in the queue.
pub trait Queued {
    /// Length in bytes, as it counts for fairness and for the memory limit.
    fn len_bytes(&self) -> usize;

    /// Marks the packet "congestion experienced", if its sender understands that; `false` otherwise,
    /// and the packet is dropped. [`ecn::mark_ce`] does it for IP.
    fn mark_ce(&mut self) -> bool;
}

/// The parameters of a queue. The defaults are those of RFC 8290 §5.2, except for the memory limit.
#[derive(Clone, Copy, Debug)]
pub struct QueueConfig {
    /// Number of flow queues. Flows that share one by chance share its fate.
    pub flows: u16,
    /// Most items that wait; at most 65,534.
    pub max_packets: u16,
    /// Most bytes that wait.
    pub max_bytes: usize,
    /// Bytes that a flow may send before it is the next one's turn: the MTU.
    pub quantum: u32,
    /// Delay that a flow's queue may stand at.
    pub target: Duration,
    /// How long it may stand above: about the longest round trip that is common.
    pub interval: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            flows: 1024,
            // 13 ms of full-size packets at 2.5 Gbit/s, and as many buffers as a thread pools.
            max_packets: 4096,
            max_bytes: 8 << 20,
            quantum: 1514,
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
        }
    }
}

impl QueueConfig {
    fn bounded(self) -> Self {
        Self {
            flows: self.flows.clamp(1, PACKETS_LIMIT),
            max_packets: self.max_packets.clamp(1, PACKETS_LIMIT),
            max_bytes: self.max_bytes.min(i32::MAX as usize),
            quantum: self.quantum.clamp(QUANTUM_MIN, u32::from(u16::MAX)),
            ..self
        }
    }
}

/// One flow queue.
#[derive(Clone, Copy, Debug)]
struct Flow {
    items: List,
    codel: Codel,
    deficit: i32,
    /// The flow after this one in its line.
    next: u16,
    active: bool,
}

impl Flow {
    const IDLE: Self =
        Self { items: List::EMPTY, codel: Codel::NEW, deficit: 0, next: NIL, active: false };
}

/// Flows that wait for their turn.
#[derive(Clone, Copy, Debug)]
struct Line {
    head: u16,
    tail: u16,
}

impl Line {
    const EMPTY: Self = Self { head: NIL, tail: NIL };
}

/// The queue. The table of flows is allocated with the first item, so that thousands of idle
/// connections cost nothing; places for items as they are needed, up to the limit. Both are kept until
/// [`FqCodel::release`].
#[derive(Debug)]
pub struct FqCodel<T> {
    config: QueueConfig,
    params: Params,
    /// Where the queue's clock of nanoseconds starts.
    epoch: Option<Instant>,
    store: Store<T>,
    flows: Vec<Flow>,
    /// Bytes in each flow, apart from the flows so that the fattest is found quickly.
    backlogs: Vec<u32>,
    new: Line,
    old: Line,
    packets: usize,
    bytes: usize,
}

impl<T: Queued> FqCodel<T> {
    /// An empty queue. Parameters out of their bounds are brought to them.
    #[must_use]
    pub fn new(config: QueueConfig) -> Self {
        let config = config.bounded();
        Self {
            params: Params { target_ns: nanos(config.target), interval_ns: nanos(config.interval) },
            config,
            epoch: None,
            store: Store::new(),
            flows: Vec::new(),
            backlogs: Vec::new(),
            new: Line::EMPTY,
            old: Line::EMPTY,
            packets: 0,
            bytes: 0,
        }
    }

    /// Uses this most of items, quantum and target from now on; those out of their bounds are brought to
    /// them. What waits beyond the most is dropped with the next item that comes.
    pub fn tune(&mut self, max_packets: u16, quantum: u32, target: Duration) {
        self.config = QueueConfig { max_packets, quantum, target, ..self.config }.bounded();
        self.params.target_ns = nanos(target);
    }

    /// Items that wait.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.packets
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Gives back the memory of an empty queue, 56 KiB and more, and with it what CoDel remembers of its
    /// flows; does nothing while something waits.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.store = Store::new();
            (self.flows, self.backlogs) = (Vec::new(), Vec::new());
            (self.new, self.old) = (Line::EMPTY, Line::EMPTY);
        }
    }

    /// Appends an item to the flow that `hash` names: a keyed hash of the flow's addresses and
    /// ports, so that nobody outside can aim at another's queue. When the queue is full, the
    /// fattest flow loses items from its head; each goes to `dropped` with the reason.
    pub fn enqueue(
        &mut self,
        item: T,
        hash: u32,
        now: Instant,
        mut dropped: impl FnMut(T, DropReason),
    ) {
        // An item without bytes would be invisible to the search for the fattest flow.
        let len = item.len_bytes().max(1);
        if len > self.config.max_bytes {
            dropped(item, DropReason::QueueFull);
            return;
        }
        while self.packets >= usize::from(self.config.max_packets)
            || self.bytes + len > self.config.max_bytes
        {
            self.drop_from_fattest(&mut dropped);
        }
        let now_ns = self.clock_ns(now);
        self.allocate_flows();
        let index = self.index_of(hash);
        let flow = &mut self.flows[usize::from(index)];
        // `max_bytes` is below 2^31, so every length within it fits.
        let len = len as u32;
        self.store.push(&mut flow.items, item, len, now_ns);
        self.backlogs[usize::from(index)] += len;
        self.packets += 1;
        self.bytes += len as usize;
        if !flow.active {
            flow.active = true;
            flow.deficit = self.config.quantum as i32;
            append(&mut self.flows, &mut self.new, index);
        }
    }

    /// Takes the item whose turn it is; those that CoDel drops on the way go to `dropped`.
    pub fn dequeue(&mut self, now: Instant, mut dropped: impl FnMut(T, DropReason)) -> Option<T> {
        let now_ns = self.clock_ns(now);
        // Ends: each round delivers, empties a flow, or pays a flow a quantum of its debt.
        loop {
            let from_new = self.new.head != NIL;
            let index = if from_new { self.new.head } else { self.old.head };
            let flow = self.flows.get_mut(usize::from(index))?;
            if flow.deficit <= 0 {
                flow.deficit += self.config.quantum as i32;
                self.leave_line(from_new);
                append(&mut self.flows, &mut self.old, index);
                continue;
            }
            if let Some((item, len)) = self.pop_judged(index, now_ns, &mut dropped) {
                self.flows[usize::from(index)].deficit -= len as i32;
                return Some(item);
            }
            self.leave_line(from_new);
            // A new flow that ran empty goes through the old line once, or it would be new again
            // with its next packet and starve the others (RFC 8290 §4.2).
            if from_new && self.old.head != NIL {
                append(&mut self.flows, &mut self.old, index);
            } else {
                self.flows[usize::from(index)].active = false;
            }
        }
    }

    /// Takes the next item of a flow that CoDel lets pass, with its length.
    fn pop_judged(
        &mut self,
        index: u16,
        now_ns: u64,
        dropped: &mut impl FnMut(T, DropReason),
    ) -> Option<(T, u32)> {
        // Ends: each round takes an item out.
        while let Some(Taken { mut item, since_ns, len }) = self.pop(index) {
            let delay_ns = now_ns.saturating_sub(since_ns);
            // Of the whole queue: many flows with one packet each are a standing queue as well.
            let standing = self.bytes > self.config.quantum as usize;
            let codel = &mut self.flows[usize::from(index)].codel;
            if !codel.signals(self.params, now_ns, delay_ns, standing) || item.mark_ce() {
                return Some((item, len));
            }
            dropped(item, DropReason::CodelDrop);
        }
        self.flows[usize::from(index)].codel.emptied();
        None
    }

    /// Drops up to half of the bytes of the fattest flow, from its head.
    fn drop_from_fattest(&mut self, dropped: &mut impl FnMut(T, DropReason)) {
        // Two passes: both compile to vector code, which the search for an index alone does not.
        let most = self.backlogs.iter().copied().max().unwrap_or(0);
        let fattest = self.backlogs.iter().position(|&bytes| bytes == most).unwrap_or(0);
        for _ in 0..DROP_BATCH_MAX {
            let Some(taken) = self.pop(fattest as u16) else { break };
            dropped(taken.item, DropReason::QueueFull);
            if self.backlogs[fattest] <= most / 2 {
                break;
            }
        }
    }

    fn pop(&mut self, index: u16) -> Option<Taken<T>> {
        let index = usize::from(index);
        let taken = self.store.pop(&mut self.flows[index].items)?;
        self.backlogs[index] -= taken.len;
        self.packets -= 1;
        self.bytes -= taken.len as usize;
        Some(taken)
    }

    /// Takes the first flow out of its line.
    fn leave_line(&mut self, from_new: bool) {
        let line = if from_new { &mut self.new } else { &mut self.old };
        line.head = self.flows[usize::from(line.head)].next;
        if line.head == NIL {
            line.tail = NIL;
        }
    }

    fn allocate_flows(&mut self) {
        if self.flows.is_empty() {
            let count = usize::from(self.config.flows);
            self.flows = vec![Flow::IDLE; count];
            self.backlogs = vec![0; count];
        }
    }

    /// The flow of a hash. The multiplication (by 2^32 over the golden ratio) spreads hashes that
    /// have bits in common because the same hash chose the connection.
    fn index_of(&self, hash: u32) -> u16 {
        let spread = u64::from(hash.wrapping_mul(0x9e37_79b9));
        ((spread * u64::from(self.config.flows)) >> 32) as u16
    }

    /// Nanoseconds since the queue was first used.
    fn clock_ns(&mut self, now: Instant) -> u64 {
        let epoch = *self.epoch.get_or_insert(now);
        nanos(now.saturating_duration_since(epoch))
    }
}

/// Appends a flow to a line that it is not in.
fn append(flows: &mut [Flow], line: &mut Line, index: u16) {
    flows[usize::from(index)].next = NIL;
    match flows.get_mut(usize::from(line.tail)) {
        Some(tail) => tail.next = index,
        None => line.head = index,
    }
    line.tail = index;
}

/// Whole nanoseconds, up to 584 years.
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000) + u64::from(duration.subsec_nanos())
}

#[cfg(test)]
mod tests;
