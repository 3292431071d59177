//! The system calls of the broker: fork, and descriptors over a socket. Owns the `unsafe` of stoqd;
//! called by the broker's two ends.
#![allow(unsafe_code, reason = "fork, and descriptors that arrive as numbers")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::unistd::{ForkResult, Pid, fork};

/// Largest message in bytes: a path and an error around it, with room.
pub(super) const MESSAGE_MAX: usize = 16 << 10;

/// Most descriptors of one message: a queue for each of the most workers, and what a hand-over has beside.
const FDS_MAX: usize = stoq_tunnel::device::QUEUES_MAX + 4;

/// The variable that names the channel to the elder, in a process that takes over.
pub(super) const ELDER: &str = "STOQD_ELDER_FD";

/// How long stoqd waits for an answer, in milliseconds. A device or route takes some; the broker waits
/// for requests by itself.
const TIMEOUT_MS: u16 = 10_000;

/// One end of the socket between stoqd and its broker.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Channel {
    /// A channel, and the end of another process.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(ours), theirs))
    }

    /// The channel to the elder, if this process is to take over from one. To be called once.
    pub(crate) fn to_elder() -> io::Result<Option<Self>> {
        let Some(number) = std::env::var_os(ELDER) else { return Ok(None) };
        let number = number.to_str().and_then(|text| text.parse().ok());
        let number: RawFd =
            number.ok_or_else(|| io::Error::other(format!("{ELDER} is no number")))?;
        // Fails unless it is open.
        // SAFETY: only looked at.
        let open = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(open, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // SAFETY: the elder opened it for this process, nothing else here knows of it, and this is the only
        // call.
        Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(number) })))
    }

    /// Waits for a message, or for the end of the other end, for so long. Whether there is one.
    pub(crate) fn wait(&self, for_ms: u16) -> io::Result<bool> {
        match wait_readable(&self.0, for_ms) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends one message with descriptors; the receiver gets copies of them.
    pub(crate) fn send(&self, message: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(message)], control, flags, None)?;
        Ok(())
    }

    /// Receives one message with its descriptors.
    pub(crate) fn receive(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut bytes = vec![0; MESSAGE_MAX];
        let mut control = cmsg_space!([RawFd; FDS_MAX]);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let fd = self.0.as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        // An io_uring that was closed on this thread may still interrupt it: wait first, for a call
        // that was interrupted may be made again only while it has taken nothing.
        wait_readable(&self.0, TIMEOUT_MS)?;
        let received = recvmsg::<()>(fd, &mut iov, Some(&mut control), flags)?;
        let mut fds = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for this message, so nothing
                // else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let cut = received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        let length = received.bytes;
        if cut {
            return Err(io::Error::other("a message was larger than it may be"));
        }
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other end is closed"));
        }
        bytes.truncate(length);
        Ok((bytes, fds))
    }
}

/// Waits until a message is there, or the other end is gone.
fn wait_readable(fd: &OwnedFd, for_ms: u16) -> io::Result<()> {
    let timeout = PollTimeout::from(for_ms);
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the descriptors that the service manager has opened for this process, by name. To be called once.
pub(crate) fn listen_fds(named: Vec<(RawFd, String)>) -> Vec<(String, OwnedFd)> {
    // SAFETY: by `sd_listen_fds(3)` they are open and this process's, and nothing else here takes them.
    named.into_iter().map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).collect()
}

/// Forks a process that runs `child` with its end of a new channel and then exits; returns the
/// other end and the process.
///
/// To be called while there is one thread: only the calling one lives on in the child.
pub(crate) fn fork_with(child: impl FnOnce(Channel)) -> io::Result<(Channel, Pid)> {
    let (ours, theirs) = Channel::pair()?;
    // SAFETY: with one thread, no lock is held by a thread that the child lacks, so the child may
    // allocate and go on as any process.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ours);
            // A panic must not unwind into the parent's frames, which this process has copies of.
            let result = catch_unwind(AssertUnwindSafe(|| child(Channel(theirs))));
            std::process::exit(i32::from(result.is_err()));
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            Ok((ours, child))
        }
    }
}
