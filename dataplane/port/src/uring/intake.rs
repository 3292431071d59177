//! How the `uring` port receives: armed entries that complete with messages.
//!
//! Multishot (kernel 6.0): one entry for each socket stays armed and each message takes a buffer
//! from the ring of buffers. Single shot, before that: some entries for each socket, each with a
//! buffer of its own, armed again when their message was delivered.
#![allow(unsafe_code, reason = "entries name memory that must outlive them")]

use std::io;

use io_uring::cqueue::more;
use io_uring::opcode::{RecvMsg, RecvMsgMulti};
use io_uring::types::Fixed;

use super::buffers::{BufferRing, Filled, GROUP};
use super::message::Message;
use super::ring::{Completion, Ring};
use crate::msg::{CONTROL_LEN, NAME_LEN};
use crate::sockets::SOCKETS_MAX;
use crate::sys::{MESSAGE_LEN, RecvMessage};

/// Entries for each socket in single shot: enough that several packets of a burst are taken in one
/// go, and few enough that their 64 KiB buffers stay cached.
const SINGLE_SHOTS: usize = 8;

/// The header that the kernel puts before a multishot message (`io_uring_recvmsg_out`).
const OUT_HEADER: usize = 16;

/// Marks the completions of receives; the place of the socket or of the entry is below it.
pub(super) const RECEIVE: u64 = 1 << 32;

/// A message that came.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The place of its socket.
    pub(crate) socket: usize,
    held: Held,
}

/// What holds its bytes.
#[derive(Debug)]
enum Held {
    Buffer(Filled),
    Entry { place: usize, len: usize },
}

/// See the module.
pub(crate) enum Intake {
    /// With a ring of buffers.
    Multishot(Multishot),
    /// With a buffer for each entry.
    SingleShot(SingleShot),
}

impl Intake {
    /// Arms what is not armed (any more).
    ///
    /// # Errors
    /// When the ring takes no more entries.
    pub(crate) fn arm(&mut self, ring: &mut Ring) -> io::Result<()> {
        match self {
            Self::Multishot(multishot) => multishot.arm(ring),
            Self::SingleShot(single) => single.arm(ring),
        }
    }

    /// What a completion brought.
    pub(crate) fn take(&mut self, completion: &Completion) -> Option<Arrival> {
        match self {
            Self::Multishot(multishot) => multishot.take(completion),
            Self::SingleShot(single) => single.take(completion),
        }
    }

    /// Shows an arrival to `read` and makes its buffer free again.
    pub(crate) fn read<T>(
        &mut self,
        arrival: Arrival,
        read: impl FnOnce(Option<RecvMessage<'_>>) -> T,
    ) -> T {
        match (self, arrival.held) {
            (Self::Multishot(multishot), Held::Buffer(filled)) => {
                let result = read(parse(multishot.buffers.bytes(&filled)));
                multishot.buffers.give_back(filled);
                result
            }
            (Self::SingleShot(single), Held::Entry { place, len }) => {
                let result = read(Some(single.message(place, len)));
                single.idle.push(place);
                result
            }
            _ => read(None),
        }
    }

    /// Keeps the memory for good, because the kernel may still write to it.
    pub(crate) fn leak(&mut self) {
        match self {
            Self::Multishot(multishot) => multishot.buffers.leak(),
            Self::SingleShot(single) => {
                std::mem::forget(std::mem::take(&mut single.messages));
                std::mem::forget(std::mem::take(&mut single.payloads));
            }
        }
    }
}

/// One armed entry for each socket.
pub(crate) struct Multishot {
    buffers: BufferRing,
    /// Says how much room address and control messages get; the kernel keeps nothing in it.
    shape: Box<[Message]>,
    armed: [bool; SOCKETS_MAX],
    sockets: usize,
}

impl Multishot {
    /// Arms every socket, which shows whether the kernel knows how: `None` if not.
    ///
    /// # Errors
    /// When the ring fails.
    pub(crate) fn new(ring: &mut Ring, sockets: usize) -> io::Result<Option<Self>> {
        let Ok(buffers) = BufferRing::new(ring) else { return Ok(None) };
        let shape = Message::boxed(1);
        let mut multishot = Self { buffers, shape, armed: [false; SOCKETS_MAX], sockets };
        multishot.arm(ring)?;
        ring.submit()?;
        Ok(Some(multishot))
    }

    fn arm(&mut self, ring: &mut Ring) -> io::Result<()> {
        for index in 0..self.sockets {
            if self.armed[index] {
                continue;
            }
            let shape = self.shape[0].point_to_receive((std::ptr::null_mut(), 0));
            let entry = RecvMsgMulti::new(Fixed(index as u32), shape, GROUP)
                .build()
                .user_data(RECEIVE | index as u64);
            // SAFETY: `shape` is boxed and lives as long as the ring has the entry, and the buffers
            // are the kernel's until it gives them away.
            unsafe { ring.push(&entry)? };
            self.armed[index] = true;
        }
        Ok(())
    }

    fn take(&mut self, completion: &Completion) -> Option<Arrival> {
        let socket = (completion.user_data & !RECEIVE) as usize % SOCKETS_MAX;
        if !more(completion.flags) {
            self.armed[socket] = false;
        }
        let filled = BufferRing::filled(completion)?;
        Some(Arrival { socket, held: Held::Buffer(filled) })
    }
}

/// The parts of a multishot message: header, room for the address, room for the control messages,
/// payload. `None` if it is shorter than that.
fn parse(bytes: &mut [u8]) -> Option<RecvMessage<'_>> {
    let (header, rest) = bytes.split_at_mut_checked(OUT_HEADER)?;
    let (name, rest) = rest.split_at_mut_checked(NAME_LEN)?;
    let (control, payload) = rest.split_at_mut_checked(CONTROL_LEN)?;
    let word = |at: usize| Some(u32::from_ne_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let control_len = (word(4)? as usize).min(CONTROL_LEN);
    let flags = word(12)? as i32;
    Some(RecvMessage { payload, name, control: &control[..control_len], flags })
}

/// Several entries for each socket, each with its own buffer.
pub(crate) struct SingleShot {
    messages: Box<[Message]>,
    payloads: Box<[u8]>,
    /// Entries that are not armed.
    idle: Vec<usize>,
}

impl SingleShot {
    pub(crate) fn new(sockets: usize) -> Self {
        let count = sockets * SINGLE_SHOTS;
        Self {
            messages: Message::boxed(count),
            payloads: vec![0; count * MESSAGE_LEN].into_boxed_slice(),
            idle: (0..count).rev().collect(),
        }
    }

    fn arm(&mut self, ring: &mut Ring) -> io::Result<()> {
        while let Some(place) = self.idle.pop() {
            let payload = &mut self.payloads[place * MESSAGE_LEN..][..MESSAGE_LEN];
            let payload = (payload.as_mut_ptr(), payload.len());
            let header = self.messages[place].point_to_receive(payload);
            let entry = RecvMsg::new(Fixed((place / SINGLE_SHOTS) as u32), header)
                .build()
                .user_data(RECEIVE | place as u64);
            // SAFETY: header and payload are in boxed slices that live as long as the ring has the
            // entry; the place is touched again only after its completion, when it is idle.
            unsafe { ring.push(&entry)? };
        }
        Ok(())
    }

    fn take(&mut self, completion: &Completion) -> Option<Arrival> {
        let place = (completion.user_data & !RECEIVE) as usize % self.messages.len();
        let Ok(len) = usize::try_from(completion.result) else {
            self.idle.push(place);
            return None;
        };
        Some(Arrival { socket: place / SINGLE_SHOTS, held: Held::Entry { place, len } })
    }

    fn message(&mut self, place: usize, len: usize) -> RecvMessage<'_> {
        let message = &self.messages[place];
        let (control, flags) = message.received();
        RecvMessage {
            payload: &mut self.payloads[place * MESSAGE_LEN..][..len.min(MESSAGE_LEN)],
            name: &message.name.0,
            control: &message.control.0[..control],
            flags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_has_its_parts_at_fixed_places() {
        let mut bytes = vec![0; OUT_HEADER + NAME_LEN + CONTROL_LEN];
        bytes[4..8].copy_from_slice(&24u32.to_ne_bytes());
        bytes[12..16].copy_from_slice(&(libc::MSG_TRUNC as u32).to_ne_bytes());
        bytes.extend_from_slice(b"payload");
        let message = parse(&mut bytes).unwrap();
        assert_eq!(message.payload, b"payload");
        assert_eq!((message.control.len(), message.flags), (24, libc::MSG_TRUNC));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let room = bytes.len().checked_sub(OUT_HEADER + NAME_LEN + CONTROL_LEN);
            prop_assert_eq!(parse(&mut bytes).map(|message| message.payload.len()), room);
        }
    }
}
