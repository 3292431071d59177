//! A client that speaks QUIC and TLS as it likes, from the network of edge A and with A's key, to B's
//! daemon, while a site's traffic passes: another protocol is refused and counted, and a saved session
//! saves nothing.

use crate::{Fixture, SOON};
use quiche::{Config, Connection, ConnectionId};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use stoq_perf::bed::{Family, Side};
use stoq_perf::measure::flow::Flow;
use stoq_perf::node::{MESH, Mesh, Node};
use stoq_perf::wait;

crate::on_each_port!(another_protocol_is_refused, a_saved_session_is_not_resumed);

/// The protocol of the daemon.
const ALPN: &[u8] = b"stoq/1";

/// TLS's alert `no_application_protocol` as a QUIC error (RFC 9001 §4.8, RFC 7301 §3.2).
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// An acceptor ends a connection without HELLO after 5 s.
const WITHOUT_HELLO: Duration = Duration::from_secs(8);

/// Records that show that a flow goes on.
const GOES_ON: u64 = 500;

/// A connection ID that a dialler makes up: the high bits of byte 0 are zero, byte 1 is the slot.
const MADE_UP: [u8; 12] = [1, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn another_protocol_is_refused(fixture: &Fixture) {
    beside_traffic(fixture, |b| {
        let before = b.drops("handshake_failed").unwrap();
        let identity = fixture.deployment.mesh.identity(Side::A);
        let mut client = Client::new(fixture, &mut config(&identity, b"h3"), None);
        client.run_until("a refusal", SOON, |conn| conn.peer_error().is_some());
        let error = client.conn.peer_error().unwrap();
        assert_eq!((error.is_app, error.error_code), (false, NO_APPLICATION_PROTOCOL), "{error:?}");
        is_counted(b, "handshake_failed", before);
    });
}

fn a_saved_session_is_not_resumed(fixture: &Fixture) {
    beside_traffic(fixture, |b| {
        let identity = fixture.deployment.mesh.identity(Side::A);
        let session = session_of_another_server(&identity);
        let mut client = Client::new(fixture, &mut config(&identity, ALPN), Some(&session));
        // The session is offered, and early data with it.
        client.run_until("early data", SOON, Connection::is_in_early_data);
        client.run_until("a handshake", SOON, Connection::is_established);
        assert!(!client.conn.is_resumed(), "the session was resumed");
        assert!(client.conn.peer_cert().is_some(), "the daemon showed no certificate");
        // Whatever the daemon has to say to a client that says no HELLO, a ticket is not in it.
        client.run_until("the end", WITHOUT_HELLO, |conn| conn.peer_error().is_some());
        let saved = client.conn.session().filter(|saved| *saved != session.as_slice());
        assert!(saved.is_none(), "the daemon issued a ticket");

        let before = b.drops("certificate_refused").unwrap();
        let foreign = Mesh::create(
            &fixture.bed.folder().join("foreign"),
            MESH,
            fixture.deployment.binaries(),
        );
        let foreign = foreign.unwrap().identity(Side::A);
        let mut client = Client::new(fixture, &mut config(&foreign, ALPN), Some(&session));
        client.run_until("a refusal", SOON, |conn| conn.peer_error().is_some());
        is_counted(b, "certificate_refused", before);
    });
}

/// Runs `body` with B while a flow passes, which must go on.
fn beside_traffic(fixture: &Fixture, body: impl FnOnce(&Node)) {
    let (_a, b) = fixture.start();
    fixture.wait_for_sites(SOON);
    let address = Side::B.host(Family::V6);
    let flow = Flow::start(fixture.host(Side::A), fixture.host(Side::B), address).unwrap();
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    body(&b);
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    flow.finish().unwrap();
}

fn is_counted(node: &Node, reason: &str, before: u64) {
    wait::until("a counted refusal", SOON, || {
        let now = node.drops(reason).map_err(|error| error.to_string())?;
        if now > before { Ok(()) } else { Err(format!("{reason} is {now}")) }
    })
    .unwrap();
}

/// A node's certificate and key, without the caution of a daemon.
fn config(identity: &Path, alpn: &[u8]) -> Config {
    let file = |name: &str| identity.join(name).to_string_lossy().into_owned();
    let mut config = Config::new(quiche::PROTOCOL_VERSION).unwrap();
    config.load_cert_chain_from_pem_file(&file("node.crt")).unwrap();
    config.load_priv_key_from_pem_file(&file("node.key")).unwrap();
    config.verify_peer(false);
    config.set_application_protos(&[alpn]).unwrap();
    config.enable_early_data();
    config.set_max_idle_timeout(30_000);
    config.set_initial_max_data(1 << 20);
    config.set_initial_max_stream_data_bidi_local(1 << 16);
    config.set_initial_max_stream_data_bidi_remote(1 << 16);
    config.set_initial_max_streams_bidi(1);
    config.enable_dgram(true, 16, 16);
    config
}

/// A session that a server gave which does issue tickets: a client that looks for one finds it.
fn session_of_another_server(identity: &Path) -> Vec<u8> {
    let [here, there] = ["[::1]:1", "[::1]:2"].map(|text| text.parse::<SocketAddr>().unwrap());
    let (mut ours, mut theirs) = (config(identity, ALPN), config(identity, ALPN));
    let id = ConnectionId::from_ref(&MADE_UP);
    let mut client = quiche::connect(None, &id, here, there, &mut ours).unwrap();
    let mut server = quiche::accept(&id, None, there, here, &mut theirs).unwrap();
    for _ in 0..20 {
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }
    client.session().expect("a server with tickets issues one").to_vec()
}

fn pass(from: &mut Connection, to: &mut Connection) {
    let mut packet = [0; 1500];
    while let Ok((len, info)) = from.send(&mut packet) {
        to.recv(&mut packet[..len], quiche::RecvInfo { from: info.from, to: info.to }).unwrap();
    }
}

/// A connection to B's daemon.
struct Client {
    conn: Connection,
    socket: UdpSocket,
    local: SocketAddr,
}

impl Client {
    fn new(fixture: &Fixture, config: &mut Config, session: Option<&[u8]>) -> Self {
        let target = Side::B.endpoint(Family::V6);
        let socket = fixture.bed.a.namespace.enter(|| {
            let socket = UdpSocket::bind("[::]:0")?;
            socket.connect(target)?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = socket.unwrap().unwrap();
        let local = socket.local_addr().unwrap();
        let id = ConnectionId::from_ref(&MADE_UP);
        let conn = quiche::connect_with_dcid(None, &id, &id, local, target, config);
        let mut conn = conn.unwrap();
        if let Some(session) = session {
            conn.set_session(session).unwrap();
        }
        Self { conn, socket, local }
    }

    /// Exchanges packets until `done`.
    fn run_until(&mut self, what: &str, within: Duration, done: impl Fn(&Connection) -> bool) {
        let (start, mut packet) = (Instant::now(), [0; 2048]);
        loop {
            while let Ok((len, _)) = self.conn.send(&mut packet) {
                self.socket.send(&packet[..len]).unwrap();
            }
            if done(&self.conn) {
                return;
            }
            assert!(start.elapsed() < within && !self.conn.is_closed(), "no {what}");
            let timer = self.conn.timeout().unwrap_or(within);
            let timer = timer.clamp(Duration::from_millis(1), Duration::from_millis(100));
            self.socket.set_read_timeout(Some(timer)).unwrap();
            match self.socket.recv(&mut packet) {
                Ok(len) => {
                    let from = self.socket.peer_addr().unwrap();
                    let info = quiche::RecvInfo { from, to: self.local };
                    // What ends the connection is what the caller looks for.
                    let _ = self.conn.recv(&mut packet[..len], info);
                }
                Err(_) => self.conn.on_timeout(),
            }
        }
    }
}
