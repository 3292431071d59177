//! Steers packets to the worker that owns their connection.
//!
//! The sockets of all workers share one address (SO_REUSEPORT); the program that is attached here
//! picks among them by the worker's number in the destination connection ID, so that a packet
//! reaches its connection whatever its 4-tuple, also after the peer has moved. A client's first
//! packet has an ID of the client's choice, which spreads new connections over the workers.
//! Called by the daemon once all workers' sockets are bound.
//!
//! While a process hands over to its successor both have sockets in the group, the elder's first. Then
//! [`attach_between`] picks by the generation in the ID as well: what the elder issued stays its own, and
//! everything else, first packets above all, is the successor's.

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
    load(socket, &mut program(u32::from(workers.get())))
}

/// The sockets of two processes in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// The generation in the connection IDs of the elder, whose sockets were bound first.
    pub elder: u16,
    /// Its workers.
    pub workers: NonZeroU8,
    /// Workers of the successor.
    pub heirs: NonZeroU8,
}

/// Steers the packets of a group that two processes share. The sockets of the successor need not be bound
/// yet: until they are, the kernel spreads its packets over the elder's.
///
/// # Errors
/// When the kernel refuses the program.
pub fn attach_between(socket: &OwnedFd, between: Between) -> Result<(), PortError> {
    load(socket, &mut between_program(between))
}

fn load(socket: &OwnedFd, program: &mut [libc::sock_filter]) -> Result<(), PortError> {
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    setsockopt(socket, sockopt::AttachReusePortCbpf, &fprog)
        .map_err(|source| PortError::Steer { source: source.into() })
}

/// The high four bits of the first byte of an ID that a node has issued, and their value.
const FORMAT_MASK: u32 = 0xf0;
const FORMAT_ISSUED: u32 = 0x10;

/// The generation inside a connection ID, two bytes in network order.
const GENERATION_BYTES: u32 = 2;

/// As [`program`], for two processes. X is where the ID begins.
fn between_program(between: Between) -> [libc::sock_filter; 17] {
    let Between { elder, workers, heirs } = between;
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let start = |at| op(libc::BPF_LDX | libc::BPF_IMM, 0, 0, at);
    let byte = |at| op(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0, at);
    let modulo =
        |by: NonZeroU8| op(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, by.get().into());
    let equal = |jt, jf, k| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k);
    let answer = || op(libc::BPF_RET | libc::BPF_A, 0, 0, 0);
    [
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 2, 0x80),
        start(LONG_DCID),
        op(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        start(SHORT_DCID),
        byte(0),
        op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, FORMAT_MASK),
        equal(0, 5, FORMAT_ISSUED),
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, GENERATION_BYTES),
        equal(0, 3, elder.into()),
        byte(WORKER_BYTE),
        modulo(workers),
        answer(),
        byte(WORKER_BYTE),
        modulo(heirs),
        op(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 0, 0, workers.get().into()),
        answer(),
    ]
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

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use super::*;
    use crate::socket::{self, SocketSpec};

    const ELDER: u16 = 0x0102;

    fn bind(at: SocketAddr) -> UdpSocket {
        let spec = SocketSpec { reuse_port: true, ..SocketSpec::new(at) };
        let socket = UdpSocket::from(socket::open(&spec).unwrap().fd);
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// A packet whose destination ID has this first byte, worker and generation.
    fn packet(long: bool, form: u8, worker: u8, generation: u16) -> Vec<u8> {
        let [high, low] = generation.to_be_bytes();
        let header: &[u8] = if long { &[0xc0, 0, 0, 0, 1, 12] } else { &[0x40] };
        [header, &[form, worker, high, low, 1, 2, 3, 4, 5, 6, 7, 8]].concat()
    }

    /// Which of the sockets got the packet that was sent last.
    fn taker(sockets: &[UdpSocket]) -> usize {
        let mut buffer = [0; 64];
        loop {
            let got = |socket: &UdpSocket| socket.recv(&mut [0; 64]).is_ok();
            if let Some(at) = sockets.iter().position(got) {
                assert!(sockets.iter().all(|socket| socket.recv(&mut buffer).is_err()));
                return at;
            }
        }
    }

    #[test]
    fn what_the_elder_issued_stays_its_own_and_the_rest_is_the_heirs() {
        let first = bind("127.0.0.1:0".parse().unwrap());
        let at = first.local_addr().unwrap();
        let mut sockets = vec![first, bind(at)];
        let two = NonZeroU8::new(2).unwrap();
        let between = Between { elder: ELDER, workers: two, heirs: NonZeroU8::new(3).unwrap() };
        let group = OwnedFd::from(sockets[0].try_clone().unwrap());
        attach_between(&group, between).unwrap();
        sockets.extend((0..3).map(|_| bind(at)));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (long, form, worker, generation, expected) in [
            (false, 0x10, 0, ELDER, 0),
            (false, 0x1f, 5, ELDER, 1),
            (true, 0x10, 1, ELDER, 1),
            (false, 0x10, 0, ELDER + 1, 2),
            (true, 0x10, 4, ELDER - 1, 3),
            (true, 0x00, 2, 0, 4),
            // Made up by a dialler: nobody's, whatever it looks like.
            (true, 0x00, 1, ELDER, 3),
        ] {
            sender.send_to(&packet(long, form, worker, generation), at).unwrap();
            assert_eq!(taker(&sockets), expected, "{long} {form:#x} {worker} {generation:#x}");
        }
        // Without its heirs the elder gets everything again.
        sockets.truncate(2);
        sender.send_to(&packet(true, 0, 2, 0), at).unwrap();
        assert!(taker(&sockets) < 2);
    }
}
