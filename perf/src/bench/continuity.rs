//! `continuity`: what traffic notices of what an operator does routinely, on each port.

use super::results;
use super::{Host, results::table};
use crate::bed::{Bed, Side};
use crate::continuity::{Event, Noticed, Trial};
use crate::measure::iperf::Load;
use crate::node::{Deployment, NodeConfig};
use crate::{Result, workspace};
use serde_json::{Value, json};

/// Requests that are answered before anything is done: as many as two rounds take.
const QUIET: u64 = 2000;

/// Most changes to another build: there and back on each node.
const BUILDS_MAX: u32 = 4;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which ports.
    pub ports: Vec<String>,
    /// What is done, each by itself.
    pub events: Vec<Event>,
    /// How often, on each node in turn; another build, [`BUILDS_MAX`] times at most.
    pub rounds: u32,
    /// Mbit/s of the TCP stream.
    pub rate: u32,
}

/// Runs it, prints the table, and writes `target/bench/continuity.json`. Gives how many trials failed, or
/// were noticed by more than is promised.
///
/// # Errors
/// When the bed cannot be made or the result not written. A trial that fails is told and counted.
pub fn run(plan: &Plan) -> Result<usize> {
    let host = Host::read();
    println!("{}", host.line());
    let (mut rows, mut lines, mut failures) = (Vec::new(), Vec::new(), 0);
    for port in &plan.ports {
        for event in &plan.events {
            let noticed = trial(plan, port, *event);
            failures += usize::from(!noticed.as_ref().is_ok_and(|it| it.keeps(event.promise())));
            match &noticed {
                Ok(noticed) => {
                    println!("{port}, {} times {event}: {noticed}", rounds(plan, *event));
                }
                Err(error) => println!("{port}, {event}: {error}"),
            }
            lines.push(line(port, *event, noticed.as_ref().ok()));
            rows.push(row(port, *event, &noticed));
        }
    }
    let head = ["port", "event", "lost", "of", "stall ms", "quiet ms", "TCP Mbit/s", "held"];
    println!("\n{}", table(&head, &lines));
    let value = json!({ "benchmark": "continuity", "host": host, "rounds": plan.rounds,
                        "rate_mbps": plan.rate, "rows": rows });
    let path = results::write(&workspace::result("continuity.json"), &format!("{value:#}\n"))?;
    println!("{}", path.display());
    Ok(failures)
}

fn trial(plan: &Plan, port: &str, event: Event) -> Result<Noticed> {
    let bed = Bed::with_sites()?;
    let deployment = Deployment::new(&bed)?.with_own_program()?;
    let configs = [NodeConfig::new(port), NodeConfig::new(port)];
    let mut trial = Trial::start(&deployment, configs, Load::TcpAt(plan.rate), QUIET)?;
    for side in [Side::A, Side::B].into_iter().cycle().take(rounds(plan, event) as usize) {
        trial.happen(event, side)?;
    }
    trial.finish()
}

fn rounds(plan: &Plan, event: Event) -> u32 {
    if event == Event::OtherBuild { plan.rounds.min(BUILDS_MAX) } else { plan.rounds }
}

fn row(port: &str, event: Event, noticed: &Result<Noticed>) -> Value {
    let name = format!("{port}/{event}");
    match noticed {
        Ok(noticed) => {
            json!({ "name": name, "noticed": noticed, "held": noticed.keeps(event.promise()) })
        }
        Err(error) => json!({ "name": name, "error": error.to_string() }),
    }
}

fn line(port: &str, event: Event, noticed: Option<&Noticed>) -> Vec<String> {
    let figures = noticed.map(|noticed| {
        let held = if noticed.keeps(event.promise()) { "yes" } else { "no" };
        let (quiet, meanwhile) = (noticed.quiet, noticed.meanwhile);
        [
            meanwhile.lost.to_string(),
            meanwhile.sent.to_string(),
            format!("{:.1}", meanwhile.stall_ms),
            format!("{:.1}", quiet.stall_ms),
            format!("{:.0}", noticed.tcp.mbps),
            held.to_owned(),
        ]
    });
    let figures = figures.unwrap_or_else(|| ["-", "-", "-", "-", "-", "no"].map(str::to_owned));
    [port.to_owned(), event.to_string()].into_iter().chain(figures).collect()
}
