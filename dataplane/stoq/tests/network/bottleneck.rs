//! A path with a bottleneck between two nodes: a rate, a buffer in front of it, a delay, and loss that
//! is nobody's fault. What it loses follows from its seed; the time is real, because quiche reads
//! the clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use stoq::{Path, PeerId, Via};
use stoq_buffer::PacketBuf;

use super::network::{Node, PATIENCE};

/// Largest UDP payload.
const DATAGRAM: usize = 2048;

/// Outer packets taken from a node at once: a host's device queue is no longer either.
const BURST: usize = 64;

/// What a path does to the packets of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes that it carries in a second.
    pub bytes_per_s: u64,
    /// Bytes that wait for that at most; more are lost.
    pub buffer_bytes: u64,
    /// How long a packet takes besides.
    pub delay: Duration,
    /// Part of the packets that is lost.
    pub loss: f64,
}

struct Direction {
    shape: Shape,
    free_at: Instant,
    on_way: VecDeque<(Instant, Via, Vec<u8>)>,
    random: Rng,
}

impl Direction {
    fn new(shape: Shape, seed: u64) -> Self {
        let random = Rng::with_seed(seed);
        Self { shape, free_at: Instant::now(), on_way: VecDeque::new(), random }
    }

    fn put(&mut self, bytes: &[u8], via: Via, now: Instant) {
        let Shape { bytes_per_s, buffer_bytes, delay, loss } = self.shape;
        let time = |bytes: u64| Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64);
        let free_at = self.free_at.max(now);
        let lost = self.random.f64() < loss;
        if free_at - now > time(buffer_bytes) {
            return;
        }
        self.free_at = free_at + time(bytes.len() as u64 + 48);
        if !lost {
            self.on_way.push_back((self.free_at + delay, via, bytes.to_vec()));
        }
    }
}

/// Two nodes; the first has always something to send to the second.
pub struct Bottleneck {
    pub nodes: [Node; 2],
    directions: [Direction; 2],
    /// Bytes of inner packets that reached the second node.
    pub delivered: u64,
    /// Inner packets that reached the second node.
    pub packets: u64,
    /// Inner packets that came behind a later one.
    pub disordered: u64,
    offered: u32,
    last: u32,
}

impl Bottleneck {
    pub fn new(nodes: [Node; 2], shape: Shape, seed: u64) -> Self {
        let directions = [Direction::new(shape, seed), Direction::new(shape, seed + 1)];
        let (delivered, packets, disordered, offered, last) = (0, 0, 0, 0, 0);
        Self { nodes, directions, delivered, packets, disordered, offered, last }
    }

    /// Brings the link up.
    pub fn connect(&mut self) {
        let start = Instant::now();
        while !self.nodes.iter_mut().all(Node::is_up) {
            assert!(start.elapsed() < PATIENCE, "the link does not come up");
            self.step();
        }
    }

    /// Keeps so many packets waiting at the first node.
    pub fn offer(&mut self, packets: usize, len: usize) {
        let waiting = self.nodes[0].endpoint.links()[0].queued_packets;
        for _ in waiting..packets {
            self.offered += 1;
            let mut packet = PacketBuf::from_slice(&self.offered.to_be_bytes());
            packet.extend_from_slice(&vec![0x45; len - 4]);
            let _down = self.nodes[0].endpoint.enqueue(PeerId(0), packet, 1, false, Instant::now());
        }
    }

    /// Moves what is due, and waits until more may be.
    pub fn step(&mut self) {
        let moved = self.send(0) + self.send(1) + self.receive(0) + self.receive(1);
        if moved == 0 {
            std::thread::park_timeout(Duration::from_micros(200));
        }
        for (_, packet) in self.nodes[1].received.drain(..) {
            self.delivered += packet.len() as u64;
            self.packets += 1;
            let number = packet.as_slice().first_chunk().map_or(0, |n| u32::from_be_bytes(*n));
            self.disordered += u64::from(number <= self.last);
            self.last = self.last.max(number);
        }
    }

    fn send(&mut self, sender: usize) -> usize {
        let now = Instant::now();
        let node = &mut self.nodes[sender];
        node.endpoint.handle_timeout(now);
        let mut buffer = [0; DATAGRAM];
        for count in 0..BURST {
            let Some(transmit) = node.endpoint.poll_transmit(&mut buffer, now) else {
                node.harvest();
                return count;
            };
            self.directions[sender].put(&buffer[..transmit.len], transmit.via, now);
        }
        node.harvest();
        BURST
    }

    fn receive(&mut self, sender: usize) -> usize {
        let now = Instant::now();
        let [local, remote] = [&self.nodes[1 - sender], &self.nodes[sender]].map(|n| n.address);
        let node = &mut self.nodes[1 - sender];
        node.endpoint.begin_burst();
        let on_way = &mut self.directions[sender].on_way;
        let mut count = 0;
        while on_way.front().is_some_and(|packet| packet.0 <= now)
            && let Some((_, via, mut bytes)) = on_way.pop_front()
        {
            let via = if via == Via::Dial { Via::Listen(0) } else { Via::Dial };
            assert_eq!(node.endpoint.receive(&mut bytes, Path { local, remote, via }, now), None);
            count += 1;
        }
        node.harvest();
        count
    }
}
