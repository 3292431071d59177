//! Endpoints joined by memory: every datagram that one sends is received by the other, unless a
//! test's filter keeps it. The protocol's time is real, because quiche reads the clock.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use stoq::cid::CidKeys;
use stoq::control::{BootId, feature};
use stoq::settings::Settings;
use stoq::task::{Done, Task};
use stoq::tls::Credentials;
use stoq::{Endpoint, Event, Inner, Local, Path, Peer, PeerId, Via};
use stoq_buffer::{PacketBuf, Slice};
use stoq_identity::{Identity, Policy};
use stoq_telemetry::{DropReason, Drops};

/// How long a test waits for what it expects.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One node with one worker, at an address of its own.
pub struct Node {
    pub endpoint: Endpoint,
    pub address: SocketAddr,
    pub drops: Arc<Drops>,
    pub received: Vec<(PeerId, PacketBuf)>,
    /// With the slot that numbers them.
    pub slices: Vec<(u8, Slice)>,
    pub events: Vec<Event>,
    /// Datagrams sent.
    pub sent: u64,
    /// What peers said of the mesh.
    pub asked: Vec<Task>,
    /// Does what an attacker would to the proofs of this node.
    pub alter: Option<Alter>,
    /// Keeps what these tasks gave until [`Node::release`], as a busy thread would.
    pub hold: fn(&Done) -> bool,
    pub held: Vec<Done>,
}

pub type Alter = Box<dyn FnMut(&Task, Done) -> Done>;

/// Certificates for `names`, from one root.
pub fn pki(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    stoq_pki::init(&root, "test", SystemTime::now()).unwrap();
    for name in names {
        stoq_pki::issue(&root, name, &dir.path().join(name), SystemTime::now()).unwrap();
    }
    dir
}

pub fn credentials(dir: &FsPath, name: &str) -> Credentials {
    let at = dir.join(name);
    let identity =
        Identity::load(&at.join("node.crt"), &at.join("node.key"), &at.join("ca.crt")).unwrap();
    let verifier = identity.verifier();
    let identity = Arc::new(identity);
    let policy = Policy::Hybrid;
    Credentials { identity, verifier, policy, leaf_only: false, clock: SystemTime::now }
}

/// As [`credentials`], under the policy `classical`.
pub fn classical(dir: &FsPath, name: &str) -> Credentials {
    let at = dir.join(name);
    let open = |_, path: &FsPath| std::fs::File::open(path);
    let [crt, key, ca] = ["node.crt", "node.key", "ca.crt"].map(|file| at.join(file));
    let policy = Policy::Classical;
    let identity = Arc::new(Identity::load_under(policy, &crt, &key, &ca, &open).unwrap());
    let verifier = identity.verifier();
    Credentials { identity, verifier, policy, leaf_only: false, clock: SystemTime::now }
}

impl Node {
    pub fn new(dir: &FsPath, name: &str, address: &str, settings: Settings) -> Self {
        Self::with_generation(dir, name, address, settings, 1)
    }

    pub fn with_generation(
        dir: &FsPath,
        name: &str,
        address: &str,
        settings: Settings,
        generation: u16,
    ) -> Self {
        Self::with_credentials(credentials(dir, name), address, settings, generation)
    }

    pub fn with_credentials(
        credentials: Credentials,
        address: &str,
        settings: Settings,
        generation: u16,
    ) -> Self {
        Self::with_features(credentials, address, settings, generation, feature::SLICED)
    }

    pub fn with_features(
        credentials: Credentials,
        address: &str,
        settings: Settings,
        generation: u16,
        features: u64,
    ) -> Self {
        let run = (generation, BootId { started_ns: generation.into(), random: 7 });
        Self::of_run(credentials, address, settings, run, features)
    }

    /// With this generation and boot identity.
    pub fn of_run(
        credentials: Credentials,
        address: &str,
        settings: Settings,
        (generation, boot): (u16, BootId),
        features: u64,
    ) -> Self {
        let drops = Arc::new(Drops::default());
        let local = Local {
            node: credentials.identity.id().clone(),
            boot,
            worker: 0,
            workers: 1,
            generation,
            cid_keys: CidKeys::new([3; 32]),
            tunnel_mtu: 1400,
            features,
            drops: Arc::clone(&drops),
        };
        let endpoint = Endpoint::new(local, settings, credentials, Instant::now()).unwrap();
        let address = address.parse().unwrap();
        let (received, slices, events, asked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let hold = |_: &Done| false;
        let (held, alter) = (Vec::new(), None);
        let sent = 0;
        Self { endpoint, address, drops, received, slices, events, sent, asked, alter, hold, held }
    }

    /// Does what the daemon's other threads do.
    pub fn work(&mut self) {
        while let Some(task) = self.endpoint.poll_task() {
            let done = match &task {
                Task::Sign(sign) => sign.perform(),
                Task::Verify(verify) => Done::Verified(verify.ticket, verify.perform()),
                Task::Revocations { .. } | Task::State { .. } => {
                    self.asked.push(task);
                    continue;
                }
            };
            let done = match self.alter.as_mut() {
                Some(alter) => alter(&task, done),
                None => done,
            };
            if (self.hold)(&done) {
                self.held.push(done);
            } else {
                self.endpoint.done(done, Instant::now());
            }
        }
    }

    /// The busy thread is done with what it held.
    pub fn release(&mut self) {
        assert!(!self.held.is_empty(), "nothing was held");
        self.hold = |_| false;
        for done in self.held.drain(..) {
            self.endpoint.done(done, Instant::now());
        }
    }

    pub fn peer(&mut self, id: u32, name: &str, endpoints: &[SocketAddr]) {
        let peer =
            Peer { id: PeerId(id), name: name.into(), endpoints: endpoints.to_vec(), keys: None };
        self.endpoint.set_peers(&[peer], Instant::now());
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason)
    }

    pub fn harvest(&mut self) {
        self.work();
        while let Some((peer, inner)) = self.endpoint.poll_inner() {
            match inner {
                Inner::Packet(packet) => self.received.push((peer, packet)),
                Inner::Slice(slot, slice) => self.slices.push((slot, slice)),
            }
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.events.push(event);
        }
    }

    pub fn is_up(&mut self) -> bool {
        self.endpoint.links().iter().any(|link| link.state == stoq::LinkState::Up)
    }
}

/// Delivers all that `from` has to send; `pass` may refuse a datagram. Returns how many went.
pub fn deliver(from: &mut Node, to: &mut Node, pass: &mut dyn FnMut(&[u8]) -> bool) -> usize {
    let mut buffer = [0; 2048];
    let mut count = 0;
    let now = Instant::now();
    from.endpoint.handle_timeout(now);
    to.endpoint.begin_burst();
    while let Some(transmit) = from.endpoint.poll_transmit(&mut buffer, now) {
        count += 1;
        from.sent += 1;
        let datagram = &mut buffer[..transmit.len];
        if transmit.to != to.address || !pass(datagram) {
            continue;
        }
        let via = if transmit.via == Via::Dial { Via::Listen(0) } else { Via::Dial };
        let path = Path { local: to.address, remote: from.address, via };
        assert_eq!(to.endpoint.receive(datagram, path, now), None);
    }
    from.harvest();
    to.harvest();
    count
}

/// Runs both nodes until `done`.
pub fn run_until(
    a: &mut Node,
    b: &mut Node,
    pass: &mut dyn FnMut(&[u8]) -> bool,
    mut done: impl FnMut(&mut Node, &mut Node) -> bool,
) {
    let start = Instant::now();
    while !done(a, b) {
        if start.elapsed() >= PATIENCE {
            for node in [&mut *a, &mut *b] {
                eprintln!("{:?}\n{:?}\n{:?}", node.events, node.endpoint.links(), node.drops);
            }
            panic!("what was waited for did not come");
        }
        if deliver(a, b, pass) + deliver(b, a, pass) == 0 {
            let next = [&*a, &*b].map(|node| node.endpoint.poll_timeout());
            let next = next.into_iter().flatten().min();
            let pause = next.map_or(Duration::from_millis(5), |at| {
                at.saturating_duration_since(Instant::now())
            });
            std::thread::park_timeout(pause.min(Duration::from_millis(5)));
        }
    }
}
