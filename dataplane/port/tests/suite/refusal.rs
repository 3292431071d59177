//! What the kernel refuses, a port does without, or says why it cannot.
#![allow(unsafe_code, reason = "a socket option and a filter that only these tests need")]

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use stoq_port::probe::select;
use stoq_port::{PortError, PortKind, PortOptions, Socket, TxMeta, UringReason};
use stoq_telemetry::{DropReason, Drops};

use crate::modes;
use crate::rig::{PATIENCE, Rig, dial, hear, open_socket, plain};

/// Sends without checksums, which is why the kernel refuses every train on it (EINVAL).
fn without_checksums() -> (OwnedFd, std::net::SocketAddr) {
    let (fd, local) = open_socket("0.0.0.0:0");
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
    (fd, local)
}

fn expect_in_order(end: &UdpSocket, name: &str, count: usize, len: usize) {
    let mut bytes = [0; 2048];
    for number in 0..count {
        assert_eq!(hear(end, &mut bytes).0, len, "{name}");
        assert_eq!(usize::from(bytes[0]), number, "{name}");
    }
}

#[test]
fn a_refused_train_is_sent_again_datagram_by_datagram() {
    for (name, kind, options) in modes() {
        let (fd, local) = without_checksums();
        let drops = Arc::new(Drops::default());
        let sockets = vec![(Socket::Dial, fd)];
        let port = stoq_port::open(kind, sockets, &options, Arc::clone(&drops)).unwrap();
        let mut tx = Rig { port, drops, locals: vec![local] };
        let end = plain("127.0.0.1:0");
        let meta = dial(end.local_addr().unwrap());
        for round in 0..3 {
            for number in 0..40 {
                tx.queue(&[number; 1350], &meta);
            }
            tx.port.flush().unwrap();
            expect_in_order(&end, &format!("{name}, round {round}"), 40, 1350);
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while tx.port.mode().gso {
            assert!(std::time::Instant::now() < deadline, "{name} still sends trains");
            tx.port.flush().unwrap();
        }
        assert_eq!(tx.dropped(DropReason::PortSend), 0, "{name}");
    }
}

/// Makes `call` fail with `errno` on this thread from now on.
fn forbid(call: i64, errno: i32) {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: both calls only read their arguments; `program` and its filter outlive them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

/// Runs `test` on a thread on which `io_uring_setup` fails with `errno`.
fn without_uring(errno: i32, test: fn()) {
    let thread = std::thread::spawn(move || {
        forbid(libc::SYS_io_uring_setup, errno);
        test();
    });
    thread.join().unwrap();
}

fn open_uring() -> Result<(), PortError> {
    let sockets = vec![(Socket::Dial, open_socket("[::]:0").0)];
    stoq_port::open(PortKind::Uring, sockets, &PortOptions::default(), Default::default()).map(drop)
}

#[test]
fn a_filter_that_forbids_io_uring_is_named_and_auto_takes_mio() {
    without_uring(libc::EPERM, || {
        let error = open_uring().unwrap_err();
        assert!(matches!(error, PortError::Uring(UringReason::Forbidden)), "{error}");
        let selection = select(None, &PortOptions::default()).unwrap();
        assert_eq!(selection.selected, PortKind::Mio);
        let reasons = &selection.passed_over;
        let uring = reasons.iter().find(|(kind, _)| *kind == PortKind::Uring).unwrap();
        assert!(uring.1.contains("seccomp"), "{}", uring.1);
        assert!(select(Some(PortKind::Uring), &PortOptions::default()).is_err());
    });
}

#[test]
fn a_kernel_without_io_uring_is_named() {
    without_uring(libc::ENOSYS, || {
        let error = open_uring().unwrap_err();
        assert!(matches!(error, PortError::Uring(UringReason::Missing)), "{error}");
    });
}

#[test]
fn wrong_numbers_of_sockets_are_refused() {
    for kind in [PortKind::Mio, PortKind::Uring] {
        let none = stoq_port::open(kind, Vec::new(), &PortOptions::default(), Default::default());
        assert!(matches!(none.err(), Some(PortError::SocketCount { got: 0, .. })));
        let many = (0..17).map(|n| (Socket::Listen(n), open_socket("[::1]:0").0)).collect();
        let many = stoq_port::open(kind, many, &PortOptions::default(), Default::default());
        assert!(matches!(many.err(), Some(PortError::SocketCount { got: 17, .. })));
    }
}

#[test]
fn a_core_that_does_not_exist_is_refused() {
    let options = PortOptions { sender_core: Some(1023), ..PortOptions::default() };
    for kind in [PortKind::Mio, PortKind::Uring] {
        let sockets = vec![(Socket::Dial, open_socket("[::]:0").0)];
        let error = stoq_port::open(kind, sockets, &options, Default::default()).err().unwrap();
        assert!(error.to_string().contains("core numbers"), "{error}");
    }
}

#[test]
fn a_datagram_of_no_bytes_is_not_sent() {
    for (name, kind, options) in modes() {
        let mut tx = Rig::new(kind, &options, &[]);
        let end = plain("127.0.0.1:0");
        let meta = TxMeta { from: None, ..dial(end.local_addr().unwrap()) };
        tx.queue(&[], &meta);
        tx.queue(b"some", &meta);
        tx.port.flush().unwrap();
        assert_eq!(hear(&end, &mut [0; 16]).0, 4, "{name}");
    }
}
