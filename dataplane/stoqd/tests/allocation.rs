//! In the steady state a packet costs no allocation but quiche's own, on its whole way through a
//! worker: what is counted here is compared with bare quiche that carries the same datagrams.
//! (quiche 0.30 makes one in each `send`, a copy of its transport parameters, and two in each `recv`:
//! such a copy, and the DATAGRAM's contents.)
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../port/tests/counting/mod.rs"]
mod counting;

#[path = "../benches/edges/mod.rs"]
mod edges;

use std::time::Instant;

use counting::allocations;
use edges::{Edge, SEGMENTS, Wire, super_packet};

/// Allocations of each stage.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    segment: u64,
    seal: u64,
    open: u64,
    coalesce: u64,
}

fn counted<T>(total: &mut u64, work: impl FnOnce() -> T) -> T {
    let before = allocations();
    let result = work();
    *total += allocations() - before;
    result
}

fn carry(a: &mut Edge, b: &mut Edge, super_packets: usize) -> Counts {
    let (header, packet) = super_packet();
    let (mut there, mut back) = (Wire::new(), Wire::new());
    let mut counts = Counts::default();
    let (mut queued, mut arrived) = (0, 0);
    while arrived < super_packets * SEGMENTS {
        let now = Instant::now();
        a.endpoint.handle_timeout(now);
        b.endpoint.handle_timeout(now);
        if queued <= arrived {
            counted(&mut counts.segment, || a.forward(header, &packet, now));
            queued += SEGMENTS;
        }
        counted(&mut counts.seal, || there.fill(a, now));
        counted(&mut counts.open, || there.empty(a.address, b, now));
        arrived += counted(&mut counts.coalesce, || b.deliver());
        back.fill(b, now);
        back.empty(b.address, a, now);
    }
    counts
}

/// Bare quiche with buffers like ours: what it allocates for each DATAGRAM, sealing and opening.
fn bare(datagrams: u64) -> (u64, u64) {
    let (mut a, mut b) = bare::pair();
    let mut counts = (0, 0);
    for round in 0..datagrams / 20 {
        if round == 100 {
            counts = (0, 0);
        }
        bare::carry(&mut a, &mut b, 20, &mut counts);
    }
    let counted = datagrams - 100 * 20;
    (counts.0 * 1000 / counted, counts.1 * 1000 / counted)
}

#[test]
fn packets_cost_no_allocation_but_those_of_quiche() {
    let (mut a, mut b) = edges::pair();
    // Pools, tables and queues grow with the first packets.
    carry(&mut a, &mut b, 200);
    let counts = carry(&mut a, &mut b, 500);
    assert_eq!((counts.segment, counts.coalesce), (0, 0), "{counts:?}");
    let packets = 500 * SEGMENTS as u64;
    let ours = (counts.seal * 1000 / packets, counts.open * 1000 / packets);
    let quiche = bare(22_000);
    // The call that ends a burst of 44 with nothing to send costs one, and here and there one of
    // quiche's tables grows.
    let few = 1000 / 44 + 8;
    assert!(
        ours.0 <= quiche.0 + few && ours.1 <= quiche.1 + few,
        "allocations in 1000 packets (sealing, opening): {ours:?}, of quiche alone {quiche:?}"
    );
}

mod bare {
    use std::sync::Arc;
    use std::time::SystemTime;

    use quiche::{ConnectionId, RecvInfo};
    use stoq_buffer::PacketBuf;

    use super::counted;

    #[derive(Clone, Copy, Debug, Default)]
    pub struct Buffers;

    impl quiche::BufFactory for Buffers {
        type Buf = Arc<[u8]>;
        type DgramBuf = PacketBuf;

        fn buf_from_slice(buf: &[u8]) -> Self::Buf {
            Arc::from(buf)
        }

        fn dgram_buf_from_slice(buf: &[u8]) -> Self::DgramBuf {
            PacketBuf::from_slice(buf)
        }
    }

    pub type Conn = quiche::Connection<Buffers>;

    const A: &str = "[::1]:1";
    const B: &str = "[::1]:2";

    pub fn pair() -> (Conn, Conn) {
        let folder = tempfile::tempdir().unwrap();
        let (root, node) = (folder.path().join("root"), folder.path().join("node"));
        stoq_pki::init(&root, "bare", SystemTime::now()).unwrap();
        stoq_pki::issue(&root, "node", &node, SystemTime::now()).unwrap();
        let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).unwrap();
        let path = |name: &str| node.join(name).to_str().unwrap().to_owned();
        config.load_cert_chain_from_pem_file(&path("node.crt")).unwrap();
        config.load_priv_key_from_pem_file(&path("node.key")).unwrap();
        config.set_application_protos(&[b"bare"]).unwrap();
        config.enable_dgram(true, 256, 256);
        config.set_max_send_udp_payload_size(1452);
        config.set_max_recv_udp_payload_size(1452);
        config.enable_pacing(false);
        config.set_initial_congestion_window_packets(1000);
        let (a, b) = (A.parse().unwrap(), B.parse().unwrap());
        let scids = [ConnectionId::from_ref(&[1; 12]), ConnectionId::from_ref(&[2; 12])];
        let mut client =
            quiche::connect_with_buffer_factory(None, &scids[0], a, b, &mut config).unwrap();
        let mut server =
            quiche::accept_with_buf_factory(&scids[1], None, b, a, &mut config).unwrap();
        for _ in 0..10 {
            pass(&mut client, &mut server, &mut (0, 0));
            pass(&mut server, &mut client, &mut (0, 0));
        }
        assert!(client.is_established() && server.is_established());
        (client, server)
    }

    /// Passes on all that `from` has to send.
    fn pass(from: &mut Conn, to: &mut Conn, counts: &mut (u64, u64)) {
        let mut packet = [0; 1500];
        loop {
            // A call that finds nothing to send allocates as well, but is no packet's.
            let mut sealing = 0;
            let Ok((len, info)) = counted(&mut sealing, || from.send(&mut packet)) else { return };
            counts.0 += sealing;
            let path = RecvInfo { from: info.from, to: info.to };
            counted(&mut counts.1, || to.recv(&mut packet[..len], path)).unwrap();
        }
    }

    pub fn carry(a: &mut Conn, b: &mut Conn, datagrams: usize, counts: &mut (u64, u64)) {
        for _ in 0..datagrams {
            a.dgram_send_buf(PacketBuf::from_slice(&[7; 1_200])).unwrap();
            pass(a, b, counts);
            drop(b.dgram_recv_buf().unwrap());
        }
        pass(b, a, &mut (0, 0));
    }
}
