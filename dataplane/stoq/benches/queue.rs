//! What a packet costs in the queue towards a link: enqueue and dequeue together, in nanoseconds.
//! `cargo bench -p stoq --bench queue`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use stoq::queue::{FqCodel, QueueConfig, Queued};
use stoq_telemetry::DropReason;

/// As large as a packet buffer's handle.
struct Item([usize; 4]);

impl Queued for Item {
    fn len_bytes(&self) -> usize {
        self.0[0]
    }

    fn mark_ce(&mut self) -> bool {
        false
    }
}

fn discard(item: Item, _: DropReason) {
    black_box(item);
}

/// Packets of a run: about 10 ms, short enough that some runs are not interrupted.
const PACKETS: u32 = 256 * 1024;
/// Packets fed and then taken at a time.
const BURST: u32 = 64;
/// Runs of each case. The fastest counts: other work on the machine only ever adds.
const RUNS: usize = 51;

/// A queue that is served as fast as it is fed, in bursts; `standing` packets wait all the time.
fn served(flows: u32, standing: u32) -> f64 {
    let mut queue = FqCodel::new(QueueConfig::default());
    let mut now = Instant::now();
    let mut number = 0_u32;
    let mut feed = |queue: &mut FqCodel<Item>, count: u32, now: Instant| {
        for _ in 0..count {
            number = number.wrapping_add(1);
            let hash = (number % flows).wrapping_mul(0x85eb_ca6b);
            queue.enqueue(Item([1400; 4]), hash, now, discard);
        }
    };
    feed(&mut queue, standing, now);
    let started = Instant::now();
    for _ in 0..PACKETS / BURST {
        now += Duration::from_micros(50);
        feed(&mut queue, BURST, now);
        for _ in 0..BURST {
            black_box(queue.dequeue(now, discard));
        }
    }
    started.elapsed().as_nanos() as f64 / f64::from(PACKETS)
}

/// A full queue that is only fed, by flows that never repeat: each packet has to displace another.
fn flooded() -> f64 {
    let mut queue = FqCodel::new(QueueConfig::default());
    let now = Instant::now();
    let mut random = fastrand::Rng::with_seed(1);
    let mut feed = |count: u32| {
        for _ in 0..count {
            let item = Item([random.usize(64..1500); 4]);
            queue.enqueue(item, random.u32(..), now, discard);
        }
    };
    feed(100_000);
    let started = Instant::now();
    feed(PACKETS);
    started.elapsed().as_nanos() as f64 / f64::from(PACKETS)
}

fn report(name: &str, run: impl Fn() -> f64) {
    let mut times: Vec<f64> = (0..RUNS).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[RUNS / 2]);
    println!("{name:<36} {best:>6.1} ns/packet, median {median:>6.1}, of {RUNS} runs");
}

fn main() {
    report("one flow", || served(1, 0));
    report("one flow, 256 packets standing", || served(1, 256));
    report("64 flows", || served(64, 0));
    report("1000 flows, 3000 packets standing", || served(1000, 3000));
    report("flood of random flows, queue full", flooded);
}
