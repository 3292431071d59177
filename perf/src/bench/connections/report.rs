//! What `connections` measured, as a table and as JSON.

use crate::bench::Host;
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// How the links came up, as fast as both ends can, some dozens of handshakes at a time.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Making {
    /// From the first dial until the last link was up.
    pub seconds: f64,
    pub stoqd_cpu_s: f64,
    pub crowd_cpu_s: f64,
    /// Times that a link came up: above their number, some came up twice.
    pub came_up: u64,
    pub went_down: u64,
    pub refused: u64,
}

/// Memory of `stoqd` and its broker, from /proc/PID/status and /proc/PID/smaps_rollup.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Memory {
    /// Pages in memory, those that are shared counted for each of the two processes.
    pub resident_bytes: u64,
    /// The same, with those that are shared divided by their users.
    pub proportional_bytes: u64,
}

/// Three keepalive periods.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Keepalive {
    pub seconds: f64,
    /// Links that `stoqd` says are up at the end.
    pub up: usize,
    pub went_down: u64,
    /// The longest time that a node heard nothing from `stoqd`.
    pub longest_silence_s: f64,
    /// Datagrams in both directions.
    pub datagrams: u64,
    pub stoqd_cpu_percent: f64,
    /// How long `stoqctl status` took, with every link in its answer.
    pub status_s: f64,
}

/// TCP on one link, in Mbit/s.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Rates {
    pub sent_mbps: Vec<f64>,
    pub received_mbps: Vec<f64>,
}

impl Rates {
    /// Adds those that were measured later.
    pub fn add(&mut self, later: &Self) {
        self.sent_mbps.extend(&later.sent_mbps);
        self.received_mbps.extend(&later.received_mbps);
    }
}

/// One policy.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    /// Whether proofs of possession were asked for.
    pub hybrid: bool,
    pub making: Making,
    pub before: Memory,
    pub after: Memory,
    pub keepalive: Keepalive,
    /// From the start of `stoqd` after a kill until every link was up again.
    pub back_s: f64,
    /// Before the crowd and after it.
    pub alone: Rates,
    pub among: Rates,
}

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub host: Host,
    pub links: u32,
    pub port: String,
    pub runs: Vec<Run>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        even if even % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

impl Run {
    /// What follows from the figures: name, value and digits behind the point.
    fn derived(&self, links: u32) -> Vec<(&'static str, f64, usize)> {
        let links = f64::from(links);
        let each = |after: u64, before: u64| (after as f64 - before as f64) / links / 1024.0;
        let (before, after) = (&self.before, &self.after);
        let ratio = |among: &[f64], alone: &[f64]| median(among) / median(alone);
        vec![
            ("handshakes a second", links / self.making.seconds, 0),
            ("CPU of stoqd for one (ms)", self.making.stoqd_cpu_s / links * 1e3, 2),
            (
                "memory for each link, RSS (KiB)",
                each(after.resident_bytes, before.resident_bytes),
                1,
            ),
            (
                "memory for each link, PSS (KiB)",
                each(after.proportional_bytes, before.proportional_bytes),
                1,
            ),
            ("whole RSS over links (KiB)", each(after.resident_bytes, 0), 1),
            ("links up after three keepalive periods", self.keepalive.up as f64, 0),
            ("links that went down in them", self.keepalive.went_down as f64, 0),
            ("longest silence of stoqd (s)", self.keepalive.longest_silence_s, 1),
            ("CPU of stoqd, all links idle (%)", self.keepalive.stoqd_cpu_percent, 2),
            ("status with all links (s)", self.keepalive.status_s, 2),
            ("all up again after a kill and start (s)", self.back_s, 1),
            ("TCP sent on one link, alone (Mbit/s)", median(&self.alone.sent_mbps), 0),
            ("among the others, of that", ratio(&self.among.sent_mbps, &self.alone.sent_mbps), 2),
            ("TCP received on one link, alone (Mbit/s)", median(&self.alone.received_mbps), 0),
            (
                "among the others, of that",
                ratio(&self.among.received_mbps, &self.alone.received_mbps),
                2,
            ),
        ]
    }
}

/// Prints the table and writes the JSON.
pub(super) fn publish(report: &Report, output: &Path) -> Result<()> {
    let columns: Vec<_> = report.runs.iter().map(|run| run.derived(report.links)).collect();
    let names = report.runs.iter().map(|run| if run.hybrid { "hybrid" } else { "classical" });
    println!("\n| {} links, port {} | {} |", report.links, report.port, join(names));
    println!("|---|{}", "---|".repeat(report.runs.len()));
    for (row, (name, _, digits)) in columns.first().into_iter().flatten().enumerate() {
        let cells = columns.iter().map(|column| format!("{:.*}", digits, column[row].1));
        println!("| {name} | {} |", join(cells));
    }
    let derived = |column: &Vec<(&str, f64, usize)>| -> Vec<Value> {
        column.iter().map(|(name, value, _)| json!({ "what": name, "value": value })).collect()
    };
    let derived: Vec<_> = columns.iter().map(derived).collect();
    let value = json!({ "report": report, "derived": derived });
    let folder = output.parent().unwrap_or(output);
    fs::create_dir_all(folder).map_err(Error::io(format!("make {}", folder.display())))?;
    fs::write(output, format!("{value:#}\n"))
        .map_err(Error::io(format!("write {}", output.display())))?;
    println!("\n{}", output.display());
    Ok(())
}

fn join<S: AsRef<str>>(cells: impl Iterator<Item = S>) -> String {
    cells.map(|cell| cell.as_ref().to_owned()).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_both_parities() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
