//! One node of a crowd: an endpoint of `stoq` with a socket of its own, and one peer.

use super::Target;
use crate::{Error, Result};
use mio::net::UdpSocket;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use stoq::cid::CidKeys;
use stoq::control::BootId;
use stoq::settings::Settings;
use stoq::task::{Done, Task};
use stoq::tls::Credentials;
use stoq::{Endpoint, Event, Local, Path, Peer, PeerId, Via};
use stoq_identity::Identity;
use stoq_telemetry::Drops;

/// Largest UDP payload that a node sends or receives, in bytes: that of the wire's MTU.
const PAYLOAD_MAX: usize = 1500;

/// What a turn of a node led to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    pub came_up: u64,
    pub went_down: u64,
    pub refused: u64,
    pub sent: u64,
    pub received: u64,
}

/// One node.
pub(super) struct Member {
    endpoint: Endpoint,
    pub socket: UdpSocket,
    path: Path,
    pub is_up: bool,
    pub has_been_up: bool,
    /// When something was received the last time.
    pub heard: Instant,
    /// Where it is in the swarm's timers.
    pub timer: Option<Instant>,
}

impl Member {
    /// A node that has a socket, and dials nobody yet.
    pub fn new(identity: Identity, target: &Target, drops: &Arc<Drops>) -> Result<Self> {
        let any: SocketAddr = match target.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(Error::io("open the socket of a node"))?;
        socket.connect(target.address).map_err(Error::io("connect the socket of a node"))?;
        let local = socket.local_addr().map_err(Error::io("ask for a socket's address"))?;
        let now = Instant::now();
        let policy = target.policy();
        let verifier = identity.verifier();
        let credentials = Credentials {
            identity: Arc::new(identity),
            verifier,
            policy,
            leaf_only: false,
            clock: SystemTime::now,
        };
        let local_node = Local {
            node: credentials.identity.id().clone(),
            boot: BootId { started_ns: 1, random: fastrand::u128(..) },
            worker: 0,
            workers: 1,
            generation: 1,
            cid_keys: CidKeys::new(std::array::from_fn(|_| fastrand::u8(..))),
            tunnel_mtu: 1400,
            features: 0,
            drops: Arc::clone(drops),
        };
        let endpoint = Endpoint::new(local_node, Settings::default(), credentials, now);
        let endpoint = endpoint.map_err(|error| super::refused("a node")(error.to_string()))?;
        let path = Path { local, remote: target.address, via: Via::Dial };
        let (is_up, has_been_up) = (false, false);
        Ok(Self { endpoint, socket, path, is_up, has_been_up, heard: now, timer: None })
    }

    /// Begins to dial.
    pub fn dial(&mut self, target: &Target, now: Instant) {
        let (name, endpoints) = (target.node.clone(), vec![target.address]);
        self.endpoint.set_peers(&[Peer { id: PeerId(0), name, endpoints, keys: None }], now);
    }

    /// When it has something to do by itself.
    pub fn timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout()
    }

    /// Takes in all that arrived, does what is due, and sends what follows.
    ///
    /// # Errors
    /// When the socket fails; a packet that it has no room for is lost, as on the wire.
    pub fn turn(&mut self, now: Instant) -> io::Result<Turn> {
        let mut turn = Turn::default();
        self.receive(now, &mut turn)?;
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        self.transmit(now, &mut turn)?;
        while let Some(task) = self.endpoint.poll_task() {
            self.work(&task, now);
            self.transmit(now, &mut turn)?;
        }
        // No tunnel is behind a node: what peers send it ends here.
        while self.endpoint.poll_inner().is_some() {}
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Up { .. } => (self.is_up, turn.came_up) = (true, turn.came_up + 1),
                Event::Down { .. } => (self.is_up, turn.went_down) = (false, turn.went_down + 1),
                Event::Refused { .. } => turn.refused += 1,
                // Nodes of the crowd take no expired certificates.
                Event::Outlived { .. } => {}
            }
        }
        Ok(turn)
    }

    fn receive(&mut self, now: Instant, turn: &mut Turn) -> io::Result<()> {
        let mut buffer = [0; PAYLOAD_MAX];
        self.endpoint.begin_burst();
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                // The port is closed, while the peer starts again: silence, as with a firewall.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            turn.received += 1;
            self.heard = now;
            // With one worker nothing is for another one.
            let _own = self.endpoint.receive(&mut buffer[..length], self.path, now);
        }
    }

    fn transmit(&mut self, now: Instant, turn: &mut Turn) -> io::Result<()> {
        let mut buffer = [0; PAYLOAD_MAX];
        while let Some(transmit) = self.endpoint.poll_transmit(&mut buffer, now) {
            match self.socket.send(&buffer[..transmit.len]) {
                Ok(_) => turn.sent += 1,
                // Lost, as on the wire.
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does what a daemon has another thread do.
    fn work(&mut self, task: &Task, now: Instant) {
        match task {
            Task::Sign(sign) => self.endpoint.done(sign.perform(), now),
            Task::Verify(verify) => {
                self.endpoint.done(Done::Verified(verify.ticket, verify.perform()), now);
            }
            // There is no mesh state in a mesh that is run by hand.
            Task::Revocations { .. } | Task::State { .. } => {}
        }
    }
}

/// What goes by without being mended: no room, a closed port, a probe larger than the path.
fn is_passing(error: &io::Error) -> bool {
    let too_big = error.raw_os_error() == Some(nix::errno::Errno::EMSGSIZE as i32);
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) || too_big
}
