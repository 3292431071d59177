//! What a packet costs on its way from one site to the other, without the kernel: nanoseconds of processor
//! time of each stage, for full-size TCP segments that come and go as super-packets; and beside it bare
//! quiche.
//! `cargo bench -p stoqd --bench path`; a first argument sets how many super-packets wait in the
//! queue towards the link (default 8). With `--json FILE` it writes how long each stage took as a share
//! of bare quiche's time, round by round in turn, in the form that `stoq-perf compare` reads.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark has nobody to tell")]

mod bare;
mod edges;

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use edges::{Edge, SEGMENTS, Wire, super_packet};
use stoq::control::feature;

/// What the daemon uses, for quiche allocates for every packet.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Packets of a round: some 20 ms, short enough that some rounds are not interrupted.
const PACKETS: usize = SEGMENTS * 512;
/// Super-packets that wait, unless it is said otherwise.
const DEPTH: usize = 8;
/// The fastest round counts: other work on the machine only ever adds.
const ROUNDS: usize = 41;

/// Time spent in each stage.
#[derive(Clone, Copy, Debug, Default)]
struct Stages {
    segment: Duration,
    seal: Duration,
    open: Duration,
    coalesce: Duration,
    acknowledge: Duration,
}

impl Stages {
    fn each(&self) -> [(&'static str, Duration); 5] {
        [
            ("look up, cut, queue", self.segment),
            ("seal", self.seal),
            ("open", self.open),
            ("check, join", self.coalesce),
            ("acknowledgements", self.acknowledge),
        ]
    }

    fn total(&self) -> Duration {
        self.each().iter().map(|(_, time)| *time).sum()
    }
}

/// Time that a core has spent on this thread: what others do on it meanwhile does not count.
fn busy() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = busy();
    let result = work();
    *total += busy().saturating_sub(start);
    result
}

/// Sends `packets` packets with `depth` super-packets waiting, and returns what each stage took.
fn round(a: &mut Edge, b: &mut Edge, depth: usize, packets: usize) -> Stages {
    let (header, packet) = super_packet();
    let (mut there, mut back) = (Wire::new(), Wire::new());
    let mut stages = Stages::default();
    let (mut queued, mut arrived) = (0, 0);
    while arrived < packets {
        let now = Instant::now();
        a.endpoint.handle_timeout(now);
        b.endpoint.handle_timeout(now);
        timed(&mut stages.segment, || {
            while queued < packets && queued < arrived + depth * SEGMENTS {
                a.forward(header, &packet, now);
                queued += SEGMENTS;
            }
        });
        timed(&mut stages.seal, || there.fill(a, now));
        timed(&mut stages.open, || there.empty(a.address, b, now));
        arrived += timed(&mut stages.coalesce, || b.deliver(now));
        timed(&mut stages.acknowledge, || {
            back.fill(b, now);
            back.empty(b.address, a, now);
        });
    }
    stages
}

/// A round of bare quiche.
fn bare_round(a: &mut quiche::Connection, b: &mut quiche::Connection) -> bare::Costs {
    let mut costs = bare::Costs::default();
    for _ in 0..PACKETS / bare::BURST {
        bare::carry(a, b, || busy().as_nanos() as u64, &mut costs);
    }
    costs
}

/// How the super-packets cross the link.
const MODES: [(&str, u64); 2] = [("packets", 0), ("slices", feature::SLICED)];

/// Nanoseconds of our rounds and bare ones in turn, so that what else the machine does hits both alike:
/// for each the stages that bare quiche has too, and all.
fn in_turn(features: u64) -> Vec<[(&'static str, f64); 3]> {
    let (mut a, mut b) = edges::pair(features);
    let (mut bare_a, mut bare_b) = bare::pair();
    let share = |ours: Duration, bare: u64| ours.as_nanos() as f64 / bare.max(1) as f64;
    let mut both = || {
        let ours = round(&mut a, &mut b, DEPTH, PACKETS);
        let bare = bare_round(&mut bare_a, &mut bare_b);
        [
            ("seal", share(ours.segment + ours.seal, bare.seal)),
            ("open", share(ours.open + ours.coalesce, bare.open)),
            ("all", share(ours.total(), bare.seal + bare.open + bare.acknowledge)),
        ]
    };
    both();
    (0..ROUNDS).map(|_| both()).collect()
}

/// The shares as a result that `stoq-perf compare` reads.
fn write_json(file: &str) {
    let mut rows = Vec::new();
    for (mode, features) in MODES {
        let rounds = in_turn(features);
        for place in 0..rounds[0].len() {
            let runs: Vec<f64> = rounds.iter().map(|round| round[place].1).collect();
            let name = format!("{mode}/{}", rounds[0][place].0);
            rows.push(serde_json::json!({ "name": name, "figures": { "of_bare": runs } }));
        }
    }
    let result = serde_json::json!({ "benchmark": "path", "rounds": ROUNDS, "rows": rows });
    std::fs::write(file, format!("{result}\n")).unwrap();
}

/// Prints what each stage takes with these features.
fn print(mode: &str, features: u64, depth: usize) {
    let (mut a, mut b) = edges::pair(features);
    round(&mut a, &mut b, depth, PACKETS);
    let rounds = (0..ROUNDS).map(|_| round(&mut a, &mut b, depth, PACKETS));
    let best = rounds.min_by_key(Stages::total).unwrap();
    let each = |time: Duration| time.as_nanos() as f64 / PACKETS as f64;
    println!("in {mode}:");
    for (name, time) in best.each() {
        println!("{name:<26}{:8.0}", each(time));
    }
    println!("{:<26}{:8.0}", "all", each(best.total()));
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let file = words.iter().position(|word| word == "--json").and_then(|at| words.get(at + 1));
    if let Some(file) = file {
        return write_json(file);
    }
    let depth = words.iter().skip(1).find_map(|word| word.parse().ok()).unwrap_or(DEPTH);
    println!("ns per packet of 1400 bytes, {depth} super-packets waiting, best of {ROUNDS} rounds");
    MODES.iter().for_each(|(mode, features)| print(mode, *features, depth));
    let (mut a, mut b) = bare::pair();
    let rounds = (0..ROUNDS).map(|_| bare_round(&mut a, &mut b));
    let best = rounds.min_by_key(|costs| costs.seal + costs.open + costs.acknowledge).unwrap();
    let [seal, open, acknowledge] =
        [best.seal, best.open, best.acknowledge].map(|ns| ns / PACKETS as u64);
    println!("bare quiche: seal {seal}, open {open}, acknowledgements {acknowledge}");
}
