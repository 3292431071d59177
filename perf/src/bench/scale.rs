//! `scale`: what a packet costs with one worker, two, and so on to one for each core, and how many of
//! them came to a worker that their connection does not belong to. Eight TCP streams over one cable, so
//! that there is something to spread.
//!
//! Both edges are on this host and share its cores: more workers cannot carry more here, and what is
//! shown is whether they cost more.

use super::results::{Figure, Results, table};
use super::{Subject, stream};
use crate::bed::{Bed, Side};
use crate::measure::iperf::Load;
use crate::node::METRICS;
use crate::{Result, workspace};
use std::thread;

/// TCP streams.
const STREAMS: u32 = 8;

/// What is shown of each row.
const COLUMNS: [&str; 4] =
    ["goodput_mbps", "cpu_ns_per_packet", "handed_over_percent", "rtt_p99_ms"];

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The ports, in this order within a round.
    pub ports: Vec<Subject>,
    /// Seconds of each run, after the warm-up.
    pub seconds: u32,
    /// Runs of each.
    pub rounds: u32,
}

/// Runs the plan, prints the table, writes the JSON, and says how many runs failed.
///
/// # Errors
/// When the bed cannot be made or the result not be written. A run that fails is reported and left out.
pub fn run(plan: &Plan) -> Result<usize> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut results = Results::new("scale", plan.seconds, plan.rounds);
    results.notes.push(format!(
        "one to {cores} workers, for this host has {cores} cores; both edges share them"
    ));
    let bed = Bed::direct()?;
    for round in 1..=plan.rounds {
        for (&port, workers) in
            plan.ports.iter().flat_map(|port| (1..=cores).map(move |workers| (port, workers)))
        {
            let name = format!("{port}/workers{workers}");
            match measure(&bed, port, workers, plan.seconds) {
                Ok(figures) => {
                    eprintln!("round {round} {name}: {figures:.1?}");
                    results.add(&name, &figures, serde_json::Value::Null);
                }
                Err(error) => {
                    eprintln!("round {round} {name}: FAILED: {error}");
                    results.fail(&name, &error);
                }
            }
        }
    }
    print!("\n{}", markdown(&results));
    println!("written to {}", results.write(&workspace::result("scale.json"))?.display());
    Ok(results.failures())
}

fn measure(
    bed: &Bed,
    port: Subject,
    workers: usize,
    seconds: u32,
) -> Result<Vec<(&'static str, f64)>> {
    // By default an edge of the bed has one worker, on a core that the other edge does not use.
    let several = [("transport.workers".to_owned(), workers.to_string())];
    let settings = if workers > 1 { &several[..] } else { &[] };
    let (running, _) = port.start(bed, settings)?;
    let before = [stream::frames(bed, Side::A)?, stream::frames(bed, Side::B)?];
    let sample = stream::run(bed, &running, Load::TcpStreams(STREAMS), seconds)?;
    let after = [stream::frames(bed, Side::A)?, stream::frames(bed, Side::B)?];
    let frames = (after[0] + after[1]).saturating_sub(before[0] + before[1]).max(1) as f64;
    let cpu_s = sample.cpu_a.total_s() + sample.cpu_b.total_s();
    let handed_over = handed_over(bed, Side::A)? + handed_over(bed, Side::B)?;
    Ok(vec![
        ("goodput_mbps", sample.throughput.mbps),
        ("cpu_ns_per_packet", cpu_s * 1e9 / frames),
        ("handed_over_percent", 100.0 * handed_over as f64 / frames),
        ("rtt_p99_ms", sample.latency.p99_ms),
    ])
}

/// Packets that one worker of an edge has passed to another, in all.
fn handed_over(bed: &Bed, side: Side) -> Result<u64> {
    let page = bed
        .edge(side)
        .namespace
        .run("curl", ["-sS", "--fail", &format!("http://{METRICS}/metrics")])?;
    Ok(sum_handed_over(&page))
}

fn sum_handed_over(page: &str) -> u64 {
    let of_worker = |line: &str| {
        let value = line.strip_prefix("stoq_worker_handed_over_total{")?.split_once("} ")?.1;
        value.parse::<u64>().ok()
    };
    page.lines().filter_map(of_worker).sum()
}

/// The table for people.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut head = vec!["port and workers"];
    head.extend(COLUMNS.iter().filter_map(|name| Some(Figure::named(name)?.title)));
    head.push("failed");
    let cells = |row: &super::results::Row| {
        let figure = |name: &&str| row.median(name).map(|value| format!("{value:.2}"));
        let mut cells = vec![row.name.clone()];
        cells.extend(COLUMNS.iter().map(|name| figure(name).unwrap_or_default()));
        cells.push(row.errors.len().to_string());
        cells
    };
    let rows: Vec<Vec<String>> = results.rows.iter().map(cells).collect();
    let (host, notes) = (results.host.line(), results.notes.join("; "));
    let (rounds, seconds) = (results.rounds, results.seconds);
    format!(
        "{host}\n\n{STREAMS} TCP streams, one cable, wire mode, medians of {rounds} runs of {seconds} s; \
         {notes}.\n\n{}",
        table(&head, &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_all_workers_handed_over_is_added_up() {
        let page = "# HELP stoq_worker_handed_over UDP packets\n\
                    stoq_worker_handed_over_total{worker=\"0\"} 5\n\
                    stoq_worker_handed_over_total{worker=\"1\"} 7\nother{x=\"y\"} 9\n";
        assert_eq!(sum_handed_over(page), 12);
    }

    #[test]
    fn the_table_has_a_row_for_each_number_of_workers() {
        let mut results = Results::new("scale", 1, 1);
        for workers in 1..=2 {
            let name = format!("stoq-mio/workers{workers}");
            results.add(&name, &[("cpu_ns_per_packet", 1000.0)], Value::Null);
        }
        let text = markdown(&results);
        assert!(text.contains("stoq-mio/workers2") && text.contains("1000.00"), "{text}");
    }
}
