//! Captures: copied packets as pcap to a caller, within limits. Called by the server, on a thread of
//! its own for each capture.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stoq_control::{CaptureRequest, ErrorCode, Refusal};

use super::pcap;
use crate::worker::Copied;

pub(super) use pcap::LINK_TYPE;

/// How often a capture without packets looks whether its caller is still there.
const LOOK: Duration = Duration::from_millis(250);

/// How long the caller may take to read what was written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the limits are within the bounds of every capture.
pub(super) fn check(limits: CaptureRequest) -> Result<(), Refusal> {
    let bounds = [
        ("packets", u64::from(limits.packets), u64::from(CaptureRequest::MAX_PACKETS)),
        ("bytes", limits.bytes, CaptureRequest::MAX_BYTES),
        ("seconds", u64::from(limits.seconds), u64::from(CaptureRequest::MAX_SECONDS)),
    ];
    for (what, got, max) in bounds {
        if got == 0 || got > max {
            let message = format!("expected 1 to {max} {what}, got {got}; capture less at once");
            return Err(Refusal::new(ErrorCode::Invalid, message));
        }
    }
    Ok(())
}

/// Writes packets until a limit is reached, the workers end it, or the caller closes.
pub(super) fn stream(
    stream: &UnixStream,
    limits: CaptureRequest,
    packets: &Receiver<Copied>,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let end = Instant::now() + Duration::from_secs(u64::from(limits.seconds));
    let mut out = stream;
    let header = pcap::file_header();
    out.write_all(&header)?;
    let mut bytes = header.len() as u64;
    let mut count = 0;
    while count < limits.packets {
        let now = Instant::now();
        if now >= end || closed(stream) {
            break;
        }
        let packet = match packets.recv_timeout(LOOK.min(end - now)) {
            Ok(packet) => packet,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let record = pcap::record(&packet);
        bytes += record.len() as u64;
        if bytes > limits.bytes {
            break;
        }
        out.write_all(&record)?;
        count += 1;
    }
    Ok(())
}

fn closed(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let hung_up = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| r.contains(PollFlags::POLLHUP));
    poll(&mut fds, PollTimeout::ZERO).is_ok() && hung_up(&fds[0])
}
