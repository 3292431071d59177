//! A port under test on loopback, and how to send through it and receive from it.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoq_port::socket::SocketSpec;
use stoq_port::{Port, PortKind, PortOptions, RxMeta, Socket, TxMeta};
use stoq_telemetry::{DropReason, Drops};

/// Longest that a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub port: Box<dyn Port>,
    pub drops: Arc<Drops>,
    /// The local addresses, in the order of the sockets.
    pub locals: Vec<SocketAddr>,
}

pub fn open_socket(bind: &str) -> (OwnedFd, SocketAddr) {
    let opened = stoq_port::socket::open(&SocketSpec::new(bind.parse().unwrap())).unwrap();
    (opened.fd, opened.local)
}

impl Rig {
    /// A port with one listening socket for each address, and one to dial from.
    pub fn new(kind: PortKind, options: &PortOptions, listen: &[&str]) -> Self {
        let mut sockets = Vec::new();
        let mut locals = Vec::new();
        for (place, bind) in listen.iter().enumerate() {
            let (fd, local) = open_socket(bind);
            sockets.push((Socket::Listen(place as u8), fd));
            locals.push(local);
        }
        let (fd, local) = open_socket("[::]:0");
        sockets.push((Socket::Dial, fd));
        locals.push(local);
        let drops = Arc::new(Drops::default());
        let port = stoq_port::open(kind, sockets, options, Arc::clone(&drops)).unwrap();
        Self { port, drops, locals }
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason)
    }

    /// Commits one datagram, waiting for room if there is none.
    pub fn queue(&mut self, datagram: &[u8], meta: &TxMeta) {
        let deadline = Instant::now() + PATIENCE;
        while self.port.slot().is_none() {
            assert!(Instant::now() < deadline, "no transmit room came back");
            self.port.wait(Some(PATIENCE)).unwrap();
        }
        self.port.slot().unwrap()[..datagram.len()].copy_from_slice(datagram);
        self.port.commit(datagram.len(), meta);
    }

    /// Receives until `count` datagrams have come.
    pub fn take(&mut self, count: usize) -> Vec<(Vec<u8>, RxMeta)> {
        let deadline = Instant::now() + PATIENCE;
        let mut taken = Vec::new();
        loop {
            self.port
                .receive(&mut |datagram, meta| taken.push((datagram.to_vec(), *meta)))
                .unwrap();
            if taken.len() >= count {
                return taken;
            }
            assert!(Instant::now() < deadline, "{} of {count} datagrams came", taken.len());
            self.port.wait(Some(Duration::from_millis(500))).unwrap();
        }
    }

    /// Waits until the port has counted a reason `count` times.
    pub fn expect_dropped(&mut self, reason: DropReason, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.dropped(reason) < count {
            assert!(Instant::now() < deadline, "{} of {count} {reason:?}", self.dropped(reason));
            self.port.flush().unwrap();
            self.port.wait(Some(Duration::from_millis(1))).unwrap();
        }
        assert_eq!(self.dropped(reason), count);
    }
}

/// A plain socket on loopback, the other end of a test.
pub fn plain(bind: &str) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// From the dialling socket to `to`, by the kernel's choice of address.
pub fn dial(to: SocketAddr) -> TxMeta {
    TxMeta { to, from: None, socket: Socket::Dial }
}

/// The address of loopback, of the family asked for, with the port of `of`.
pub fn loopback(of: SocketAddr, v6: bool) -> SocketAddr {
    let ip = if v6 { "::1" } else { "127.0.0.1" };
    SocketAddr::new(ip.parse().unwrap(), of.port())
}

/// Receives one datagram on a plain socket; returns its length and sender. A ring that was closed
/// before on this thread may still interrupt it once.
pub fn hear(socket: &UdpSocket, bytes: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result.expect("a datagram in time"),
        }
    }
}
