//! Sends buffers as chains of linked entries: in order, and stopped by the first one refused.
//!
//! On the worker or on a sender thread, each with a ring of its own, so that sends and receives do
//! not wait for each other. The kernel reads the buffer and the headers until the last completion;
//! until then both are held here.
#![allow(unsafe_code, reason = "entries name memory that must outlive them")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::opcode::SendMsg;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fixed;
use nix::poll::PollFlags;

use super::UringReason;
use super::message::Message;
use super::ring::{Flavour, Ring};
use crate::msg::{encode_control, encode_name};
use crate::sockets::Sockets;
use crate::sys::SEND_BATCH;
use crate::train::{Cursor, Piece, TxBuffer};
use crate::transmit::{Progress, Transmit, accept, judge, refuse};

/// See the module.
pub(crate) struct RingTransmit {
    ring: Ring,
    sockets: Sockets,
    messages: Box<[Message]>,
    buffer: Option<TxBuffer>,
    /// The place behind each piece of the chain, and what became of it.
    pieces: [(Cursor, i32); SEND_BATCH],
    /// Pieces of the chain.
    chained: usize,
    /// Those whose completion is not yet taken.
    in_flight: usize,
}

impl RingTransmit {
    /// # Errors
    /// Why io_uring can not be used.
    pub(crate) fn new(sockets: Sockets) -> Result<Self, UringReason> {
        let files: Vec<RawFd> = sockets.iter().map(|bound| bound.fd.as_raw_fd()).collect();
        let entries = SEND_BATCH as u32;
        let ring = Ring::new(entries, 2 * entries, Flavour::Cooperative, &files)?;
        Ok(Self {
            ring,
            sockets,
            messages: Message::boxed(SEND_BATCH),
            buffer: None,
            pieces: [(Cursor::default(), 0); SEND_BATCH],
            chained: 0,
            in_flight: 0,
        })
    }

    /// Queues and hands over the next chain of the buffer's pieces; `false` at its end.
    fn chain(&mut self, buffer: &mut TxBuffer) -> io::Result<bool> {
        debug_assert!(self.in_flight == 0, "one chain at a time keeps the order");
        while let Some((piece, next)) = buffer.piece(buffer.cursor)
            && self.sockets.index_of(piece.meta.socket).is_none()
        {
            refuse(buffer, next);
        }
        self.chained = self.measure(buffer);
        let mut at = buffer.cursor;
        for place in 0..self.chained {
            let Some((piece, next)) = buffer.piece(at) else { break };
            // A chain must not span two submissions, nor end on an entry that links on.
            let last = place + 1 == self.chained;
            let flags = if last { Flags::empty() } else { Flags::IO_LINK };
            let entry = self.entry(place, &piece).flags(flags);
            self.pieces[place] = (next, 0);
            // SAFETY: the header, its message and the payload are in boxed slices that `self` and
            // the buffer own; neither is touched or freed before `in_flight` is zero again.
            unsafe { self.ring.push(&entry)? };
            self.in_flight += 1;
            at = next;
        }
        self.ring.submit()?;
        Ok(self.chained > 0)
    }

    /// Pieces from the cursor on that make one chain.
    fn measure(&self, buffer: &TxBuffer) -> usize {
        let mut at = buffer.cursor;
        let mut count = 0;
        while count < SEND_BATCH
            && let Some((piece, next)) = buffer.piece(at)
            && self.sockets.index_of(piece.meta.socket).is_some()
        {
            at = next;
            count += 1;
        }
        count
    }

    /// The entry that sends a piece with the message header at `place`.
    fn entry(&mut self, place: usize, piece: &Piece<'_>) -> Entry {
        // Measured before: the socket is there.
        let index = self.sockets.index_of(piece.meta.socket).unwrap_or_default();
        let family = self.sockets.get(index).family;
        let message = &mut self.messages[place];
        let name = encode_name(piece.meta.to, family, &mut message.name);
        let control =
            encode_control(piece.segment, piece.meta.from, piece.meta.to, &mut message.control);
        let payload = (piece.payload.as_ptr().cast_mut(), piece.payload.len());
        let header = message.point(payload, name, control);
        SendMsg::new(Fixed(index as u32), header)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build()
            .user_data(place as u64)
    }

    /// Takes completions; `true` when the chain is done.
    fn reap(&mut self) -> io::Result<bool> {
        let mut asked = false;
        loop {
            let before = self.in_flight;
            while let Some(done) = self.ring.next() {
                self.pieces[done.user_data as usize % SEND_BATCH].1 = done.result;
                self.in_flight -= 1;
            }
            // The ring's word that work was put off may be stale, so asking must bring something.
            let in_vain = asked && self.in_flight == before;
            if self.in_flight == 0 || in_vain || self.ring.is_quiet() {
                return Ok(self.in_flight == 0);
            }
            self.ring.submit()?;
            asked = true;
        }
    }

    /// Moves the buffer's cursor behind what was sent, up to the first piece that was refused: the
    /// kernel has cancelled those behind it.
    fn settle(&self, buffer: &mut TxBuffer) {
        for (next, result) in &self.pieces[..self.chained] {
            if *result >= 0 {
                accept(buffer, *next);
                continue;
            }
            let error = io::Error::from_raw_os_error(-result);
            if error.raw_os_error() != Some(libc::ECANCELED) {
                judge(buffer, *next, &error, 0);
            }
            return;
        }
    }

    /// Sends all of the buffer that the kernel takes now; `true` at its end.
    fn run(&mut self, buffer: &mut TxBuffer) -> io::Result<bool> {
        loop {
            if self.chained > 0 {
                if !self.reap()? {
                    return Ok(false);
                }
                self.settle(buffer);
            }
            if !self.chain(buffer)? {
                return Ok(true);
            }
        }
    }
}

impl Transmit for RingTransmit {
    fn start(&mut self, buffer: TxBuffer) {
        debug_assert!(self.buffer.is_none(), "a buffer was started before the last was done");
        self.buffer = Some(buffer);
    }

    fn progress(&mut self) -> io::Result<Progress> {
        let Some(mut buffer) = self.buffer.take() else { return Ok(Progress::Idle) };
        let ended = self.run(&mut buffer);
        if matches!(ended, Ok(true)) {
            return Ok(Progress::Done(buffer));
        }
        self.buffer = Some(buffer);
        ended.map(|_| Progress::Blocked)
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.ring.wait(self.in_flight, Some(timeout))
    }

    fn blocked_on(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        (self.in_flight > 0).then(|| (self.ring.as_fd(), PollFlags::POLLIN))
    }
}

impl Drop for RingTransmit {
    fn drop(&mut self) {
        if !self.ring.close() && self.in_flight > 0 {
            // The kernel may still read them: rather lose the memory.
            std::mem::forget(self.buffer.take());
            std::mem::forget(std::mem::take(&mut self.messages));
        }
    }
}
