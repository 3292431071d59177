//! A wire with a mind of its own between two nodes: both families, delay, reordering, and outages of
//! one direction whose packets are lost, or kept by the network and delivered when it is back. What
//! it does follows from its seed.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use stoq::{Path, Transmit, Via};

use super::Node;

/// The port that nodes listen on, and the one that they dial from.
const LISTEN: u16 = 9292;
const DIAL: u16 = 40_000;

/// More packets than a node has to send at once: it holds no more than its windows.
const BURST: usize = 20_000;

/// Largest UDP payload.
const DATAGRAM: usize = 2048;

/// One direction that carries nothing for a while.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub from: Instant,
    pub until: Instant,
    /// Packets of the last part of it wait at a neighbour that is being resolved, and are delivered
    /// at its end.
    pub kept: Duration,
}

struct InFlight {
    arrives: Instant,
    bytes: Vec<u8>,
    from: SocketAddr,
    to: SocketAddr,
}

/// Two nodes and what is between them.
pub struct Wire {
    pub nodes: [Node; 2],
    /// The nodes' addresses: a packet to another one is lost.
    pub addresses: [Vec<IpAddr>; 2],
    /// From the first node to the second, and back.
    pub outages: [Option<Outage>; 2],
    /// Each packet takes a random time of up to this.
    pub delay: Duration,
    pub random: Rng,
    in_flight: [Vec<InFlight>; 2],
}

impl Wire {
    pub fn new(nodes: [Node; 2], addresses: [Vec<IpAddr>; 2], random: Rng) -> Self {
        Self {
            nodes,
            addresses,
            outages: [None; 2],
            delay: Duration::ZERO,
            random,
            in_flight: [Vec::new(), Vec::new()],
        }
    }

    /// Moves what is due, and waits until more may be.
    pub fn step(&mut self) {
        let moved = self.send(0) + self.send(1) + self.receive(0) + self.receive(1);
        if moved == 0 {
            let timers = self.nodes.iter().filter_map(|node| node.endpoint.poll_timeout());
            let arrivals = self.in_flight.iter().flatten().map(|packet| packet.arrives);
            let next = timers.chain(arrivals).min();
            let pause = next.map(|at| at.saturating_duration_since(Instant::now()));
            let most = Duration::from_millis(5);
            std::thread::park_timeout(pause.map_or(most, |pause| pause.min(most)));
        }
    }

    fn send(&mut self, sender: usize) -> usize {
        let now = Instant::now();
        self.nodes[sender].endpoint.handle_timeout(now);
        let mut buffer = [0; DATAGRAM];
        let mut count = 0;
        while let Some(transmit) = self.nodes[sender].endpoint.poll_transmit(&mut buffer, now) {
            count += 1;
            assert!(count < BURST, "a node sends without end");
            self.put(sender, &transmit, &buffer[..transmit.len], now);
        }
        self.nodes[sender].harvest();
        count
    }

    fn put(&mut self, sender: usize, transmit: &Transmit, bytes: &[u8], now: Instant) {
        let mut own = self.addresses[sender].iter();
        // A source that the node lost cannot be sent from, nor a family that it never had.
        let source = match transmit.from {
            Some(from) => own.find(|&&ip| ip == from),
            None => own.find(|ip| ip.is_ipv4() == transmit.to.is_ipv4()),
        };
        let Some(&source) = source else { return };
        let mut arrives = now + self.delay.mul_f64(self.random.f64());
        if let Some(outage) = self.outages[sender].filter(|o| (o.from..o.until).contains(&now)) {
            if now + outage.kept < outage.until {
                return;
            }
            arrives = outage.until + Duration::from_millis(20).mul_f64(self.random.f64());
        }
        let port = if transmit.via == Via::Dial { DIAL } else { LISTEN };
        let from = SocketAddr::new(source, port);
        self.in_flight[sender].push(InFlight {
            arrives,
            bytes: bytes.to_vec(),
            from,
            to: transmit.to,
        });
    }

    fn receive(&mut self, sender: usize) -> usize {
        let now = Instant::now();
        let (receiver, own) = (1 - sender, &self.addresses[1 - sender]);
        let mut due: Vec<_> =
            self.in_flight[sender].extract_if(.., |packet| packet.arrives <= now).collect();
        due.sort_by_key(|packet| packet.arrives);
        let count = due.len();
        let endpoint = &mut self.nodes[receiver].endpoint;
        endpoint.begin_burst();
        for packet in &mut due {
            if !own.contains(&packet.to.ip()) {
                continue;
            }
            let via = if packet.to.port() == LISTEN { Via::Listen(0) } else { Via::Dial };
            let path = Path { local: packet.to, remote: packet.from, via };
            assert_eq!(endpoint.receive(&mut packet.bytes, path, now), None);
        }
        self.nodes[receiver].harvest();
        count
    }
}
