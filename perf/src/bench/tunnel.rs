//! `tunnel`: one TCP stream from edge to edge, and the latency beside it, through each subject, on
//! each shape of the wire. Rounds are interleaved, so that what the host does besides hits all alike;
//! a subject is started anew for each figure, so that none lives on what it learned from another
//! shape.

use super::report::{Cell, Report};
use super::{Host, Subject};
use crate::bed::{Bed, Shape, Side};
use crate::measure::iperf::{Load, Throughput, Transfer};
use crate::measure::ping::{self, Latency};
use crate::measure::stages::{self, StageTime};
use crate::peers::Running;
use crate::process::CpuTime;
use crate::{Result, workspace};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Seconds of each run before figures count: slow start and a bandwidth estimate take that long.
pub const WARM_UP_S: u32 = 1;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The subjects, in this order within a round.
    pub subjects: Vec<Subject>,
    /// The shapes of the wire.
    pub shapes: Vec<Shape>,
    /// Seconds of each run, after the warm-up.
    pub seconds: u32,
    /// Runs of each subject on each shape.
    pub rounds: u32,
    /// One cable between the edges instead of a bridge; then there are no shapes.
    pub direct: bool,
    /// Keys of `stoqd`'s configuration to set, with their values.
    pub settings: Vec<(String, String)>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The TCP stream.
    pub throughput: Throughput,
    /// Ping through the same path, at the same time.
    pub latency: Latency,
    /// CPU time of the tunnel's process on edge A, which sends, warm-up included.
    pub cpu_a: CpuTime,
    /// CPU time of the tunnel's process on edge B.
    pub cpu_b: CpuTime,
    /// Where the worker of `stoqd` on edge A spent its time; empty for other tunnels.
    pub stages_a: Vec<StageTime>,
    /// That of edge B.
    pub stages_b: Vec<StageTime>,
}

/// Runs the plan, prints the table, writes the JSON, and says how many runs failed.
///
/// # Errors
/// When the bed cannot be made or the result not be written. A subject that fails is reported and
/// left out.
pub fn run(plan: &Plan) -> Result<usize> {
    for subject in &plan.subjects {
        if let Subject::Peer(peer) = subject {
            peer.install()?;
        }
    }
    let host = Host::read();
    let bed = if plan.direct { Bed::direct()? } else { Bed::new()? };
    let mut report = Report::new(host, plan);
    for round in 1..=plan.rounds {
        for &shape in &plan.shapes {
            if !plan.direct {
                bed.shape(shape)?;
            }
            run_shape(&bed, plan, (round, shape), &mut report);
        }
    }
    print!("{}", report.table());
    let path = report.write(&output())?;
    println!("written to {}", path.display());
    Ok(report.failures())
}

fn run_shape(bed: &Bed, plan: &Plan, (round, shape): (u32, Shape), report: &mut Report) {
    for &subject in &plan.subjects {
        match measure(bed, subject, plan) {
            Ok((sample, about)) => {
                eprintln!(
                    "round {round} shape {shape} {subject}: {:.0} Mbit/s, ping p99 {:.2} ms",
                    sample.throughput.mbps, sample.latency.p99_ms
                );
                report.add(Cell { subject, shape }, sample, about);
            }
            Err(error) => {
                eprintln!("round {round} shape {shape} {subject}: FAILED: {error}");
                report.fail(Cell { subject, shape }, &error);
            }
        }
    }
}

/// One run of a subject: its figures, and what it says about itself.
pub(super) fn measure(bed: &Bed, subject: Subject, plan: &Plan) -> Result<(Sample, Value)> {
    let (running, about) = subject.start(bed, &plan.settings)?;
    let hosts = (&bed.a.namespace, &bed.b.namespace);
    let before = cpu_times(&running);
    let times = (WARM_UP_S, plan.seconds);
    let transfer = Transfer::start(hosts, running.target, Load::Tcp, times, bed.folder())?;
    // The load's first second is not measured, by either.
    thread::sleep(Duration::from_secs(WARM_UP_S.into()));
    let latency = ping::run(&bed.a.namespace, running.target, plan.seconds * ping::RATE_PER_S)?;
    let throughput = transfer.finish()?;
    let [cpu_a, cpu_b] = cpu_times(&running);
    let sample = Sample {
        throughput,
        latency,
        cpu_a: cpu_a.since(before[0]),
        cpu_b: cpu_b.since(before[1]),
        stages_a: stages::read(&bed.a.namespace),
        stages_b: stages::read(&bed.b.namespace),
    };
    Ok((sample, about))
}

fn cpu_times(running: &Running) -> [CpuTime; 2] {
    [Side::A, Side::B].map(|side| {
        let own = running.processes.iter().filter(|(edge, _)| *edge == side);
        own.map(|(_, process)| process.cpu_time()).sum()
    })
}

fn output() -> PathBuf {
    workspace::target().join("bench/tunnel.json")
}
