//! `uring` really is one: under strace none of its threads receives or sends by a call of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::Command;

/// Set in the traced process, which then carries packets instead of tracing.
const TRACED: &str = "STOQ_PORT_TRACED";

mod carry {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use stoq_port::socket::{self, SocketSpec};
    use stoq_port::{PortKind, PortOptions, Sender, Socket, TxMeta};
    use stoq_telemetry::Drops;

    const PATIENCE: Duration = Duration::from_secs(30);
    const BURST: usize = 60;

    /// Sends bursts to itself, long enough for the sender thread and short enough for the worker.
    pub fn packets(kind: PortKind, sender: Sender) {
        let opened = socket::open(&SocketSpec::new("[::1]:0".parse().unwrap())).unwrap();
        let meta = TxMeta { to: opened.local, from: None, socket: Socket::Dial };
        let sockets = vec![(Socket::Dial, opened.fd)];
        let options = PortOptions { sender, ..PortOptions::default() };
        let mut port =
            stoq_port::open(kind, sockets, &options, Arc::new(Drops::default())).unwrap();
        for count in [BURST, 1, BURST] {
            for _ in 0..count {
                assert!(port.slot().is_some());
                port.commit(1350, &meta);
            }
            port.flush().unwrap();
            let deadline = Instant::now() + PATIENCE;
            let mut taken = 0;
            while taken < count {
                assert!(Instant::now() < deadline, "{taken} of {count} datagrams came");
                port.wait(Some(PATIENCE)).unwrap();
                taken += port.receive(&mut |_, _| {}).unwrap();
            }
        }
    }
}

/// Names of the calls that a port of `kind` makes, sender thread included.
fn calls(kind: &str, sender: &str) -> Option<String> {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=network,io_uring_enter,recvmmsg,sendmmsg"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_traced_process", "--nocapture"])
        .env(TRACED, format!("{kind} {sender}"))
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: strace is not installed (apt install strace)");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.contains("PTRACE_TRACEME") {
        eprintln!("skipped: tracing is not permitted here");
        return None;
    }
    assert!(output.status.success(), "{text}");
    Some(text)
}

/// The other half of the tests below; does nothing on its own.
#[test]
fn the_traced_process() {
    let Ok(what) = std::env::var(TRACED) else { return };
    let kind =
        if what.starts_with("mio") { stoq_port::PortKind::Mio } else { stoq_port::PortKind::Uring };
    let thread = what.ends_with("thread");
    carry::packets(
        kind,
        if thread { stoq_port::Sender::Thread } else { stoq_port::Sender::Inline },
    );
}

#[test]
fn uring_receives_and_sends_by_its_rings_alone() {
    for sender in ["inline", "thread"] {
        let Some(calls) = calls("uring", sender) else { return };
        assert!(calls.contains("io_uring_enter("), "{calls}");
        for forbidden in ["recvmsg(", "recvmmsg(", "recvfrom(", "sendmsg(", "sendmmsg(", "sendto("]
        {
            assert!(!calls.contains(forbidden), "{sender}: {forbidden} in\n{calls}");
        }
    }
}

#[test]
fn the_trace_would_show_such_a_call() {
    let Some(calls) = calls("mio", "thread") else { return };
    assert!(calls.contains("sendmmsg(") && calls.contains("recvmmsg("), "{calls}");
}
