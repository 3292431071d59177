//! Two edges without a kernel between them: each with what a worker has but its port and its
//! device. Shared by the benchmark of the path and the test of its allocations.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests and benchmarks")]

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use stoq::cid::CidKeys;
use stoq::control::BootId;
use stoq::settings::Settings;
use stoq::task::{Done, Task};
use stoq::tls::Credentials;
use stoq::{Endpoint, Inner, LinkState, Local, Path, Peer, PeerId, Via};
use stoq_identity::Identity;
use stoq_telemetry::Drops;
use stoq_tunnel::assemble::Assembler;
use stoq_tunnel::coalesce::Coalescer;
use stoq_tunnel::device::{Offloads, Sink};
use stoq_tunnel::forward::{Forwarder, Prefix, Table};
use stoq_tunnel::packet::{self, FlowHasher, View};
use stoq_tunnel::segment::Plan;
use stoq_tunnel::vnet::{self, Gso, Partial, Super, VnetHeader};
use stoqd::worker::enqueue_slices;

/// Payload of a TCP segment, so that its packet fills an inner MTU of 1400 bytes.
const SEGMENT: usize = 1_348;
/// Segments of a super-packet.
pub const SEGMENTS: usize = 44;
/// IPv4 and TCP with time stamps.
const HEADERS: usize = 52;
/// Datagrams that one wake-up brings.
const BURST: usize = 128;

const ADDRESSES: [&str; 2] = ["[2001:db8::1]:9292", "[2001:db8::2]:9292"];
const INNER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];

/// Swallows what the site would get, and counts the packets that it stands for.
#[derive(Default)]
pub struct Site {
    packets: usize,
}

impl Sink for Site {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let (header, _) = VnetHeader::parse(&parts[0]).unwrap();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let payload = len - vnet::HEADER - HEADERS;
        self.packets += header.gso.map_or(1, |gso| payload.div_ceil(usize::from(gso.size)));
        Ok(())
    }
}

/// One edge.
pub struct Edge {
    pub endpoint: Endpoint,
    forwarder: Forwarder<PeerId>,
    hasher: FlowHasher,
    coalescer: Coalescer,
    assembler: Assembler,
    site: Site,
    drops: Arc<Drops>,
    pub address: SocketAddr,
}

impl Edge {
    pub fn new(folder: &FsPath, me: usize, features: u64) -> Self {
        let name = ["a", "b"][me];
        let at = folder.join(name);
        let file = |name: &str| at.join(name);
        let identity = Identity::load(&file("node.crt"), &file("node.key"), &file("ca.crt"));
        let identity = identity.expect("just issued");
        let drops = Arc::new(Drops::default());
        let local = Local {
            node: identity.id().clone(),
            boot: BootId { started_ns: 1, random: 7 },
            worker: 0,
            workers: 1,
            generation: 1,
            cid_keys: CidKeys::new([3; 32]),
            tunnel_mtu: 1400,
            features,
            drops: Arc::clone(&drops),
        };
        let verifier = identity.verifier();
        let (identity, policy) = (Arc::new(identity), verifier.policy());
        let clock = SystemTime::now;
        let credentials = Credentials { identity, verifier, policy, leaf_only: false, clock };
        // One connection for the whole run.
        let settings = Settings { packets_per_connection: u64::MAX, ..Settings::default() };
        let now = Instant::now();
        let mut endpoint = Endpoint::new(local, settings, credentials, now).unwrap();
        let other = 1 - me;
        let endpoints = if me == 0 { vec![ADDRESSES[1].parse().unwrap()] } else { Vec::new() };
        let peer = Peer { id: PeerId(0), name: ["a", "b"][other].into(), endpoints, keys: None };
        endpoint.set_peers(&[peer], now);
        let route = Prefix::new(INNER[other].into(), 32).unwrap();
        Self {
            endpoint,
            forwarder: Forwarder::new(Arc::new(Table::build([(route, PeerId(0))]).unwrap())),
            hasher: FlowHasher::new(&[1; 16]),
            coalescer: Coalescer::new(Offloads::ALL),
            assembler: Assembler::default(),
            site: Site::default(),
            drops,
            address: ADDRESSES[me].parse().unwrap(),
        }
    }

    /// What the worker does with a super-packet from the device.
    pub fn forward(&mut self, header: VnetHeader, packet: &[u8], now: Instant) {
        let view = packet::parse(packet).unwrap();
        let peer = self.forwarder.lookup(view.destination).unwrap();
        let flow = self.hasher.hash(&view);
        let plan = Plan::new(header, packet, &view).unwrap();
        let whose = (peer, flow, false);
        if let Some(uncut) = plan.uncut()
            && enqueue_slices(&mut self.endpoint, &self.drops, uncut, whose, now).is_some()
        {
            return;
        }
        plan.emit(|piece| self.endpoint.enqueue(peer, piece, flow, false, now).unwrap());
    }

    /// What it does with what a burst brought. Returns how many packets the site got.
    pub fn deliver(&mut self, now: Instant) -> usize {
        let before = self.site.packets;
        let Self { endpoint, forwarder, coalescer, assembler, site, drops, .. } = self;
        while let Some((peer, inner)) = endpoint.poll_inner() {
            match inner {
                Inner::Packet(packet) => {
                    let view = packet::parse(packet.as_slice()).unwrap();
                    assert!(forwarder.permits(peer, view.source));
                    assembler.make_way(&view, site, drops);
                    coalescer.push(packet, &view, site, drops);
                }
                Inner::Slice(slot, slice) => {
                    let permits = |view: &View| forwarder.permits(peer, view.source);
                    let begun =
                        assembler.push((peer.0, slot), slice, now, permits, site, drops).unwrap();
                    begun.iter().for_each(|view| coalescer.flush_flow(view, site, drops));
                }
            }
        }
        coalescer.flush(site, drops);
        assembler.flush(now, site, drops);
        site.packets - before
    }
}

/// Sealed datagrams on their way, one behind the other, as a GSO train has them.
pub struct Wire {
    bytes: Vec<u8>,
    used: usize,
    lens: Vec<usize>,
    via: Via,
}

impl Wire {
    pub fn new() -> Self {
        Self { bytes: vec![0; BURST * 1_500], used: 0, lens: Vec::new(), via: Via::Dial }
    }

    pub fn fill(&mut self, from: &mut Edge, now: Instant) -> usize {
        self.lens.clear();
        self.used = 0;
        while self.lens.len() < BURST {
            let slot = &mut self.bytes[self.used..self.used + 1_500];
            let Some(sent) = from.endpoint.poll_transmit(slot, now) else { break };
            self.via = if sent.via == Via::Dial { Via::Listen(0) } else { Via::Dial };
            self.lens.push(sent.len);
            self.used += sent.len;
        }
        while let Some(task) = from.endpoint.poll_task() {
            match task {
                Task::Sign(sign) => from.endpoint.done(sign.perform(), now),
                Task::Verify(verify) => {
                    from.endpoint.done(Done::Verified(verify.ticket, verify.perform()), now);
                }
                Task::Revocations { .. } | Task::State { .. } => {}
            }
        }
        self.lens.len()
    }

    pub fn empty(&mut self, from: SocketAddr, to: &mut Edge, now: Instant) {
        to.endpoint.begin_burst();
        let path = Path { local: to.address, remote: from, via: self.via };
        let mut rest = &mut self.bytes[..];
        for &len in &self.lens {
            let (datagram, behind) = rest.split_at_mut(len);
            to.endpoint.receive(datagram, path, now);
            rest = behind;
        }
    }
}

/// A TCP super-packet as Linux hands it over.
pub fn super_packet() -> (VnetHeader, Vec<u8>) {
    let mut packet = vec![0xa5; HEADERS + SEGMENTS * SEGMENT];
    let len = packet.len() as u16;
    packet[..HEADERS].fill(0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[6] = 0x40;
    packet[8..10].copy_from_slice(&[64, 6]);
    packet[12..16].copy_from_slice(&INNER[0].octets());
    packet[16..20].copy_from_slice(&INNER[1].octets());
    packet[20..24].copy_from_slice(&[0x9c, 0x40, 0x14, 0x51]);
    packet[32] = 0x80;
    packet[33] = 0x10;
    let gso = Super { kind: Gso::Tcp4, size: SEGMENT as u16, headers: HEADERS as u16, ecn: false };
    (VnetHeader { gso: Some(gso), partial: Some(Partial { start: 20, offset: 16 }) }, packet)
}

/// Brings the link up, with its path MTU.
fn connect(a: &mut Edge, b: &mut Edge) {
    let (mut there, mut back) = (Wire::new(), Wire::new());
    let up = |edge: &mut Edge| edge.endpoint.links()[0].state == LinkState::Up;
    // The path MTU is probed after the handshake; until it is known packets are cut.
    let probed = |edge: &Edge| edge.endpoint.path_mtu(PeerId(0), Instant::now()) >= Some(1400);
    let start = Instant::now();
    while !(up(a) && up(b) && probed(a)) {
        assert!(start.elapsed() < Duration::from_secs(10), "no link came up");
        let now = Instant::now();
        a.endpoint.handle_timeout(now);
        b.endpoint.handle_timeout(now);
        there.fill(a, now);
        there.empty(a.address, b, now);
        back.fill(b, now);
        back.empty(b.address, a, now);
    }
}

/// Two edges with a link, which can do so much.
pub fn pair(features: u64) -> (Edge, Edge) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    stoq_pki::init(&root, "bench", SystemTime::now()).unwrap();
    for name in ["a", "b"] {
        stoq_pki::issue(&root, name, &folder.path().join(name), SystemTime::now()).unwrap();
    }
    let (mut a, mut b) = [0, 1].map(|me| Edge::new(folder.path(), me, features)).into();
    connect(&mut a, &mut b);
    (a, b)
}
