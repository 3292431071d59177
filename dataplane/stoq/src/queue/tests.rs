//! Tests of the queue, most of them by simulation: sources, a bottleneck that takes time for each
//! byte, and a clock of nanoseconds. A seed makes each run repeatable.

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// A packet of the simulation.
#[derive(Clone, Debug, PartialEq)]
struct Packet {
    flow: u32,
    number: u64,
    len: usize,
    sent_ns: u64,
    ecn_capable: bool,
    marked: bool,
}

impl Packet {
    fn new(flow: u32, number: u64, len: usize, sent_ns: u64) -> Self {
        Self { flow, number, len, sent_ns, ecn_capable: false, marked: false }
    }
}

impl Queued for Packet {
    fn len_bytes(&self) -> usize {
        self.len
    }

    fn mark_ce(&mut self) -> bool {
        self.marked = self.ecn_capable;
        self.marked
    }
}

/// Sends packets of one length, evenly.
struct Source {
    flow: u32,
    len: usize,
    every_ns: u64,
    next_ns: u64,
}

impl Source {
    fn new(flow: u32, len: usize, bps: u64) -> Self {
        let every_ns = len as u64 * 8 * SECOND / bps;
        Self { flow, len, every_ns, next_ns: u64::from(flow) * 7919 }
    }
}

/// A queue in front of a bottleneck.
struct Bottleneck {
    queue: FqCodel<Packet>,
    start: Instant,
    bps: u64,
    free_ns: u64,
    sent: u64,
    dropped: Vec<(Packet, DropReason)>,
}

impl Bottleneck {
    fn new(bps: u64, config: QueueConfig) -> Self {
        let queue = FqCodel::new(config);
        Self { queue, start: Instant::now(), bps, free_ns: 0, sent: 0, dropped: Vec::new() }
    }

    fn at(&self, ns: u64) -> Instant {
        self.start + Duration::from_nanos(ns)
    }

    fn offer(&mut self, mut packet: Packet) {
        packet.number = self.sent;
        self.sent += 1;
        // The service of an idle bottleneck begins with the packet that comes.
        if self.queue.is_empty() {
            self.free_ns = self.free_ns.max(packet.sent_ns);
        }
        let (now, flow, dropped) = (self.at(packet.sent_ns), packet.flow, &mut self.dropped);
        self.queue.enqueue(packet, flow, now, |p, why| dropped.push((p, why)));
    }

    /// Serves until `until_ns`; calls `delivered` with each packet and the time it is through.
    fn serve(&mut self, until_ns: u64, mut delivered: impl FnMut(Packet, u64)) {
        while self.free_ns <= until_ns && !self.queue.is_empty() {
            let (now, dropped) = (self.at(self.free_ns), &mut self.dropped);
            let Some(packet) = self.queue.dequeue(now, |p, why| dropped.push((p, why))) else {
                return;
            };
            self.free_ns += packet.len as u64 * 8 * SECOND / self.bps;
            delivered(packet, self.free_ns);
        }
    }

    /// Runs the sources for a time.
    fn run(&mut self, sources: &mut [Source], for_ns: u64, mut delivered: impl FnMut(Packet, u64)) {
        while let Some(source) = sources.iter_mut().min_by_key(|s| s.next_ns) {
            let now_ns = source.next_ns;
            if now_ns > for_ns {
                return;
            }
            source.next_ns += source.every_ns;
            let packet = Packet::new(source.flow, 0, source.len, now_ns);
            self.serve(now_ns, &mut delivered);
            self.offer(packet);
        }
    }
}

#[test]
fn a_sparse_flow_does_not_wait_for_a_bulk_flow() {
    // 10 Mbit/s, of which a bulk flow asks for twice as much and a sparse one for 160 kbit/s.
    let mut bottleneck = Bottleneck::new(10_000_000, QueueConfig::default());
    let mut sources = [Source::new(1, 1500, 20_000_000), Source::new(2, 200, 160_000)];
    let (mut delivered, mut worst_ns) = (0, 0);
    bottleneck.run(&mut sources, 10 * SECOND, |packet, now_ns| {
        if packet.flow == 2 {
            delivered += 1;
            worst_ns = worst_ns.max(now_ns - packet.sent_ns);
        }
    });
    // At worst, at the start, the bulk flow is new as well and sends two packets of 1.2 ms first.
    assert!(worst_ns < 3 * MS, "the sparse flow waited {worst_ns} ns");
    assert!(delivered >= 990, "{delivered} of 1000 were delivered");
    assert!(bottleneck.dropped.iter().all(|(packet, _)| packet.flow == 1));
    assert!(bottleneck.dropped.iter().any(|(_, why)| *why == DropReason::CodelDrop));
}

#[test]
fn flows_get_equal_shares_whatever_they_send() {
    let mut bottleneck = Bottleneck::new(100_000_000, QueueConfig::default());
    // Each asks for more than its eighth, in packets of 100 to 1500 bytes.
    let rate = |flow: u32| 15_000_000 + u64::from(flow) * 10_000_000;
    let mut sources: Vec<_> =
        (0..8).map(|flow| Source::new(flow, 100 + 200 * flow as usize, rate(flow))).collect();
    let mut bytes = [0; 8];
    bottleneck.run(&mut sources, 4 * SECOND, |packet, _| bytes[packet.flow as usize] += packet.len);
    let share: usize = bytes.iter().sum::<usize>() / 8;
    for (flow, got) in bytes.iter().enumerate() {
        let off = got.abs_diff(share);
        assert!(off * 50 < share, "flow {flow} got {got} bytes where {share} is fair");
    }
    assert!(share * 8 * 8 > 99_000_000 * 4, "the bottleneck idled: {share}");
}

#[test]
fn a_sender_that_reacts_is_held_near_the_target() {
    // A window that grows by one in a round trip and halves with a signal, over 50 Mbit/s and 20 ms.
    for ecn_capable in [false, true] {
        let (late, bytes, signals) = responsive_flow(ecn_capable);
        let mean_ms = late.iter().sum::<u64>() / late.len() as u64 / MS;
        assert!(mean_ms < 10, "mean delay {mean_ms} ms, ECN {ecn_capable}");
        let used = bytes as f64 * 8.0 / (20.0 * 50e6);
        assert!(used > 0.85, "utilisation {used}, ECN {ecn_capable}");
        assert!(signals > 5, "{signals} signals, ECN {ecn_capable}");
    }
}

/// Delays in the second half, bytes through in 20 s, and how often the sender was signalled.
fn responsive_flow(ecn_capable: bool) -> (Vec<u64>, usize, usize) {
    const RTT_NS: u64 = 20 * MS;
    let mut bottleneck = Bottleneck::new(50_000_000, QueueConfig::default());
    let (mut window, mut in_flight, mut calm_until) = (10.0_f64, 0.0, 0);
    let (mut delays, mut bytes, mut signals) = (Vec::new(), 0, 0);
    let mut acks = std::collections::VecDeque::new();
    for now_ns in (0..20 * SECOND).step_by(100_000) {
        bottleneck.serve(now_ns, |packet, done_ns| {
            bytes += packet.len;
            acks.push_back((done_ns + RTT_NS, packet.marked));
            if now_ns > 10 * SECOND {
                delays.push(done_ns - packet.sent_ns);
            }
        });
        let lost = bottleneck.dropped.drain(..).count();
        assert!(lost == 0 || !ecn_capable, "an ECN flow lost packets");
        in_flight -= lost as f64;
        let mut signalled = lost > 0;
        while acks.front().is_some_and(|&(at, _)| at <= now_ns) {
            signalled |= acks.pop_front().is_some_and(|(_, marked)| marked);
            in_flight -= 1.0;
            window += 1.0 / window;
        }
        if signalled && now_ns >= calm_until {
            window = (window / 2.0).max(2.0);
            calm_until = now_ns + RTT_NS;
            signals += 1;
        }
        while in_flight < window.floor() {
            let packet = Packet { ecn_capable, ..Packet::new(1, 0, 1500, now_ns) };
            bottleneck.offer(packet);
            in_flight += 1.0;
        }
    }
    (delays, bytes, signals)
}

#[test]
fn memory_is_bounded_under_a_flood_of_random_flows() {
    let config = QueueConfig { max_packets: 1000, max_bytes: 600_000, ..QueueConfig::default() };
    let mut bottleneck = Bottleneck::new(1_000_000, config);
    let mut random = fastrand::Rng::with_seed(7);
    let mut delivered = 0_u64;
    for i in 0..200_000 {
        let packet = Packet::new(random.u32(..), i, random.usize(0..1500), i * 1000);
        bottleneck.serve(i * 1000, |_, _| delivered += 1);
        bottleneck.offer(packet);
        assert!(bottleneck.queue.packets() <= 1000);
        assert!(bottleneck.queue.bytes() <= 600_000);
    }
    assert!(bottleneck.queue.store.high_water() <= 1000);
    bottleneck.serve(u64::MAX / 2, |_, _| delivered += 1);
    assert_eq!(delivered + bottleneck.dropped.len() as u64, 200_000);
    assert_eq!((bottleneck.queue.packets(), bottleneck.queue.bytes()), (0, 0));
}

#[test]
fn the_fattest_flow_pays_when_the_queue_is_full() {
    let config = QueueConfig { max_packets: 100, ..QueueConfig::default() };
    let mut bottleneck = Bottleneck::new(1_000_000, config);
    (0..95).for_each(|_| bottleneck.offer(Packet::new(1, 0, 1000, 0)));
    (0..15).for_each(|_| bottleneck.offer(Packet::new(2, 0, 1000, 0)));
    let lost: Vec<_> = bottleneck.dropped.iter().map(|(p, why)| (p.flow, p.number, *why)).collect();
    // One batch: half of the fat flow, from its head.
    let expected: Vec<_> = (0..48).map(|number| (1, number, DropReason::QueueFull)).collect();
    assert_eq!(lost, expected);
    assert_eq!(bottleneck.queue.packets(), 110 - 48);
}

#[test]
fn an_item_larger_than_the_queue_is_refused() {
    let config = QueueConfig { max_bytes: 1000, ..QueueConfig::default() };
    let mut bottleneck = Bottleneck::new(1_000_000, config);
    bottleneck.offer(Packet::new(1, 0, 400, 0));
    bottleneck.offer(Packet::new(1, 0, 1001, 0));
    assert_eq!(bottleneck.dropped.len(), 1);
    assert_eq!(bottleneck.dropped[0].1, DropReason::QueueFull);
    assert_eq!(bottleneck.queue.bytes(), 400);
}

#[test]
fn a_flow_that_comes_back_is_not_served_twice_before_the_others() {
    // Flow 1 sends its next packet whenever one was taken; flow 2 has a queue. Without the turn
    // through the old line flow 2 would never be served.
    let mut bottleneck = Bottleneck::new(1_000_000, QueueConfig::default());
    (0..100).for_each(|_| bottleneck.offer(Packet::new(2, 0, 1000, 0)));
    let mut bulk = 0;
    for _ in 0..100 {
        bottleneck.offer(Packet::new(1, 0, 1000, 0));
        let now = bottleneck.start;
        let packet = bottleneck.queue.dequeue(now, |_, _| ()).unwrap();
        bulk += usize::from(packet.flow == 2);
    }
    assert!((40..=60).contains(&bulk), "{bulk} of 100 turns went to the waiting flow");
}

#[test]
fn hashes_that_chose_the_connection_still_spread_over_all_flows() {
    let queue = FqCodel::<Packet>::new(QueueConfig::default());
    for step in [1, 4, 64] {
        let mut used = [false; 1024];
        (0..100_000_u32)
            .for_each(|i| used[usize::from(queue.index_of(i * step + 3 % step))] = true);
        let count = used.iter().filter(|&&u| u).count();
        assert!(count > 1000, "{count} flows used at step {step}");
    }
    let top = |i: u32| usize::from(queue.index_of(3 << 30 | i));
    let used: std::collections::HashSet<_> = (0..100_000).map(top).collect();
    assert!(used.len() > 1000, "{} flows used", used.len());
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue { flow: u32, len: usize },
    Dequeue,
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let enqueue = (0..6_u32, 0..3000_usize).prop_map(|(flow, len)| Step::Enqueue { flow, len });
    let wait = (0..60_u64).prop_map(|ms| Step::Wait { ms });
    prop::collection::vec(prop_oneof![4 => enqueue, 3 => Just(Step::Dequeue), 1 => wait], 0..400)
}

proptest! {
    #[test]
    fn every_item_comes_out_once_and_each_flow_in_order(steps in steps(), flows in 1..8_u16) {
        let config = QueueConfig { flows, max_packets: 20, max_bytes: 20_000, ..Default::default() };
        let mut queue = FqCodel::new(config);
        let mut now = Instant::now();
        let (mut out, mut lost, mut sent) = (Vec::new(), 0, 0);
        for step in steps {
            match step {
                Step::Enqueue { flow, len } => {
                    queue.enqueue(Packet::new(flow, sent, len, 0), flow, now, |_, _| lost += 1);
                    sent += 1;
                }
                Step::Dequeue => out.extend(queue.dequeue(now, |_, _| lost += 1)),
                Step::Wait { ms } => now += Duration::from_millis(ms),
            }
        }
        while let Some(packet) = queue.dequeue(now, |_, _| lost += 1) {
            out.push(packet);
        }
        prop_assert!(queue.is_empty() && queue.bytes() == 0);
        prop_assert_eq!(out.len() as u64 + lost, sent);
        for flow in 0..6 {
            let numbers: Vec<_> = out.iter().filter(|p| p.flow == flow).map(|p| p.number).collect();
            prop_assert!(numbers.is_sorted_by(|a, b| a < b), "flow {}: {:?}", flow, numbers);
        }
    }
}
