//! Steers packets to the worker that owns their connection.
//!
//! The sockets of all workers share one address (SO_REUSEPORT); the program that is attached here
//! picks among them by the worker's number in the destination connection ID, so that a packet
//! reaches its connection whatever its 4-tuple, also after the peer has moved. A client's first
//! packet has an ID of the client's choice, which spreads new connections over the workers.
//! Called by the daemon once all workers' sockets are bound.

use std::num::NonZeroU8;
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt};

use crate::PortError;

/// Where the connection ID begins in a packet with a short header (RFC 9000 §17.3.1).
const SHORT_DCID: u32 = 1;

/// Where it begins in one with a long header: flags, version, length (RFC 8999 §5.1).
const LONG_DCID: u32 = 6;

/// The worker's number inside a connection ID, behind the format and key number.
const WORKER_BYTE: u32 = 1;

/// Steers the packets of a reuseport group: a packet goes to socket `byte % workers`, where `byte`
/// is the second of its destination connection ID, and sockets are numbered in the order in which
/// they were bound. `socket` is any one of them. One too short to have that byte goes to the first.
///
/// # Errors
/// When the kernel refuses the program.
pub fn attach(socket: &OwnedFd, workers: NonZeroU8) -> Result<(), PortError> {
    let mut program = program(u32::from(workers.get()));
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    setsockopt(socket, sockopt::AttachReusePortCbpf, &fprog)
        .map_err(|source| PortError::Steer { source: source.into() })
}

/// The program, in classic BPF; it sees the packet from the UDP payload on. A load behind the end
/// of the packet ends it with 0.
fn program(workers: u32) -> [libc::sock_filter; 7] {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at| op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, at);
    [
        load(0),
        // The first bit says long or short header (RFC 8999 §5.1).
        op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 2, 0x80),
        load(LONG_DCID + WORKER_BYTE),
        op(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        load(SHORT_DCID + WORKER_BYTE),
        op(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, workers),
        op(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
    ]
}
