//! `port`: packets per second and processor time per packet of each port, sending and receiving, small
//! and full-size, over one cable between two hosts; and of the whole path of a packet, the tunnel on
//! each port on the same cable.
//!
//! Each end is a process of its own, pinned to a core of its own as a worker is. Rounds are interleaved,
//! and figures are medians.

mod end;
mod report;

use super::{Host, Subject, stream};
use crate::bed::{Bed, Family, Side, hardware_address};
use crate::bypass::parse_address;
use crate::measure::iperf::Load;
use crate::node::core_of;
use crate::process::Process;
use crate::{Error, Result};
use end::{EndSpec, Figures, READY, Role};
use report::{Cell, Report, Sample, TunnelSample};
use serde::{Deserialize, Serialize};
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use stoq_port::PortKind;

pub use end::run as end;

/// Bytes of the datagrams: the smallest of the usual measurements, and a full-size one of the tunnel.
const SIZES: [usize; 2] = [64, 1400];

/// How long an end may take to open its port: a lane's queue may be busy for a second.
const OPEN: Duration = Duration::from_secs(10);

/// How long an end may take beyond its run.
const SLACK: Duration = Duration::from_secs(15);

/// How packets are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    way: Way,
    /// Threads of their own receive for both interfaces (threaded NAPI).
    napi: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    /// `sendmmsg` and `recvmmsg`, a packet at a time: the baseline.
    Plain,
    Mio,
    Uring,
    Xdp,
}

impl Transport {
    /// All that are measured by default, the baseline first.
    pub const ALL: [Self; 6] = [
        Self { way: Way::Plain, napi: false },
        Self { way: Way::Plain, napi: true },
        Self { way: Way::Mio, napi: false },
        Self { way: Way::Uring, napi: false },
        Self { way: Way::Xdp, napi: false },
        Self { way: Way::Xdp, napi: true },
    ];

    /// What a word on the command line means.
    ///
    /// # Errors
    /// The words that are known, when this one is not.
    pub fn named(word: &str) -> std::result::Result<Self, String> {
        let ways = [Way::Plain, Way::Mio, Way::Uring, Way::Xdp];
        let mut all = ways.iter().flat_map(|&way| [false, true].map(|napi| Self { way, napi }));
        all.find(|transport| transport.to_string() == word).ok_or_else(|| {
            format!("expected plain, mio, uring or xdp, with +napi or without, got `{word}`")
        })
    }

    fn is_plain(self) -> bool {
        self.way == Way::Plain
    }

    fn kind(self) -> PortKind {
        match self.way {
            Way::Plain | Way::Mio => PortKind::Mio,
            Way::Uring => PortKind::Uring,
            Way::Xdp => PortKind::Xdp,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.way {
            Way::Plain => "plain",
            Way::Mio => "mio",
            Way::Uring => "uring",
            Way::Xdp => "xdp",
        })?;
        f.write_str(if self.napi { "+napi" } else { "" })
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The transports, in this order within a round.
    pub transports: Vec<Transport>,
    /// Seconds of each run.
    pub seconds: u32,
    /// Runs of each.
    pub rounds: u32,
    /// Also the tunnel on each port.
    pub tunnel: bool,
    /// Where the JSON goes.
    pub output: PathBuf,
}

/// Runs the plan, prints the table, writes the JSON, and says how many runs failed.
///
/// # Errors
/// When the bed cannot be made or the result not be written. A run that fails is reported and left out.
pub fn run(plan: &Plan) -> Result<usize> {
    let host = Host::read();
    let bed = Bed::direct()?;
    let mut report = Report::new(host, plan);
    for round in 1..=plan.rounds {
        for len in SIZES {
            ports(&bed, plan, (round, len), &mut report);
        }
        if plan.tunnel {
            tunnels(&bed, plan, round, &mut report);
        }
    }
    print!("{}", report.table());
    let path = report.write(&plan.output)?;
    println!("written to {}", path.display());
    Ok(report.failures())
}

/// Every transport once, with datagrams of this size.
fn ports(bed: &Bed, plan: &Plan, (round, len): (u32, usize), report: &mut Report) {
    for &transport in &plan.transports {
        let cell = Cell { transport, len };
        match measure(bed, plan, cell) {
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

/// One run: the receiver first, then the sender.
fn measure(bed: &Bed, plan: &Plan, cell: Cell) -> Result<Sample> {
    let mut receiver = start(bed, plan, cell, Role::Receive)?;
    receiver.wait_for_log(READY, OPEN)?;
    let mut sender = start(bed, plan, cell, Role::Send)?;
    let limit = Duration::from_secs(plan.seconds.into()) + SLACK;
    let sent = finish(&mut sender, limit)?;
    let received = finish(&mut receiver, SLACK)?;
    Ok(Sample { sent, received })
}

fn finish(end: &mut Process, limit: Duration) -> Result<Figures> {
    let status = end.wait_exit(limit)?;
    if !status.success() {
        return Err(end.failed(&status.to_string()));
    }
    Figures::parse(&end.log())
}

fn start(bed: &Bed, plan: &Plan, cell: Cell, role: Role) -> Result<Process> {
    let side = if role == Role::Send { Side::A } else { Side::B };
    let far = side.other();
    let far_link = parse_address(&hardware_address(&bed.edge(far).namespace)?).unwrap_or_default();
    let spec = EndSpec {
        role,
        transport: cell.transport,
        len: cell.len,
        run_ms: u64::from(plan.seconds) * 1000,
        core: core_of(side),
        own: side.wan(Family::V6),
        far: far.wan(Family::V6),
        far_link,
    };
    let words = ["port-end".to_owned(), serde_json::json!(spec).to_string()];
    let program = env::current_exe().map_err(Error::io("find this program"))?;
    let log = bed.folder().join(format!("end-{}.log", side.letter()));
    Process::spawn(&bed.edge(side).namespace, &log, &program, words)
}

/// The tunnel on each port: what a packet costs when it is also read, sealed, opened and written.
fn tunnels(bed: &Bed, plan: &Plan, round: u32, report: &mut Report) {
    let subjects = ["mio", "uring", "xdp"].map(Subject::Stoq);
    for subject in subjects {
        match measure_tunnel(bed, subject, plan.seconds) {
            Ok(sample) => {
                eprintln!("round {round} {subject}: {sample}");
                report.add_tunnel(subject, sample);
            }
            Err(error) => {
                eprintln!("round {round} {subject}: FAILED: {error}");
                report.fail(&subject.to_string(), &error);
            }
        }
    }
}

fn measure_tunnel(bed: &Bed, subject: Subject, seconds: u32) -> Result<TunnelSample> {
    let before = stream::frames(bed, Side::A)?;
    let (running, about) = subject.start(bed, &[])?;
    let sample = stream::run(bed, &running, Load::Tcp, seconds)?;
    let frames = stream::frames(bed, Side::A)?.saturating_sub(before);
    Ok(TunnelSample { sample, frames, about })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        for transport in Transport::ALL {
            assert_eq!(Transport::named(&transport.to_string()), Ok(transport));
        }
        assert!(Transport::named("dpdk").unwrap_err().contains("uring"));
    }
}
