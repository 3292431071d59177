//! Two ends of bare quiche, which carry datagrams as large as those of the edges: what our own code
//! is compared with. Shared by the benchmark of the path and the test of its allocations.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests and benchmarks")]

use std::time::SystemTime;

use quiche::{Connection, ConnectionId, RecvInfo};

const A: &str = "[::1]:1";
const B: &str = "[::1]:2";
/// An inner packet of 1400 bytes and its context.
const DATAGRAM: usize = 1_401;
const PACKET: usize = 1_452;
/// Datagrams of a burst: a train.
pub const BURST: usize = 44;

/// What a burst cost, by the meter of whoever asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    pub seal: u64,
    pub open: u64,
    pub acknowledge: u64,
}

/// Two connected ends.
pub fn pair() -> (Connection, Connection) {
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
    config.set_max_send_udp_payload_size(PACKET);
    config.set_max_recv_udp_payload_size(PACKET);
    config.enable_pacing(false);
    config.set_initial_congestion_window_packets(1000);
    let (a, b) = (A.parse().unwrap(), B.parse().unwrap());
    let scids = [ConnectionId::from_ref(&[1; 12]), ConnectionId::from_ref(&[2; 12])];
    let mut client = quiche::connect(None, &scids[0], a, b, &mut config).unwrap();
    let mut server = quiche::accept(&scids[1], None, b, a, &mut config).unwrap();
    for _ in 0..10 {
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }
    assert!(client.is_established() && server.is_established());
    (client, server)
}

/// Passes on all that `from` has to send.
fn pass(from: &mut Connection, to: &mut Connection) {
    let mut packet = [0; PACKET];
    while let Ok((len, info)) = from.send(&mut packet) {
        to.recv(&mut packet[..len], RecvInfo { from: info.from, to: info.to }).unwrap();
    }
}

/// Carries [`BURST`] datagrams and adds to `costs` how far `meter` went in each stage.
pub fn carry(a: &mut Connection, b: &mut Connection, meter: impl Fn() -> u64, costs: &mut Costs) {
    let datagrams: Vec<Vec<u8>> = vec![vec![7; DATAGRAM]; BURST];
    let mut wire = vec![0; BURST * PACKET];
    let mut sent = Vec::with_capacity(BURST);
    let begin = meter();
    for (datagram, packet) in datagrams.into_iter().zip(wire.chunks_mut(PACKET)) {
        a.dgram_send_buf(datagram).unwrap();
        sent.push(a.send(packet).unwrap());
    }
    let sealed = meter();
    for ((len, info), packet) in sent.iter().zip(wire.chunks_mut(PACKET)) {
        b.recv(&mut packet[..*len], RecvInfo { from: info.from, to: info.to }).unwrap();
        drop(b.dgram_recv_buf().unwrap());
    }
    let opened = meter();
    pass(b, a);
    costs.seal += sealed - begin;
    costs.open += opened - sealed;
    costs.acknowledge += meter() - opened;
}
