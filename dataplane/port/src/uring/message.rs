//! Message headers at fixed addresses, for operations that outlive the call that starts them.
#![allow(unsafe_code, reason = "a message header of zeroes")]

use crate::msg::{CONTROL_LEN, Control, NAME_LEN, Name};

/// A message header and all that it points to but the payload. Boxed slices of these do not move.
pub(crate) struct Message {
    header: libc::msghdr,
    iov: libc::iovec,
    pub(crate) name: Name,
    pub(crate) control: Control,
}

impl Message {
    /// `count` of them.
    pub(crate) fn boxed(count: usize) -> Box<[Self]> {
        let message = || Self {
            // SAFETY: headers and vectors of zeroes are valid: null pointers with length zero.
            header: unsafe { std::mem::zeroed() },
            // SAFETY: as above.
            iov: unsafe { std::mem::zeroed() },
            name: Name([0; NAME_LEN]),
            control: Control([0; CONTROL_LEN]),
        };
        (0..count).map(|_| message()).collect()
    }

    /// Points the header at `payload`, at the first `name` bytes of the address and `control` bytes
    /// of the control messages, and returns it. It holds until this moves or is pointed anew.
    pub(crate) fn point(
        &mut self,
        payload: (*mut u8, usize),
        name: usize,
        control: usize,
    ) -> *mut libc::msghdr {
        self.iov = libc::iovec { iov_base: payload.0.cast(), iov_len: payload.1 };
        self.header.msg_name = self.name.0.as_mut_ptr().cast();
        self.header.msg_namelen = name as libc::socklen_t;
        self.header.msg_iov = &raw mut self.iov;
        self.header.msg_iovlen = 1;
        self.header.msg_control =
            if control == 0 { std::ptr::null_mut() } else { self.control.0.as_mut_ptr().cast() };
        self.header.msg_controllen = control;
        &raw mut self.header
    }

    /// Points the header so that the kernel writes the whole address and all control messages.
    pub(crate) fn point_to_receive(&mut self, payload: (*mut u8, usize)) -> *mut libc::msghdr {
        self.point(payload, NAME_LEN, CONTROL_LEN)
    }

    /// After a receive: bytes of control messages, and the flags.
    pub(crate) fn received(&self) -> (usize, i32) {
        (self.header.msg_controllen.min(CONTROL_LEN), self.header.msg_flags)
    }
}
