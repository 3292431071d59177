//! Two processes of one node, one after the other: links move from the elder to the heir, and back if the
//! heir fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod network;

use std::time::{Duration, Instant};

use network::{Node, PATIENCE, credentials, pki};
use stoq::control::BootId;
use stoq::settings::Settings;
use stoq::{Event, Path, PeerId, Via};
use stoq_buffer::PacketBuf;

/// Longer than a replaced connection is kept when nothing comes on it.
const LONG: Duration = Duration::from_millis(3500);

/// As long as the halves of a simultaneous dial may be apart.
const SIMULTANEOUS: Duration = Duration::from_secs(1);

/// The elder, the heir, and their peer, and the name of the peer.
struct Bed([Node; 3], &'static str);

const ELDER: usize = 0;
const HEIR: usize = 1;
const PEER: usize = 2;

impl Bed {
    /// The elder and its peer are linked; `dials` says whether by the elder. The heir knows nobody yet.
    fn new(dials: bool) -> Self {
        Self::between("edge-a", "edge-b", dials)
    }

    /// The same with another name of the node, and of its peer.
    fn between(own: &'static str, other: &'static str, dials: bool) -> Self {
        let dir = pki(&[own, other]);
        let node = |name, address, generation| {
            let boot = BootId { started_ns: 1, random: 7 };
            let own = credentials(dir.path(), name);
            Node::of_run(own, address, Settings::default(), (generation, boot), 0)
        };
        let elder = node(own, "[fd00::1]:9292", 1);
        let heir = node(own, "[fd00::1]:9293", 2);
        let peer = node(other, "[fd00::2]:9292", 1);
        let mut bed = Self([elder, heir, peer], other);
        let at = bed.0.each_ref().map(|node| node.address);
        bed.0[ELDER].peer(0, other, if dials { &at[PEER..] } else { &[] });
        bed.0[PEER].peer(0, own, if dials { &[] } else { &at[..1] });
        bed.until(|nodes| nodes[ELDER].is_up() && nodes[PEER].is_up());
        bed
    }

    /// The elder stands aside, and the heir has the link as well. As steering does it, first packets to the
    /// elder's address reach the heir: `dials` says which end they come from.
    fn hand_over(&mut self, dials: bool) {
        let now = Instant::now();
        let at = self.0.each_ref().map(|node| node.address);
        self.0[ELDER].endpoint.stand_aside(true, now);
        self.0[ELDER].endpoint.ask_for_successors(None);
        self.0[HEIR].peer(0, self.1, if dials { &at[PEER..] } else { &[] });
        if !dials {
            self.0[PEER].peer(0, "edge-a", &at[HEIR..PEER]);
        }
        self.until(|nodes| nodes[HEIR].is_up());
    }

    fn pump(&mut self) -> usize {
        let now = Instant::now();
        let mut on_the_way = Vec::new();
        let mut buffer = [0; 2048];
        for node in &mut self.0 {
            node.endpoint.handle_timeout(now);
            node.endpoint.begin_burst();
            while let Some(sent) = node.endpoint.poll_transmit(&mut buffer, now) {
                on_the_way.push((node.address, sent.to, sent.via, buffer[..sent.len].to_vec()));
            }
        }
        let count = on_the_way.len();
        for (remote, local, via, mut datagram) in on_the_way {
            let Some(to) = self.0.iter_mut().find(|node| node.address == local) else { continue };
            let via = if via == Via::Dial { Via::Listen(0) } else { Via::Dial };
            to.endpoint.receive(&mut datagram, Path { local, remote, via }, now);
        }
        self.0.iter_mut().for_each(Node::harvest);
        count
    }

    fn until(&mut self, mut done: impl FnMut(&mut [Node; 3]) -> bool) {
        let start = Instant::now();
        while !done(&mut self.0) {
            if start.elapsed() >= PATIENCE {
                for node in &mut self.0 {
                    eprintln!("{:?}\n{:?}\n{:?}", node.events, node.endpoint.links(), node.drops);
                    eprintln!("{} received", node.received.len());
                }
                panic!("what was waited for did not come");
            }
            if self.pump() == 0 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
    }

    /// Sends the next numbers from one node; what the peer, or the node's two processes, have received.
    fn send(&mut self, from: usize, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let mut contents = vec![0x45; 200];
            contents[..4].copy_from_slice(&number.to_be_bytes());
            let packet = PacketBuf::from_slice(&contents);
            self.0[from].endpoint.enqueue(PeerId(0), packet, 1, false, Instant::now()).unwrap();
        }
    }

    fn received(&self, at: usize) -> Vec<u32> {
        let number = |p: &PacketBuf| u32::from_be_bytes(p.as_slice()[..4].try_into().unwrap());
        self.0[at].received.iter().map(|(_, packet)| number(packet)).collect()
    }

    fn went_down(&self, at: usize) -> bool {
        self.0[at].events.iter().any(|event| matches!(event, Event::Down { .. }))
    }
}

#[test]
fn nothing_is_lost_or_overtaken_whoever_dials() {
    for dials in [true, false] {
        let mut bed = Bed::new(dials);
        bed.send(ELDER, 0..20);
        bed.send(PEER, 0..20);
        bed.hand_over(dials);
        bed.send(ELDER, 20..40);
        bed.send(PEER, 20..40);
        bed.until(|nodes| nodes[ELDER].endpoint.is_settled());
        bed.send(HEIR, 40..60);
        bed.0[ELDER].endpoint.leave(Instant::now());
        bed.send(PEER, 40..60);
        bed.until(|nodes| {
            let back = nodes[ELDER].received.len() + nodes[HEIR].received.len();
            nodes[PEER].received.len() == 60 && back == 60
        });
        assert_eq!(bed.received(PEER), (0..60).collect::<Vec<_>>(), "dials: {dials}");
        let back = [bed.received(ELDER), bed.received(HEIR)].concat();
        assert_eq!(back, (0..60).collect::<Vec<_>>(), "dials: {dials}");
        bed.until(|nodes| nodes[ELDER].endpoint.is_drained());
        assert!(!bed.went_down(PEER) && !bed.went_down(HEIR), "dials: {dials}");
        bed.until(|nodes| nodes[PEER].endpoint.connection_count() == 1);
    }
}

#[test]
fn one_that_stands_aside_keeps_its_connections_and_makes_none() {
    let mut bed = Bed::new(true);
    bed.hand_over(true);
    let begun = Instant::now();
    bed.until(|_| begun.elapsed() >= LONG);
    bed.send(ELDER, 0..1);
    bed.until(|nodes| nodes[PEER].received.len() == 1);
    // Without its connection it would dial, if it were not aside.
    bed.0[PEER].endpoint.drain(Instant::now());
    bed.until(|nodes| nodes[ELDER].endpoint.connection_count() == 0);
    let before = bed.0[ELDER].sent;
    let begun = Instant::now();
    bed.until(|_| begun.elapsed() >= Duration::from_secs(1));
    assert_eq!((bed.0[ELDER].endpoint.handshake_count(), bed.0[ELDER].sent), (0, before));
}

#[test]
fn a_link_that_the_peer_has_dialled_a_moment_ago_moves_all_the_same() {
    // In a simultaneous dial the peer's connection would win.
    let mut bed = Bed::between("edge-b", "edge-a", false);
    let linked = Instant::now();
    bed.until(|_| linked.elapsed() >= SIMULTANEOUS);
    bed.hand_over(true);
    bed.send(PEER, 0..10);
    bed.until(|nodes| nodes[HEIR].received.len() == 10);
    bed.0[ELDER].endpoint.leave(Instant::now());
    bed.until(|nodes| nodes[ELDER].endpoint.is_drained());
    bed.until(|nodes| nodes[PEER].endpoint.connection_count() == 1);
    assert!(!bed.went_down(PEER) && !bed.went_down(HEIR));
}

#[test]
fn the_elder_carries_on_when_the_heir_fails() {
    let mut bed = Bed::new(true);
    bed.hand_over(true);
    bed.send(PEER, 0..10);
    bed.until(|nodes| nodes[HEIR].received.len() == 10);
    bed.0[HEIR].endpoint.drain(Instant::now());
    // What the peer sends on a connection before it hears of its end is lost with it.
    let endpoint = bed.0[HEIR].address;
    bed.until(|nodes| nodes[PEER].endpoint.links()[0].endpoint != Some(endpoint));
    bed.0[ELDER].endpoint.stand_aside(false, Instant::now());
    bed.send(PEER, 10..20);
    bed.send(ELDER, 0..10);
    bed.until(|nodes| nodes[ELDER].received.len() == 10 && nodes[PEER].received.len() == 10);
    assert!(!bed.went_down(PEER) && !bed.went_down(ELDER));
}
