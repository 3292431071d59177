//! The result of the flood benchmark: medians over the rounds, as a table and as JSON.

use super::{OFFERED_MBIT, Plan, State, WARM_UP_S};
use crate::bench::{Host, Subject, results};
use crate::flood::Kind;
use crate::measure::iperf::Throughput;
use crate::measure::median;
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// Where a flood goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// The port of the tunnel on edge B.
    Tunnel,
    /// A host beside it.
    Sink,
}

/// What a sample is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) subject: Subject,
    pub(super) kind: Kind,
    pub(super) aim: Aim,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aim = if self.aim == Aim::Tunnel { "its port" } else { "a sink" };
        write!(f, "{}, {} at {aim}", self.subject, self.kind.name())
    }
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) throughput: Throughput,
    /// Packets a second of the flood.
    pub(super) flood_pps: f64,
    pub(super) before: State,
    pub(super) after: State,
}

impl Sample {
    fn dropped(&self) -> BTreeMap<&str, u64> {
        let grown = |(reason, count): (&'_ String, &u64)| {
            count.saturating_sub(self.before.drops.get(reason).copied().unwrap_or(0))
        };
        let all = self.after.drops.iter().map(|pair| (pair.0.as_str(), grown(pair)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    fn retries(&self) -> f64 {
        self.after.retries.saturating_sub(self.before.retries) as f64
    }

    fn grown_kib(&self) -> f64 {
        (self.after.resident_bytes as f64 - self.before.resident_bytes as f64) / 1024.0
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mbps, flood) = (self.throughput.mbps, self.flood_pps / 1e6);
        write!(f, "{mbps:.0} Mbit/s under {flood:.2} Mpps")
    }
}

/// All samples of a run.
#[derive(Debug)]
pub(super) struct Report {
    host: Host,
    plan: Plan,
    cells: Vec<(Cell, Vec<Sample>)>,
    errors: Vec<String>,
}

/// One line: a subject under one kind of flood, both aims.
struct Row<'a> {
    subject: Subject,
    kind: Kind,
    tunnel: &'a [Sample],
    sink: &'a [Sample],
}

impl Row<'_> {
    fn ratio(&self) -> f64 {
        let mbps = |samples| of(samples, |s| s.throughput.mbps);
        mbps(self.tunnel) / mbps(self.sink).max(f64::EPSILON)
    }
}

impl Report {
    pub(super) fn new(host: Host, plan: &Plan) -> Self {
        Self { host, plan: plan.clone(), cells: Vec::new(), errors: Vec::new() }
    }

    pub(super) fn add(&mut self, cell: Cell, sample: Sample) {
        match self.cells.iter_mut().find(|row| row.0 == cell) {
            Some((_, samples)) => samples.push(sample),
            None => self.cells.push((cell, vec![sample])),
        }
    }

    pub(super) fn fail(&mut self, what: &str, error: &Error) {
        self.errors.push(format!("{what}: {error}"));
    }

    pub(super) fn failures(&self) -> usize {
        self.errors.len()
    }

    fn samples(&self, cell: Cell) -> &[Sample] {
        self.cells.iter().find(|row| row.0 == cell).map_or(&[], |row| &row.1)
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for kind in [Kind::Garbage, Kind::Initials] {
            for &subject in &self.plan.subjects {
                let of = |aim| self.samples(Cell { subject, kind, aim });
                let (tunnel, sink) = (of(Aim::Tunnel), of(Aim::Sink));
                if !tunnel.is_empty() && !sink.is_empty() {
                    rows.push(Row { subject, kind, tunnel, sink });
                }
            }
        }
        rows
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let host = self.host.line();
        let mut text = format!(
            "\none TCP stream offered {OFFERED_MBIT} Mbit/s through the tunnel, all hosts on this one; \
             medians of {} runs of {} s\n{host}\n\n\
             {:<10}{:<12}{:>12}{:>12}{:>10}{:>8}{:>12}{:>12}{:>10}{:>10}\n",
            self.plan.rounds,
            self.plan.seconds,
            "flood",
            "",
            "Mbit/s port",
            "Mbit/s sink",
            "min-max",
            "ratio",
            "Mpps port",
            "Mpps sink",
            "retries",
            "KiB more"
        );
        for row in self.rows() {
            let range = || row.tunnel.iter().map(|s| s.throughput.mbps);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<10}{:<12}{:>12.0}{:>12.0}{:>10}{:>8.2}{:>12.3}{:>12.3}{:>10.0}{:>10.0}",
                row.kind.name(),
                row.subject.to_string(),
                of(row.tunnel, |s| s.throughput.mbps),
                of(row.sink, |s| s.throughput.mbps),
                format!(
                    "{:.0}-{:.0}",
                    range().fold(f64::MAX, f64::min),
                    range().fold(0.0, f64::max)
                ),
                row.ratio(),
                of(row.tunnel, |s| s.flood_pps) / 1e6,
                of(row.sink, |s| s.flood_pps) / 1e6,
                of(row.tunnel, Sample::retries),
                of(row.tunnel, Sample::grown_kib),
            );
        }
        text + &self.drops()
    }

    /// What was dropped in the last run of each flood of the tunnel.
    fn drops(&self) -> String {
        let mut text = String::new();
        for row in self.rows() {
            let Some(last) = row.tunnel.last().filter(|s| !s.after.link.is_empty()) else {
                continue;
            };
            let (kind, subject) = (row.kind.name(), row.subject);
            let (link, drops) = (&last.after.link, last.dropped());
            let _ = writeln!(text, "{kind} at {subject}: link {link}, dropped {drops:?}");
        }
        text
    }

    /// Writes the JSON to `path` and gives the path.
    pub(super) fn write(&self, path: &Path) -> Result<PathBuf> {
        results::write(
            path,
            &format!(
                "{:#}
",
                self.json()
            ),
        )
    }

    fn json(&self) -> Value {
        let rows = self.rows();
        let results: Vec<Value> = rows.iter().map(row_json).collect();
        json!({
            "benchmark": "flood", "host": self.host, "wire_mode": true,
            "rounds": self.plan.rounds, "seconds": self.plan.seconds, "warm_up_s": WARM_UP_S,
            "offered_mbps": OFFERED_MBIT,
            "sink": "a host on the same bridge that drops every frame at ingress",
            "results": results, "errors": self.errors,
        })
    }
}

fn row_json(row: &Row<'_>) -> Value {
    let links = row.tunnel.iter().map(|s| s.after.link.as_str());
    json!({
        "flood": row.kind.name(), "subject": row.subject.to_string(),
        "mbps_port": of(row.tunnel, |s| s.throughput.mbps),
        "mbps_sink": of(row.sink, |s| s.throughput.mbps),
        "ratio": row.ratio(),
        "flood_pps_port": of(row.tunnel, |s| s.flood_pps),
        "flood_pps_sink": of(row.sink, |s| s.flood_pps),
        "retries": of(row.tunnel, Sample::retries),
        "grown_kib": of(row.tunnel, Sample::grown_kib),
        "links": links.collect::<Vec<_>>(),
        "samples_port": row.tunnel, "samples_sink": row.sink,
    })
}

fn of(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    median(&samples.iter().map(figure).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(mbps: f64, drops: u64) -> Sample {
        let throughput = Throughput {
            mbps,
            retransmits: 0,
            lost_percent: 0.0,
            sender_cpu_s: 0.0,
            receiver_cpu_s: 0.0,
        };
        let state = |count| State {
            link: "up".to_owned(),
            drops: BTreeMap::from([("xdp_forged".to_owned(), count)]),
            retries: count,
            resident_bytes: 1024 * count,
        };
        Sample { throughput, flood_pps: 1e6, before: state(1), after: state(drops) }
    }

    #[test]
    fn the_ratio_is_of_medians_and_drops_are_what_was_added() {
        let subject = Subject::Stoq("xdp");
        let plan = Plan { subjects: vec![subject], seconds: 1, rounds: 3 };
        let mut report = Report::new(Host::read(), &plan);
        let cell = |aim| Cell { subject, kind: Kind::Garbage, aim };
        for (port, sink) in [(800.0, 900.0), (1.0, 1000.0), (850.0, 1100.0)] {
            report.add(cell(Aim::Tunnel), sample(port, 9));
            report.add(cell(Aim::Sink), sample(sink, 1));
        }
        let json = report.json();
        assert_eq!(json["results"][0]["ratio"], 0.8);
        assert_eq!(json["results"][0]["grown_kib"], 8.0);
        assert_eq!(
            json["results"].as_array().unwrap().len(),
            1,
            "what was not measured is left out"
        );
        let table = report.table();
        assert!(table.contains("dropped {\"xdp_forged\": 8}") && table.contains("0.80"), "{table}");
    }
}
