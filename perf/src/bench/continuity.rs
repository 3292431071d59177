//! `continuity`: what traffic notices of what an operator does routinely, on each port.

use super::results::{Results, Row, table};
use crate::bed::{Bed, Side};
use crate::continuity::{Event, Noticed, Trial};
use crate::measure::iperf::Load;
use crate::node::{Deployment, NodeConfig};
use crate::{Result, workspace};
use serde_json::json;

/// Requests that are answered before anything is done, ten seconds of them: how long the host stalls by itself.
const QUIET: u64 = 10_000;

/// The figures of a row, and their titles. They swing by more than any change of the code: nothing compares them.
const FIGURES: [(&str, &str); 8] = [
    ("lost", "lost"),
    ("requests", "of"),
    ("stall_ms", "stall ms"),
    ("quiet_lost", "quiet: lost"),
    ("quiet_requests", "of"),
    ("quiet_stall_ms", "stall ms"),
    ("tcp_mbps", "TCP Mbit/s"),
    ("tcp_retransmits", "sent again"),
];

/// One where no more was noticed than is promised, else zero.
const HELD: &str = "held";

/// Most changes to another build: there and back on each node.
const BUILDS_MAX: u32 = 4;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which ports.
    pub ports: Vec<String>,
    /// What is done, each by itself.
    pub events: Vec<Event>,
    /// How often, on each node in turn; another build, four times at most.
    pub rounds: u32,
    /// Mbit/s of the TCP stream.
    pub rate: u32,
}

/// Runs it, prints the table, and writes `target/bench/continuity.json`. Gives how many trials failed, or
/// were noticed by more than is promised.
///
/// # Errors
/// When the result cannot be written. A trial that fails is told and counted.
pub fn run(plan: &Plan) -> Result<usize> {
    let mut results = Results::new("continuity", 0, plan.rounds);
    println!("{}", results.host.line());
    let offered = format!("TCP is offered {} Mbit/s", plan.rate);
    let builds = format!("{} changes of the build at most", BUILDS_MAX);
    results.notes = vec![offered, builds];
    let mut failures = 0;
    for (port, event) in plan.ports.iter().flat_map(|p| plan.events.iter().map(move |e| (p, *e))) {
        let (name, noticed) = (format!("{port}/{event}"), trial(plan, port, event));
        failures += usize::from(!noticed.as_ref().is_ok_and(|it| it.keeps(event.promise())));
        match noticed {
            Ok(noticed) => {
                println!("{port}, {} times {event}: {noticed}", rounds(plan, event));
                results.add(&name, &figures(&noticed, event), json!(noticed));
            }
            Err(error) => {
                println!("{port}, {event}: {error}");
                results.fail(&name, &error);
            }
        }
    }
    println!("\n{}", markdown(&results));
    println!("{}", results.write(&workspace::result("continuity.json"))?.display());
    Ok(failures)
}

/// The table of a result.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut head = vec!["port and event"];
    head.extend(FIGURES.iter().map(|(_, title)| *title));
    head.push("held");
    let cells = |row: &Row| {
        let figure = |(name, _): &(&str, &str)| row.median(name).map(shown);
        let held = row.median(HELD).is_some_and(|held| held > 0.0);
        let mut cells = vec![row.name.clone()];
        cells.extend(FIGURES.iter().map(|it| figure(it).unwrap_or_else(|| "-".to_owned())));
        cells.push(if held { "yes" } else { "no" }.to_owned());
        cells
    };
    let rows: Vec<Vec<String>> = results.rows.iter().map(cells).collect();
    let (host, rounds) = (results.host.line(), results.rounds);
    format!(
        "{host}\n\n{rounds} times each; {}.\n\n{}",
        results.notes.join("; "),
        table(&head, &rows)
    )
}

/// Whole numbers as such.
fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn figures(noticed: &Noticed, event: Event) -> [(&'static str, f64); FIGURES.len() + 1] {
    let Noticed { quiet, meanwhile, tcp } = noticed;
    [
        ("lost", meanwhile.lost as f64),
        ("requests", meanwhile.sent as f64),
        ("stall_ms", meanwhile.stall_ms),
        ("quiet_lost", quiet.lost as f64),
        ("quiet_requests", quiet.sent as f64),
        ("quiet_stall_ms", quiet.stall_ms),
        ("tcp_mbps", tcp.mbps),
        ("tcp_retransmits", tcp.retransmits as f64),
        (HELD, f64::from(noticed.keeps(event.promise()))),
    ]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::measure::echo::Answered;
    use crate::measure::iperf::Carried;

    #[test]
    fn the_table_says_what_held_and_what_failed() {
        let quiet = Answered { sent: 2000, lost: 0, stall_ms: 3.5 };
        let tcp = Carried { mbps: 100.0, retransmits: 4, silence_ms: 0 };
        let mut results = Results::new("continuity", 0, 10);
        for (event, lost) in [(Event::Upgrade, 10), (Event::Reload, 11)] {
            let meanwhile = Answered { sent: 10_000, lost, stall_ms: 20.0 };
            let noticed = Noticed { quiet, meanwhile, tcp };
            results.add(&format!("mio/{event}"), &figures(&noticed, event), json!(noticed));
        }
        let error = Error::Missing { program: "stoqd".to_owned(), advice: "build it".to_owned() };
        results.fail("mio/restart", &error);
        let text = markdown(&results);
        let row = |name: &str| {
            let line = text.lines().find(|line| line.contains(name)).unwrap();
            line.split('|').map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("mio/upgrade"), "mio/upgrade 10 10000 20 0 2000 3.5 100 4 yes");
        assert_eq!(row("mio/reload"), "mio/reload 11 10000 20 0 2000 3.5 100 4 no");
        assert_eq!(row("mio/restart"), "mio/restart - - - - - - - - no");
    }
}
