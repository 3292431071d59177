//! One load through a subject that carries packets, ping beside it, and what both cost in processor
//! time. The benchmarks of tiers, ports and workers measure with it.

use crate::bed::{Bed, Side, WAN};
use crate::measure::iperf::{Load, Throughput, Transfer};
use crate::measure::ping::{self, Latency};
use crate::measure::stages::{self, StageTime};
use crate::peers::Running;
use crate::process::CpuTime;
use crate::{Error, Result};
use serde::Serialize;
use std::thread;
use std::time::{Duration, Instant};

/// Seconds of each run before figures count: slow start and a bandwidth estimate take that long.
pub const WARM_UP_S: u32 = 1;

/// Packets of ping that are left out of a run, so that the last of them goes while the load still does.
const PING_MARGIN: u32 = ping::RATE_PER_S / 5;

/// Bytes of a second at one Mbit/s.
const BYTES_PER_MBIT: f64 = 125_000.0;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The load.
    pub throughput: Throughput,
    /// Ping through the same path, at the same time.
    pub latency: Latency,
    /// CPU time of the tunnel's process on edge A, which sends, warm-up included.
    pub cpu_a: CpuTime,
    /// CPU time of the tunnel's process on edge B.
    pub cpu_b: CpuTime,
    /// CPU seconds of the tunnel's processes on both edges for a gigabyte (10^9 bytes) of what the load
    /// delivered, taken while it ran at its speed; zero where there is no tunnel.
    pub cpu_s_per_gb: f64,
    /// Where the worker of `stoqd` on edge A spent its time; empty for other tunnels.
    pub stages_a: Vec<StageTime>,
    /// That of edge B.
    pub stages_b: Vec<StageTime>,
}

/// Puts `load` from edge A to edge B through what runs, for `seconds` after the warm-up.
///
/// # Errors
/// When iperf3 or ping fails, or nothing passes.
pub fn run(bed: &Bed, running: &Running, load: Load, seconds: u32) -> Result<Sample> {
    let hosts = (&bed.a.namespace, &bed.b.namespace);
    let before = cpu_times(running);
    let times = (WARM_UP_S, seconds);
    let transfer = Transfer::start(hosts, running.target, load, times, bed.folder())?;
    // The load's first second is not measured, by either.
    thread::sleep(Duration::from_secs(WARM_UP_S.into()));
    let (begin, busy) = (Instant::now(), busy(running));
    let pings = (seconds * ping::RATE_PER_S).saturating_sub(PING_MARGIN);
    let latency = ping::run(&bed.a.namespace, running.target, pings)?;
    let (busy, window) = (self::busy(running).saturating_sub(busy), begin.elapsed());
    let throughput = transfer.finish()?;
    let [cpu_a, cpu_b] = cpu_times(running);
    let bytes = throughput.mbps * BYTES_PER_MBIT * window.as_secs_f64();
    Ok(Sample {
        cpu_s_per_gb: busy.as_secs_f64() * 1e9 / bytes.max(1.0),
        throughput,
        latency,
        cpu_a: cpu_a.since(before[0]),
        cpu_b: cpu_b.since(before[1]),
        stages_a: stages::read(&bed.a.namespace),
        stages_b: stages::read(&bed.b.namespace),
    })
}

fn cpu_times(running: &Running) -> [CpuTime; 2] {
    [Side::A, Side::B].map(|side| {
        let own = running.processes.iter().filter(|(edge, _)| *edge == side);
        own.map(|(_, process)| process.cpu_time()).sum()
    })
}

/// Processor time so far of everything that runs for the subject, on both edges.
fn busy(running: &Running) -> Duration {
    running.processes.iter().map(|(_, process)| process.busy()).sum()
}

/// Frames that an edge has put on the wire so far, whichever way.
///
/// # Errors
/// [`Error::Output`] when the kernel does not say.
pub fn frames(bed: &Bed, side: Side) -> Result<u64> {
    let path = format!("/sys/class/net/{WAN}/statistics/tx_packets");
    let text = bed.edge(side).namespace.run("cat", [path])?;
    text.trim().parse().map_err(|_| Error::Output {
        what: "the frames sent".to_owned(),
        expected: "a number".to_owned(),
        got: text,
    })
}
