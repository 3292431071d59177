//! In the steady state a port allocates nothing for a packet, in any mode.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod counting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use counting::allocations;
use stoq_port::socket::{self, SocketSpec};
use stoq_port::{Port, PortKind, PortOptions, Sender, Socket, TxMeta};
use stoq_telemetry::Drops;

const PATIENCE: Duration = Duration::from_secs(60);

struct End {
    port: Box<dyn Port>,
    local: SocketAddr,
}

impl End {
    fn new(kind: PortKind, options: &PortOptions) -> Self {
        let opened = socket::open(&SocketSpec::new("[::1]:0".parse().unwrap())).unwrap();
        let sockets = vec![(Socket::Dial, opened.fd)];
        let port = stoq_port::open(kind, sockets, options, Arc::new(Drops::default())).unwrap();
        Self { port, local: opened.local }
    }

    fn send(&mut self, to: SocketAddr, count: usize, len: usize) {
        for _ in 0..count {
            while self.port.slot().is_none() {
                self.port.wait(Some(PATIENCE)).unwrap();
            }
            self.port.commit(len, &TxMeta { to, from: None, socket: Socket::Dial });
        }
        self.port.flush().unwrap();
    }

    fn take(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut taken = 0;
        while taken < count {
            assert!(Instant::now() < deadline, "{taken} of {count} datagrams came");
            self.port.wait(Some(PATIENCE)).unwrap();
            taken += self.port.receive(&mut |_, _| {}).unwrap();
        }
    }
}

/// Bursts of every kind, one way and the other.
fn exchange(near: &mut End, far: &mut End, rounds: usize) {
    for _ in 0..rounds {
        near.send(far.local, 100, 1350);
        far.take(100);
        far.send(near.local, 3, 40);
        near.take(3);
    }
}

#[test]
fn packets_cost_no_allocation() {
    for kind in [PortKind::Mio, PortKind::Uring] {
        for sender in [Sender::Inline, Sender::Thread] {
            for (gso, multishot) in [(true, true), (false, true), (true, false)] {
                let options = PortOptions { gso, multishot, sender, ..PortOptions::default() };
                let (mut near, mut far) = (End::new(kind, &options), End::new(kind, &options));
                // A watched descriptor's first poll and the like come with the first packets.
                exchange(&mut near, &mut far, 50);
                let before = allocations();
                exchange(&mut near, &mut far, 500);
                let allocations = allocations() - before;
                assert_eq!(allocations, 0, "{kind} {options:?}: 51,500 packets");
            }
        }
    }
}
