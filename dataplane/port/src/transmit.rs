//! How one transmit buffer reaches the kernel, in order.
//!
//! [`Transmit`] is what the worker (inline) or the sender thread drives; [`CallTransmit`] does it
//! with `sendmmsg`, the `uring` port has one on a ring. It owns the buffer while the kernel reads it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::msg::{encode_control, encode_name};
use crate::sockets::Sockets;
use crate::sys::{SEND_BATCH, SendBatch};
use crate::train::{Cursor, TxBuffer};

/// How far a buffer came.
pub(crate) enum Progress {
    /// It was sent; here it is again.
    Done(TxBuffer),
    /// The kernel has no room now.
    Blocked,
    /// There was none.
    Idle,
}

/// Sends buffers, one at a time.
pub(crate) trait Transmit {
    /// Takes a buffer over. There must be none: the last [`Transmit::progress`] was not `Blocked`.
    fn start(&mut self, buffer: TxBuffer);

    /// Sends as much as the kernel takes now. Never blocks.
    ///
    /// # Errors
    /// Only when sending can not go on at all; a refused packet is in the buffer's report.
    fn progress(&mut self) -> io::Result<Progress>;

    /// After `Blocked`: sleeps until there is room or `timeout` has passed.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;

    /// After `Blocked`: the descriptor that shows room, and how.
    fn blocked_on(&self) -> Option<(BorrowedFd<'_>, PollFlags)>;
}

/// Errors that a train may cause and its datagrams alone would not: no checksum offload on the
/// route (EIO), a device or kernel without segmentation (EINVAL), or a datagram size beyond the
/// path's MTU, where a shorter last one may still pass (EMSGSIZE).
pub(crate) fn blames_the_train(errno: i32) -> bool {
    matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE)
}

/// Sends with `sendmmsg`.
pub(crate) struct CallTransmit {
    sockets: Sockets,
    batch: SendBatch,
    buffer: Option<TxBuffer>,
    blocked: Option<usize>,
}

/// How one call went.
pub(crate) enum Step {
    Sent,
    Blocked(usize),
    End,
}

impl CallTransmit {
    pub(crate) fn new(sockets: Sockets) -> Self {
        Self { sockets, batch: SendBatch::new(), buffer: None, blocked: None }
    }

    /// Sends the next pieces that leave through one socket.
    fn step(&mut self, buffer: &mut TxBuffer) -> Step {
        let Some((first, after_first)) = buffer.piece(buffer.cursor) else { return Step::End };
        let Some(index) = self.sockets.index_of(first.meta.socket) else {
            refuse(buffer, after_first);
            return Step::Sent;
        };
        let mut payloads: [&[u8]; SEND_BATCH] = [&[]; SEND_BATCH];
        let mut ends = [Cursor::default(); SEND_BATCH];
        let mut count = 0;
        let mut at = buffer.cursor;
        while count < SEND_BATCH
            && let Some((piece, next)) = buffer.piece(at)
            && piece.meta.socket == first.meta.socket
        {
            let (name, control) = self.batch.head(count);
            name.1 = encode_name(piece.meta.to, self.sockets.get(index).family, &mut name.0);
            control.1 =
                encode_control(piece.segment, piece.meta.from, piece.meta.to, &mut control.0);
            payloads[count] = piece.payload;
            ends[count] = next;
            at = next;
            count += 1;
        }
        match self.batch.send(self.sockets.get(index).as_fd(), &payloads[..count]) {
            Ok(sent) => accept(buffer, ends[sent.max(1) - 1]),
            Err(error) => return judge(buffer, after_first, &error, index),
        }
        Step::Sent
    }
}

/// Goes on behind what the kernel took.
pub(crate) fn accept(buffer: &mut TxBuffer, next: Cursor) {
    if buffer.is_split(buffer.cursor) && buffer.cursor.is_start() {
        buffer.report.gso_refused = true;
    }
    buffer.cursor = next;
}

/// Counts the piece at the cursor as refused and goes on behind it.
pub(crate) fn refuse(buffer: &mut TxBuffer, next: Cursor) {
    buffer.report.refused += buffer.piece_datagrams(buffer.cursor);
    buffer.cursor = next;
}

/// What to do about the error of the piece at the cursor.
pub(crate) fn judge(buffer: &mut TxBuffer, next: Cursor, error: &io::Error, socket: usize) -> Step {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => return Step::Blocked(socket),
        Some(libc::EINTR) => {}
        Some(errno) if blames_the_train(errno) && buffer.split(buffer.cursor) => {}
        _ => refuse(buffer, next),
    }
    Step::Sent
}

impl Transmit for CallTransmit {
    fn start(&mut self, buffer: TxBuffer) {
        debug_assert!(self.buffer.is_none(), "a buffer was started before the last was done");
        self.buffer = Some(buffer);
    }

    fn progress(&mut self) -> io::Result<Progress> {
        self.blocked = None;
        let Some(mut buffer) = self.buffer.take() else { return Ok(Progress::Idle) };
        loop {
            match self.step(&mut buffer) {
                Step::Sent => {}
                Step::End => return Ok(Progress::Done(buffer)),
                Step::Blocked(socket) => {
                    self.blocked = Some(socket);
                    self.buffer = Some(buffer);
                    return Ok(Progress::Blocked);
                }
            }
        }
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let Some((fd, events)) = self.blocked_on() else { return Ok(()) };
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, events)], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn blocked_on(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.blocked.map(|index| (self.sockets.get(index).as_fd(), PollFlags::POLLOUT))
    }
}
