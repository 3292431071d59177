//! The descriptors that wake a worker out of its ring.
//!
//! A poll entry completes once; each that completed is queued anew before the next sleep, where the
//! kernel looks at once, so that a descriptor wakes for as long as it is readable.
#![allow(unsafe_code, reason = "entries are pushed by an unsafe call")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use io_uring::opcode::PollAdd;
use io_uring::types::Fd;

use super::ring::Ring;
use crate::port::{WATCH_MAX, check_token};
use crate::{Ready, WatchToken};

/// The sender thread's eventfd.
pub(super) const ROOM: usize = WATCH_MAX;

/// The worker's own send ring.
pub(super) const TRANSMIT: usize = WATCH_MAX + 1;

/// All polls that there can be.
const PLACES: usize = WATCH_MAX + 2;

/// What the polls said since the last sleep.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fired {
    /// The worker's descriptors.
    pub(super) ready: Ready,
    pub(super) room: bool,
    pub(super) transmit: bool,
}

/// See the module.
pub(super) struct Polls {
    watched: Vec<(OwnedFd, WatchToken)>,
    armed: [bool; PLACES],
    fired: Fired,
}

impl Default for Polls {
    fn default() -> Self {
        Self { watched: Vec::new(), armed: [false; PLACES], fired: Fired::default() }
    }
}

impl Polls {
    /// See [`crate::Port::watch`].
    pub(super) fn watch(&mut self, fd: BorrowedFd<'_>, token: WatchToken) -> io::Result<()> {
        check_token(token)?;
        self.watched.push((fd.try_clone_to_owned()?, token));
        Ok(())
    }

    /// See [`crate::Port::unwatch`]: a poll that is armed already ends by itself.
    pub(super) fn unwatch(&mut self, token: WatchToken) {
        self.watched.retain(|(_, watched)| *watched != token);
    }

    /// Queues a poll for each watched descriptor that has none.
    pub(super) fn arm(&mut self, ring: &mut Ring) -> io::Result<()> {
        for (fd, token) in &self.watched {
            add(ring, &mut self.armed[usize::from(*token)], usize::from(*token), fd.as_raw_fd())?;
        }
        Ok(())
    }

    /// Queues a poll for a descriptor of the port's own, at [`ROOM`] or [`TRANSMIT`].
    pub(super) fn arm_internal(
        &mut self,
        ring: &mut Ring,
        place: usize,
        fd: BorrowedFd<'_>,
    ) -> io::Result<()> {
        add(ring, &mut self.armed[place], place, fd.as_raw_fd())
    }

    /// Notes that the poll with this number completed.
    pub(super) fn fired(&mut self, user_data: u64) {
        let place = user_data as usize % PLACES;
        self.armed[place] = false;
        match place {
            ROOM => self.fired.room = true,
            TRANSMIT => self.fired.transmit = true,
            token => self.fired.ready.0 |= 1 << token,
        }
    }

    /// Whether there is something to tell already.
    pub(super) fn any_fired(&self) -> bool {
        self.fired.ready.0 != 0 || self.fired.room || self.fired.transmit
    }

    /// What the polls said.
    pub(super) fn take(&mut self) -> Fired {
        std::mem::take(&mut self.fired)
    }
}

fn add(ring: &mut Ring, armed: &mut bool, place: usize, fd: i32) -> io::Result<()> {
    if !*armed {
        let entry = PollAdd::new(Fd(fd), libc::POLLIN as u32).build().user_data(place as u64);
        // SAFETY: a poll names no memory, and the kernel holds the file itself.
        unsafe { ring.push(&entry)? };
        *armed = true;
    }
    Ok(())
}
