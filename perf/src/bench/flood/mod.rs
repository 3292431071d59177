//! `flood`: a TCP stream through the tunnel, offered 1 Gbit/s, while the tunnel's port is flooded at the
//! highest rate that one core sends, and while the same flood goes to a sink beside it. What the first
//! has of the second is what the flood costs beyond the core and the wire that it takes from all alike.
//!
//! Two floods: garbage, and valid Initials, which only STOQ gets. Rounds are interleaved, a subject is
//! started anew in each, and figures are medians.

mod report;

use super::{Host, Subject};
use crate::bed::{Bed, Family, STOQ_PORT, Side};
use crate::flood::{Arena, Kind, write_payloads};
use crate::measure::iperf::{Load, Transfer};
use crate::measure::ping;
use crate::node::{Deployment, LINK_UP, Node, NodeConfig};
use crate::peers::{self, Peer};
use crate::{Error, Result, workspace};
use report::{Aim, Cell, Report, Sample};
use serde::Serialize;
use std::collections::BTreeMap;
use std::env;
use std::net::IpAddr;
use std::path::PathBuf;

/// What the stream is offered, in Mbit/s.
const OFFERED_MBIT: u32 = 1000;

/// Seconds of each run before figures count.
const WARM_UP_S: u32 = 1;

/// What is measured by default.
pub const DEFAULT: [Subject; 3] =
    [Subject::Stoq("xdp"), Subject::Stoq("uring"), Subject::Peer(Peer::Gotatun)];

/// What a word on the command line means.
///
/// # Errors
/// The words that are known, when this one is not.
pub fn subject_named(word: &str) -> std::result::Result<Subject, String> {
    let can_be_flooded =
        |subject: &Subject| matches!(subject, Subject::Stoq(_) | Subject::Peer(Peer::Gotatun));
    let found = Subject::named(word)?.into_iter().find(can_be_flooded);
    found.ok_or_else(|| format!("expected xdp, uring, mio or gotatun, got `{word}`"))
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The subjects, in this order within a round.
    pub subjects: Vec<Subject>,
    /// Seconds of each run, after the warm-up.
    pub seconds: u32,
    /// Runs of each.
    pub rounds: u32,
}

/// What `stoqd` on the flooded edge says of itself.
#[derive(Clone, Debug, Default, Serialize)]
struct State {
    /// State of the link.
    link: String,
    /// Packets dropped by reason.
    drops: BTreeMap<String, u64>,
    /// Retry packets sent.
    retries: u64,
    /// Memory in bytes.
    resident_bytes: u64,
}

/// A tunnel that is flooded.
enum Running {
    /// Both daemons; they end when dropped.
    Stoq {
        _a: Box<Node>,
        b: Box<Node>,
    },
    Peer(peers::Running),
}

impl Running {
    fn start(subject: Subject, bed: &Bed) -> Result<Self> {
        match subject {
            Subject::Stoq(port) => {
                let mut config = NodeConfig::new(port);
                config.over(&[Family::V6]);
                let (a, b) = Deployment::new(bed)?.start_both(&config)?;
                ping::wait_for_answer(&bed.a.namespace, Side::B.tunnel(Family::V4), LINK_UP)?;
                Ok(Self::Stoq { _a: Box::new(a), b: Box::new(b) })
            }
            Subject::Peer(peer) => Ok(Self::Peer(peer.start(bed)?)),
            Subject::NoTunnel => Err(Error::Missing {
                program: "a tunnel to flood".to_owned(),
                advice: "choose another subject".to_owned(),
            }),
        }
    }

    fn target(&self) -> IpAddr {
        match self {
            Self::Stoq { .. } => Side::B.tunnel(Family::V4),
            Self::Peer(running) => running.target,
        }
    }

    /// The UDP port that it listens on.
    fn port(&self) -> u16 {
        match self {
            Self::Stoq { .. } => STOQ_PORT,
            Self::Peer(_) => peers::GOTATUN_PORT,
        }
    }

    fn floods(&self) -> &'static [Kind] {
        match self {
            Self::Stoq { .. } => &[Kind::Garbage, Kind::Initials],
            Self::Peer(_) => &[Kind::Garbage],
        }
    }

    fn state(&self) -> Result<State> {
        let b = match self {
            Self::Stoq { b, .. } => b,
            Self::Peer(running) => {
                let own = running.processes.iter().filter(|(side, _)| *side == Side::B);
                let resident_bytes = own.map(|(_, process)| process.resident_bytes()).sum();
                return Ok(State { resident_bytes, ..State::default() });
            }
        };
        let status = b.status()?;
        let drops = status["drops"].as_object().into_iter().flatten();
        Ok(State {
            link: status["links"][0]["state"].as_str().unwrap_or_default().to_owned(),
            drops: drops.filter_map(|(k, v)| Some((k.clone(), v.as_u64()?))).collect(),
            retries: retries(&b.metrics()?),
            resident_bytes: b.process.resident_bytes(),
        })
    }
}

/// Retry packets that all workers have sent, from the metrics.
fn retries(metrics: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with("stoq_worker_retries_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Runs the plan, prints the table, writes the JSON, and says how many runs failed.
///
/// # Errors
/// When the bed cannot be made or the result not be written. A run that fails is reported and left out.
pub fn run(plan: &Plan) -> Result<usize> {
    for subject in &plan.subjects {
        if let Subject::Peer(peer) = subject {
            peer.install()?;
        }
    }
    let host = Host::read();
    let bed = Bed::new()?;
    let arena = Arena::new(&bed)?;
    for kind in [Kind::Garbage, Kind::Initials] {
        write_payloads(kind, &payloads(&bed, kind))?;
    }
    let mut report = Report::new(host, plan);
    for round in 1..=plan.rounds {
        for &subject in &plan.subjects {
            if let Err(error) = run_subject((&bed, &arena), plan, (round, subject), &mut report) {
                eprintln!("round {round} {subject}: FAILED: {error}");
                report.fail(&subject.to_string(), &error);
            }
        }
    }
    print!("{}", report.table());
    let path = report.write(&workspace::target().join("bench/flood.json"))?;
    println!("written to {}", path.display());
    Ok(report.failures())
}

fn run_subject(
    (bed, arena): (&Bed, &Arena<'_>),
    plan: &Plan,
    (round, subject): (u32, Subject),
    report: &mut Report,
) -> Result<()> {
    let running = Running::start(subject, bed)?;
    // Every second round begins with the other aim: what changes with time hits both alike.
    let mut aims = [Aim::Sink, Aim::Tunnel];
    aims.rotate_left((round % 2) as usize);
    for &kind in running.floods() {
        for aim in aims {
            let cell = Cell { subject, kind, aim };
            match measure((bed, arena), plan, &running, cell) {
                Ok(sample) => {
                    eprintln!("round {round} {cell}: {sample}");
                    report.add(cell, sample);
                }
                Err(error) => {
                    eprintln!("round {round} {cell}: FAILED: {error}");
                    report.fail(&cell.to_string(), &error);
                }
            }
        }
    }
    Ok(())
}

fn measure(
    (bed, arena): (&Bed, &Arena<'_>),
    plan: &Plan,
    running: &Running,
    cell: Cell,
) -> Result<Sample> {
    let before = running.state()?;
    let program = env::current_exe().map_err(Error::io("find this program"))?;
    let (file, port) = (payloads(bed, cell.kind), running.port());
    let flood = match cell.aim {
        Aim::Sink => arena.sink(&program, &file, port)?,
        Aim::Tunnel => arena.edge_b(&program, &file, port)?,
    };
    let hosts = (&bed.a.namespace, &bed.b.namespace);
    let (load, times) = (Load::TcpAt(OFFERED_MBIT), (WARM_UP_S, plan.seconds));
    let transfer = Transfer::start(hosts, running.target(), load, times, bed.folder())?;
    let throughput = transfer.finish()?;
    let flooded = flood.progress()?;
    drop(flood);
    let after = running.state()?;
    let flood_pps = flooded.rate_since(&crate::flood::Progress::default());
    Ok(Sample { throughput, flood_pps, before, after })
}

fn payloads(bed: &Bed, kind: Kind) -> PathBuf {
    bed.folder().join(format!("{}.payloads", kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        assert_eq!(subject_named("uring"), Ok(Subject::Stoq("uring")));
        assert_eq!(subject_named("gotatun"), Ok(Subject::Peer(Peer::Gotatun)));
        assert!(subject_named("none").unwrap_err().contains("gotatun"));
    }

    #[test]
    fn retries_of_all_workers_are_one_sum() {
        let text = "# TYPE stoq_worker_retries counter\n\
                    stoq_worker_retries_total{worker=\"0\"} 3\nstoq_worker_retries_total{worker=\"1\"} 4\n";
        assert_eq!(retries(text), 7);
    }
}
