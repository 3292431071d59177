//! What a link costs a node in memory: bytes that its calls have allocated and not freed, BoringSSL's
//! included, so that neither the allocator's rounding nor what it keeps for later is in the figure.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "footprint/heap.rs"]
mod heap;

#[path = "../../stoq/tests/network/mod.rs"]
mod network;

use std::time::{Duration, Instant};

use network::{Node, PATIENCE};
use stoq::settings::Settings;
use stoq::tls::Credentials;
use stoq::{LinkState, Path, Peer, PeerId, Transmit, Via};
use stoq_buffer::PacketBuf;

/// Links of the hub: enough that what it has once is nothing beside them.
const LEAVES: u16 = 48;

/// What a link may cost in bytes: 64 KiB are promised, of which this leaves a part to the allocator.
const BOUND: usize = 56 << 10;

/// Packets in each direction of every link, one after the other.
const PACKETS: u64 = 200;

/// Silence before a keepalive: shorter than what is common, so that the test is.
const KEEPALIVE: Duration = Duration::from_secs(3);

const HUB: &str = "[fd00::1]:9292";

/// The measured node, and what its calls have left allocated.
struct Hub {
    node: Node,
    bytes: isize,
}

impl Hub {
    /// Calls the node, and counts.
    fn call<T>(&mut self, call: impl FnOnce(&mut Node) -> T) -> T {
        let before = heap::used();
        let result = call(&mut self.node);
        self.bytes += heap::used() as isize - before as isize;
        result
    }

    fn harvest(&mut self) {
        // What it has received is not the link's any more.
        self.call(|node| {
            node.harvest();
            (node.received, node.events) = (Vec::new(), Vec::new());
        });
    }

    /// Sends what is due to the leaves. Returns how many datagrams.
    fn deliver(&mut self, leaves: &mut [Node]) -> usize {
        let (mut buffer, mut count, now) = ([0; 2048], 0, Instant::now());
        self.call(|node| node.endpoint.handle_timeout(now));
        while let Some(sent) = self.call(|node| node.endpoint.poll_transmit(&mut buffer, now)) {
            count += 1;
            let leaf = leaves.iter_mut().find(|leaf| leaf.address == sent.to).unwrap();
            let path = Path { local: leaf.address, remote: self.node.address, via: Via::Dial };
            leaf.endpoint.begin_burst();
            leaf.endpoint.receive(&mut buffer[..sent.len], path, now);
            leaf.harvest();
        }
        count
    }

    /// Takes what a leaf has to send. Returns how many datagrams.
    fn take(&mut self, leaf: &mut Node) -> usize {
        let (mut buffer, mut count, now) = ([0; 2048], 0, Instant::now());
        let path = Path { local: self.node.address, remote: leaf.address, via: Via::Listen(0) };
        leaf.endpoint.handle_timeout(now);
        while let Some(Transmit { len, .. }) = leaf.endpoint.poll_transmit(&mut buffer, now) {
            count += 1;
            self.call(|node| {
                node.endpoint.begin_burst();
                node.endpoint.receive(&mut buffer[..len], path, now);
            });
            self.harvest();
        }
        leaf.harvest();
        count
    }

    fn run_until(
        &mut self,
        leaves: &mut [Node],
        mut done: impl FnMut(&mut Self, &mut [Node]) -> bool,
    ) {
        let start = Instant::now();
        while !done(self, leaves) {
            let links = self.node.endpoint.links();
            assert!(start.elapsed() < PATIENCE, "{} bytes; {:?}", self.bytes, links.first());
            let taken: usize = leaves.iter_mut().map(|leaf| self.take(leaf)).sum();
            if taken + self.deliver(leaves) == 0 {
                let all = leaves.iter().chain([&self.node]);
                let next = all.filter_map(|node| node.endpoint.poll_timeout()).min();
                let pause = next.map_or(Duration::ZERO, |at| at - at.min(Instant::now()));
                std::thread::park_timeout(pause.min(Duration::from_millis(5)));
            }
        }
    }
}

fn all_up(node: &mut Node) -> bool {
    node.endpoint.links().iter().all(|link| link.state == LinkState::Up)
}

/// Whether every link has received so many packets.
fn all_have(node: &mut Node, packets: u64) -> bool {
    node.endpoint.links().iter().all(|link| link.rx_packets == packets)
}

/// The bytes of one link.
fn each(hub: &Hub) -> usize {
    usize::try_from(hub.bytes).unwrap() / usize::from(LEAVES)
}

/// Bytes that a link of the hub costs: after the handshake, after traffic both ways, and when it has been
/// idle again.
fn cost(load: fn(&std::path::Path, &str) -> Credentials) -> [usize; 3] {
    let names: Vec<String> = (0..LEAVES).map(|number| format!("leaf-{number}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["hub"]).collect();
    let dir = network::pki(&all);
    let settings = Settings { keepalive: KEEPALIVE, ..Settings::default() };
    let node = |name: &str, address: &str| {
        Node::with_credentials(load(dir.path(), name), address, settings.clone(), 1)
    };
    let mut hub = Hub { node: node("hub", HUB), bytes: 0 };
    let address = |number: u16| format!("[fd00::1:{number:x}]:9292");
    let mut leaves: Vec<Node> =
        (0..LEAVES).map(|at| node(&names[usize::from(at)], &address(at))).collect();
    let peer = |(id, name): (usize, &String)| {
        let id = PeerId(id as u32);
        Peer { id, name: name.clone(), endpoints: Vec::new(), keys: None }
    };
    let peers: Vec<Peer> = names.iter().enumerate().map(peer).collect();
    hub.call(|node| node.endpoint.set_peers(&peers, Instant::now()));
    for leaf in &mut leaves {
        leaf.peer(0, "hub", &[hub.node.address]);
    }
    hub.run_until(&mut leaves, |hub, leaves| {
        all_up(&mut hub.node) && leaves.iter_mut().all(all_up)
    });
    let knows = |node: &Node, peers: u16| {
        let now = Instant::now();
        (0..peers).all(|at| node.endpoint.path_mtu(PeerId(at.into()), now).is_some())
    };
    hub.run_until(&mut leaves, |hub, leaves| {
        knows(&hub.node, LEAVES) && leaves.iter().all(|leaf| knows(leaf, 1))
    });
    // A busy machine may have had some dialled twice, of which one fades.
    hub.run_until(&mut leaves, |hub, _| each(hub) <= BOUND);
    let made = each(&hub);
    exchange(&mut hub, &mut leaves);
    let busy = each(&hub);
    // With the next keepalive a link gives back what only packets need.
    hub.run_until(&mut leaves, |hub, _| each(hub) <= BOUND);
    [made, busy, each(&hub)]
}

/// Some packets in each direction of every link, until all have arrived.
fn exchange(hub: &mut Hub, leaves: &mut [Node]) {
    for sent in 1..=PACKETS {
        let (now, packet) = (Instant::now(), || PacketBuf::from_slice(&[0x45; 1000]));
        let flow = u32::try_from(sent).unwrap();
        for at in 0..LEAVES {
            let enqueue = |node: &mut Node| {
                node.endpoint.enqueue(PeerId(at.into()), packet(), flow, false, now)
            };
            hub.call(enqueue).unwrap();
        }
        for leaf in leaves.iter_mut() {
            leaf.endpoint.enqueue(PeerId(0), packet(), flow, false, now).unwrap();
        }
        hub.run_until(leaves, |hub, leaves| {
            leaves.iter_mut().for_each(|leaf| leaf.received.clear());
            all_have(&mut hub.node, sent) && leaves.iter_mut().all(|leaf| all_have(leaf, sent))
        });
    }
}

#[test]
fn a_link_costs_no_more_than_its_bound() {
    // Buffers of packets are pooled for the thread: what a link leaves in the pool is not the link's.
    drop((0..1000).map(|_| PacketBuf::from_slice(&[0])).collect::<Vec<_>>());
    type Load = fn(&std::path::Path, &str) -> Credentials;
    let policies: [(_, Load); 2] =
        [("classical", network::classical), ("hybrid", network::credentials)];
    for (policy, load) in policies {
        let [made, busy, idle] = cost(load);
        println!("{policy}: bytes {made} after the handshake, {busy} after traffic, {idle} idle");
        // What was given back is more than what the bound leaves room for.
        assert!(busy > BOUND && idle <= BOUND, "{policy}: {busy} after traffic, {idle} idle");
    }
}
