//! The batched socket calls of the kernel, behind safe types.
//!
//! [`RecvBatch`] owns the buffers that `recvmmsg` fills, [`SendBatch`] the message headers that
//! `sendmmsg` reads; both are filled in anew before each call, so that they may move in between.
//! `mio` receives with the one, and every sender that is not a ring sends with the other.
#![allow(unsafe_code, reason = "recvmmsg, sendmmsg and integer socket options have no safe form")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::msg::{CONTROL_LEN, Control, NAME_LEN, Name};

/// Room for one message: the largest train that the kernel makes (64 KiB with its headers).
pub(crate) const MESSAGE_LEN: usize = 65_536;

/// Messages of one `recvmmsg`: sixteen trains are about 700 full-size datagrams, and their buffers
/// (1 MiB) stay in the second-level cache.
pub(crate) const RECV_BATCH: usize = 16;

/// Messages of one `sendmmsg`: one train without GSO.
pub(crate) const SEND_BATCH: usize = 64;

/// Sets an integer socket option that `nix` does not know.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Buffers for one burst of received messages.
pub(crate) struct RecvBatch {
    payloads: Box<[u8]>,
    names: [Name; RECV_BATCH],
    controls: [Control; RECV_BATCH],
    lens: [Lens; RECV_BATCH],
}

/// What the kernel said of one message.
#[derive(Clone, Copy, Default)]
struct Lens {
    payload: usize,
    control: usize,
    flags: i32,
}

/// One received message, borrowed from its batch.
pub(crate) struct RecvMessage<'a> {
    pub(crate) payload: &'a mut [u8],
    pub(crate) name: &'a [u8],
    pub(crate) control: &'a [u8],
    /// `MSG_TRUNC` and `MSG_CTRUNC` say that something is missing.
    pub(crate) flags: i32,
}

impl RecvBatch {
    pub(crate) fn new() -> Self {
        Self {
            payloads: vec![0; RECV_BATCH * MESSAGE_LEN].into_boxed_slice(),
            names: [Name([0; NAME_LEN]); RECV_BATCH],
            controls: [Control([0; CONTROL_LEN]); RECV_BATCH],
            lens: [Lens::default(); RECV_BATCH],
        }
    }

    /// Takes what is waiting on `fd`, without blocking; returns the number of messages.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock` when nothing is waiting.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let payloads = self.payloads.as_mut_ptr();
        let mut iovs: [libc::iovec; RECV_BATCH] = std::array::from_fn(|i| libc::iovec {
            // SAFETY: `payloads` has RECV_BATCH times MESSAGE_LEN bytes, so the offset is inside.
            iov_base: unsafe { payloads.add(i * MESSAGE_LEN) }.cast(),
            iov_len: MESSAGE_LEN,
        });
        let mut headers: [libc::mmsghdr; RECV_BATCH] = std::array::from_fn(|i| {
            // SAFETY: a message header of zeroes is valid: null pointers with length zero.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = self.names[i].0.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = NAME_LEN as libc::socklen_t;
            header.msg_hdr.msg_iov = &raw mut iovs[i];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = self.controls[i].0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN;
            header
        });
        // SAFETY: every pointer in `headers` points to memory of `self` or of this function with
        // the length given beside it, and all of it outlives the call.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                RECV_BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (lens, header) in self.lens.iter_mut().zip(&headers[..count]) {
            *lens = Lens {
                payload: header.msg_len as usize,
                control: header.msg_hdr.msg_controllen,
                flags: header.msg_hdr.msg_flags,
            };
        }
        Ok(count)
    }

    /// One message of the last [`RecvBatch::receive`].
    pub(crate) fn message(&mut self, index: usize) -> RecvMessage<'_> {
        let lens = self.lens[index];
        let start = index * MESSAGE_LEN;
        RecvMessage {
            payload: &mut self.payloads[start..start + lens.payload.min(MESSAGE_LEN)],
            name: &self.names[index].0,
            control: &self.controls[index].0[..lens.control.min(CONTROL_LEN)],
            flags: lens.flags,
        }
    }
}

/// Message headers for one `sendmmsg`.
pub(crate) struct SendBatch {
    names: [(Name, usize); SEND_BATCH],
    controls: [(Control, usize); SEND_BATCH],
}

impl SendBatch {
    pub(crate) fn new() -> Self {
        Self {
            names: [(Name([0; NAME_LEN]), 0); SEND_BATCH],
            controls: [(Control([0; CONTROL_LEN]), 0); SEND_BATCH],
        }
    }

    /// The address and control messages of message `index`, each with its length, to fill in.
    pub(crate) fn head(&mut self, index: usize) -> (&mut (Name, usize), &mut (Control, usize)) {
        (&mut self.names[index], &mut self.controls[index])
    }

    /// Sends `payloads` with the heads filled in before, in order, without blocking; returns how
    /// many messages the kernel took.
    ///
    /// # Errors
    /// Why it refused the first one.
    pub(crate) fn send(&mut self, fd: BorrowedFd<'_>, payloads: &[&[u8]]) -> io::Result<usize> {
        let count = payloads.len().min(SEND_BATCH);
        // SAFETY: headers and vectors of zeroes are valid: null pointers with length zero.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut iovs: [libc::iovec; SEND_BATCH] = unsafe { std::mem::zeroed() };
        for index in 0..count {
            iovs[index].iov_base = payloads[index].as_ptr().cast_mut().cast();
            iovs[index].iov_len = payloads[index].len();
            let header = &mut headers[index].msg_hdr;
            header.msg_name = self.names[index].0.0.as_mut_ptr().cast();
            header.msg_namelen = self.names[index].1 as libc::socklen_t;
            header.msg_iov = &raw mut iovs[index];
            header.msg_iovlen = 1;
            if self.controls[index].1 > 0 {
                header.msg_control = self.controls[index].0.0.as_mut_ptr().cast();
                header.msg_controllen = self.controls[index].1;
            }
        }
        // SAFETY: the first `count` headers point to memory of `self`, of `payloads` or of this
        // function with the lengths given beside; sendmmsg only reads it, and it outlives the call.
        let sent = unsafe {
            libc::sendmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
