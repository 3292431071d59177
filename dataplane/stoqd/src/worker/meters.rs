//! What a worker counts of itself. It alone writes; the control thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one worker.
#[derive(Debug, Default)]
pub struct Meters {
    turns: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handed_over: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    // One writer: no locked instruction is needed.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl Meters {
    /// Counts one turn of the loop with its UDP packets.
    pub(super) fn turn(&self, received: usize, sent: usize) {
        add(&self.turns, 1);
        add(&self.received, received as u64);
        add(&self.sent, sent as u64);
    }

    pub(super) fn hand_over(&self) {
        add(&self.handed_over, 1);
    }

    /// Turns of the loop: a heartbeat, which advances at least twice a second.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// UDP packets received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// UDP packets sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// UDP packets that reached this worker and belong to another.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
    }
}
