//! A million hostile packets to the port, while a site's traffic passes: refused for counted
//! reasons, no growth of memory, traffic unharmed.

use crate::{Fixture, MIB, SOON};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use stoq_perf::bed::{Family, Side};
use stoq_perf::measure::flow::Flow;
use stoq_perf::node::Node;
use stoq_perf::process::Process;

crate::on_each_port!(a_million_hostile_packets);

/// How many packets, and how many at a time before the pace is checked.
const PACKETS: u32 = 1_000_000;
const BATCH: u32 = 500;

/// Packets a second: several times what a 100 Mbit/s link can bring in full-sized packets, and a
/// tenth of what one core can receive, so that the flow beside it has room.
const RATE_PER_S: f64 = 40_000.0;

/// Packets before memory is first looked at: pools and tables have then their working size.
const WARM_UP: u32 = 100_000;

/// What memory may grow after that.
const GROWTH: u64 = 8 * MIB;

/// The longest datagram that is sent: it arrives in IP fragments.
const LONGEST: usize = 4000;

/// Where UDP's payload begins behind Ethernet and IPv6, both without options.
const PAYLOAD: usize = 14 + 40 + 8;

/// Records that show that a flow goes on.
const GOES_ON: u64 = 500;

fn a_million_hostile_packets(fixture: &Fixture) {
    let (samples, (_a, b)) = start_with_capture(fixture);
    let address = Side::B.host(Family::V4);
    let flow = Flow::start(fixture.host(Side::A), fixture.host(Side::B), address).unwrap();
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    let mut sender = Sender::new(fixture, samples);
    sender.send(WARM_UP);
    let (memory, files) = (b.process.resident_bytes(), b.process.descriptors());
    sender.send(PACKETS - WARM_UP);
    flow.wait_for_more(GOES_ON, SOON).unwrap();
    flow.finish().unwrap();
    let grown = b.process.resident_bytes().saturating_sub(memory);
    assert!(grown < GROWTH, "memory grew by {grown} bytes");
    assert!(b.process.descriptors() <= files + 2, "descriptors grew from {files}");
    let drops = b.status().unwrap()["drops"].clone();
    let total: u64 =
        drops.as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    assert!(total > u64::from(PACKETS) / 10, "few refusals were counted: {drops}");
    for reason in ["outer_malformed", "outer_oversized", "cid_forged"] {
        assert!(drops[reason].as_u64() > Some(0), "none counted as {reason}: {drops}");
    }
    eprintln!("refused on {}: {drops}", fixture.port);
    fixture.copy(4 * MIB, Family::V6);
}

/// Starts both nodes and takes the handshake and some traffic from the wire, to be mutated.
fn start_with_capture(fixture: &Fixture) -> (Vec<Vec<u8>>, (Node, Node)) {
    let file = fixture.bed.folder().join("samples.pcap");
    let log = fixture.bed.folder().join("tcpdump.log");
    let name = file.to_string_lossy().into_owned();
    let words = [
        "-i", "m-a", "-U", "-Z", "root", "-c", "500", "-w", &name, "ip6", "and", "udp", "port",
        "9292",
    ];
    let mut tcpdump =
        Process::spawn(&fixture.bed.middle, &log, Path::new("tcpdump"), words).unwrap();
    tcpdump.wait_for_log("listening on", SOON).unwrap();
    // The samples are taken, and sent again, over IPv6.
    let mut config = fixture.config();
    config.over(&[Family::V6]);
    let nodes = fixture.deployment.start_both(&config).unwrap();
    fixture.wait_for_sites(SOON);
    fixture.copy(MIB, Family::V6);
    tcpdump.wait_exit(SOON).unwrap();
    (payloads(&fs::read(&file).unwrap()), nodes)
}

/// The UDP payloads of a capture file: a header of 24 bytes, then for each packet one of 16 bytes with
/// the captured length at its byte 8.
fn payloads(capture: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = &capture[24..];
    while rest.len() > 16 {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        found.push(rest[16 + PAYLOAD..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    assert!(found.len() >= 100, "only {} packets were captured", found.len());
    found
}

struct Sender {
    socket: UdpSocket,
    target: SocketAddr,
    samples: Vec<Vec<u8>>,
    random: fastrand::Rng,
}

impl Sender {
    fn new(fixture: &Fixture, samples: Vec<Vec<u8>>) -> Self {
        let socket = fixture.bed.middle.enter(|| UdpSocket::bind("[::]:0")).unwrap().unwrap();
        let seed = fastrand::u64(..);
        eprintln!("hostile packets from seed {seed}");
        let random = fastrand::Rng::with_seed(seed);
        Self { socket, target: Side::B.endpoint(Family::V6), samples, random }
    }

    fn send(&mut self, count: u32) {
        let begin = Instant::now();
        for number in 1..=count {
            let packet = self.packet();
            // A full device is the kernel's way to pace; the packet is one of a million.
            let _ = self.socket.send_to(&packet, self.target);
            if number % BATCH == 0 {
                let due = begin + Duration::from_secs_f64(f64::from(number) / RATE_PER_S);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Random bytes, or a real packet with bits flipped, cut, or with bytes behind it; few are longer
    /// than any that is asked for.
    fn packet(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let kind = random.u8(..100);
        let len = if kind == 0 { random.usize(1500..LONGEST) } else { random.usize(..1400) };
        if kind < 30 {
            return std::iter::repeat_with(|| random.u8(..)).take(len).collect();
        }
        let mut packet = self.samples[random.usize(..self.samples.len())].clone();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..packet.len());
            packet[at] ^= 1 << random.u8(..8);
        }
        match kind {
            30..50 => packet.truncate(random.usize(..packet.len())),
            50..60 => packet.extend(std::iter::repeat_with(|| random.u8(..)).take(40)),
            _ => {}
        }
        packet
    }
}
