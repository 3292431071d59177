//! The transmit side of a port: its buffers, and the choice of who sends them.
//!
//! Both ports have one. A buffer is at any time in one place: being filled, free, waiting for the
//! inline transmitter, inside a transmitter, or with the sender thread.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::poll::PollFlags;
use stoq_telemetry::{DropReason, Drops};

use crate::TxMeta;
use crate::sender::SenderThread;
use crate::train::{TRAIN_SEGMENTS, TxBuffer};
use crate::transmit::{Progress, Transmit};

/// Transmit buffers of one port (512 KiB): the sender works on one for about 100 µs, so eight keep
/// it busy while the worker does something else for a while, and hold 1.6 ms at 2.5 Gbit/s.
pub(crate) const BUFFERS: usize = 8;

/// Fewest datagrams for which it is worth to wake the sender thread: a wake-up costs about as much
/// as sending two packets.
const HANDOVER_MIN: usize = 4;

/// The transmit side of a port.
pub(crate) struct Outlet {
    current: Option<TxBuffer>,
    free: Vec<TxBuffer>,
    waiting: VecDeque<TxBuffer>,
    inline: Box<dyn Transmit>,
    /// The inline transmitter has a buffer for which the kernel had no room.
    blocked: bool,
    thread: Option<SenderThread>,
    segments_max: usize,
    drops: Arc<Drops>,
}

impl Outlet {
    pub(crate) fn new(
        inline: Box<dyn Transmit>,
        thread: Option<SenderThread>,
        gso: bool,
        drops: Arc<Drops>,
    ) -> Self {
        let free = (0..BUFFERS).map(|_| TxBuffer::new()).collect();
        Self {
            current: None,
            free,
            waiting: VecDeque::with_capacity(BUFFERS),
            inline,
            blocked: false,
            thread,
            segments_max: if gso { TRAIN_SEGMENTS } else { 1 },
            drops,
        }
    }

    /// Whether trains are sent whole.
    pub(crate) fn gso(&self) -> bool {
        self.segments_max > 1
    }

    /// See [`crate::Port::slot`].
    pub(crate) fn slot(&mut self) -> Option<&mut [u8]> {
        if self.current.as_ref().is_some_and(|buffer| !buffer.has_room()) {
            // What fails here fails again, and is reported, at the next flush.
            let _ = self.flush();
        }
        if self.current.is_none() {
            self.current = self.take_free();
        }
        self.current.as_mut()?.slot()
    }

    /// See [`crate::Port::commit`].
    pub(crate) fn commit(&mut self, len: usize, meta: &TxMeta) {
        if let Some(buffer) = &mut self.current {
            buffer.commit(len, meta, self.segments_max);
        }
    }

    /// See [`crate::Port::flush`].
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.collect();
        if let Some(buffer) = self.current.take_if(|buffer| !buffer.is_empty()) {
            self.dispatch(buffer)?;
        }
        self.advance()
    }

    /// Sends what waits for the inline transmitter, as far as the kernel takes it.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        loop {
            match self.inline.progress()? {
                Progress::Done(buffer) => self.settle(buffer),
                Progress::Blocked => {
                    self.blocked = true;
                    return Ok(());
                }
                Progress::Idle => {}
            }
            self.blocked = false;
            let Some(next) = self.waiting.pop_front() else { return Ok(()) };
            self.inline.start(next);
        }
    }

    /// While the inline transmitter has no room: what to wait for before [`Outlet::advance`].
    pub(crate) fn blocked_on(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if self.blocked { self.inline.blocked_on() } else { None }
    }

    /// Readable when the sender thread gave a buffer back to a worker that had none.
    pub(crate) fn room(&self) -> Option<BorrowedFd<'_>> {
        self.thread.as_ref().map(SenderThread::room)
    }

    /// After [`Outlet::room`] was readable.
    pub(crate) fn clear_room(&mut self) {
        if let Some(thread) = &self.thread {
            thread.clear_room();
        }
        self.collect();
    }

    /// Gives a buffer to one of the two senders; never to one while the other still has some, so
    /// that packets stay in order.
    fn dispatch(&mut self, buffer: TxBuffer) -> io::Result<()> {
        let inline_busy = self.blocked || !self.waiting.is_empty();
        let Some(thread) = self.thread.as_mut().filter(|_| !inline_busy) else {
            self.waiting.push_back(buffer);
            return Ok(());
        };
        if thread.out() == 0 && buffer.datagrams() < HANDOVER_MIN {
            self.waiting.push_back(buffer);
            return Ok(());
        }
        thread.send(buffer).map_err(|mut buffer| {
            buffer.report.refused = buffer.datagrams() as u64;
            self.settle(buffer);
            io::Error::other("the sender thread has ended; restart the worker")
        })
    }

    fn take_free(&mut self) -> Option<TxBuffer> {
        if self.free.is_empty() {
            self.collect();
        }
        if self.free.is_empty()
            && let Some(thread) = &self.thread
        {
            thread.starve();
            self.collect();
        }
        self.free.pop()
    }

    /// Takes back what the sender thread is done with.
    fn collect(&mut self) {
        while let Some(buffer) = self.thread.as_mut().and_then(SenderThread::take_back) {
            self.settle(buffer);
        }
    }

    /// Counts what a sender reported and frees its buffer.
    fn settle(&mut self, mut buffer: TxBuffer) {
        if buffer.report.refused > 0 {
            self.drops.count_many(DropReason::PortSend, buffer.report.refused);
        }
        if buffer.report.gso_refused {
            self.segments_max = 1;
        }
        buffer.clear();
        self.free.push(buffer);
    }
}
