//! The result of a tunnel benchmark: medians over the rounds, as a table and as JSON.

use super::tunnel::{Plan, Sample, WARM_UP_S};
use super::{Host, Subject};
use crate::bed::Shape;
use crate::measure::median;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What a row of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The tunnel.
    pub subject: Subject,
    /// The wire.
    pub shape: Shape,
}

/// All samples of a run.
#[derive(Debug)]
pub struct Report {
    host: Host,
    plan: Plan,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cell: Cell,
    samples: Vec<Sample>,
    about: Value,
    errors: Vec<String>,
}

impl Row {
    fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(&self.samples.iter().map(figure).collect::<Vec<_>>())
    }

    fn mbps(&self) -> f64 {
        self.median(|sample| sample.throughput.mbps)
    }

    fn p99_ms(&self) -> f64 {
        self.median(|sample| sample.latency.p99_ms)
    }
}

impl Report {
    /// An empty report of a plan.
    #[must_use]
    pub fn new(host: Host, plan: &Plan) -> Self {
        let cells = plan
            .shapes
            .iter()
            .flat_map(|&shape| plan.subjects.iter().map(move |&subject| Cell { subject, shape }));
        let row = |cell| Row { cell, samples: Vec::new(), about: Value::Null, errors: Vec::new() };
        Self { host, plan: plan.clone(), rows: cells.map(row).collect() }
    }

    /// Adds a sample and what the subject says about itself.
    pub fn add(&mut self, cell: Cell, sample: Sample, about: Value) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.cell == cell) {
            row.samples.push(sample);
            row.about = about;
        }
    }

    /// Notes that a run failed.
    pub fn fail(&mut self, cell: Cell, error: &Error) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.cell == cell) {
            row.errors.push(error.to_string());
        }
    }

    /// How many runs failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.rows.iter().map(|row| row.errors.len()).sum()
    }

    /// The table for people, with the ratios that the product is held to.
    #[must_use]
    pub fn table(&self) -> String {
        let Host { kernel, cpu, cores, load_before } = &self.host;
        let mut text = format!(
            "\none TCP stream, edge to edge, both on this host, wire mode; medians of {} runs of {} s\n\
             {cpu}, {cores} cores, kernel {kernel}, load before {load_before}\n",
            self.plan.rounds, self.plan.seconds
        );
        for &shape in &self.plan.shapes {
            text += &self.table_of(shape);
        }
        text
    }

    fn table_of(&self, shape: Shape) -> String {
        let unit = if shape == Shape::Unshaped { "" } else { " Mbit/s" };
        let mut text = format!(
            "\nwire: {shape}{unit}\n{:<13}{:>9}{:>16}{:>9}{:>9}{:>10}{:>10}{:>6}{:>9}{:>9}\n",
            "",
            "Mbit/s",
            "min-max",
            "of none",
            "of peer",
            "p50 ms",
            "p99 ms",
            "lost",
            "CPU A s",
            "CPU B s"
        );
        for row in self.rows.iter().filter(|row| row.cell.shape == shape && !row.samples.is_empty())
        {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<13}{:>9.0}{:>16}{:>9}{:>9}{:>10.2}{:>10.2}{:>6.0}{:>9.2}{:>9.2}",
                row.cell.subject.to_string(),
                row.mbps(),
                span(&row.samples),
                ratio(row.mbps(), self.of(shape, |s| s == Subject::NoTunnel, Row::mbps, f64::max)),
                ratio(row.mbps(), self.best_peer_mbps(shape)),
                row.median(|sample| sample.latency.p50_ms),
                row.p99_ms(),
                row.median(|sample| f64::from(
                    u32::try_from(sample.latency.lost).unwrap_or(u32::MAX)
                )),
                row.median(|sample| sample.cpu_a.total_s()),
                row.median(|sample| sample.cpu_b.total_s()),
            );
        }
        text
    }

    fn best_peer_mbps(&self, shape: Shape) -> Option<f64> {
        self.of(shape, |subject| matches!(subject, Subject::Peer(_)), Row::mbps, f64::max)
    }

    /// The best figure among the subjects of one kind on one wire.
    fn of(
        &self,
        shape: Shape,
        kind: impl Fn(Subject) -> bool,
        figure: impl Fn(&Row) -> f64,
        better: impl Fn(f64, f64) -> f64,
    ) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| row.cell.shape == shape && kind(row.cell.subject));
        rows.filter(|row| !row.samples.is_empty()).map(figure).reduce(better)
    }

    /// Writes the JSON to `path`, whose folder is made, and gives the path.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<PathBuf> {
        let failed = || Error::io(format!("write {}", path.display()));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed())?;
        }
        fs::write(path, format!("{:#}\n", self.json())).map_err(failed())?;
        path.canonicalize().map_err(failed())
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_json(row)).collect();
        json!({
            "benchmark": "tunnel", "host": self.host, "wire_mode": true,
            "rounds": self.plan.rounds, "seconds": self.plan.seconds, "warm_up_s": WARM_UP_S,
            "direct": self.plan.direct,
            "settings": self.plan.settings.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
            "results": rows,
        })
    }

    fn row_json(&self, row: &Row) -> Value {
        let shape = row.cell.shape;
        let none = self.of(shape, |subject| subject == Subject::NoTunnel, Row::mbps, f64::max);
        json!({
            "subject": row.cell.subject.to_string(), "shape": shape.to_string(), "about": row.about,
            "mbps": row.mbps(),
            "of_none": none.map(|none| row.mbps() / none),
            "of_best_peer": self.best_peer_mbps(shape).map(|peer| row.mbps() / peer),
            "ping_p50_ms": row.median(|sample| sample.latency.p50_ms),
            "ping_p99_ms": row.p99_ms(),
            "cpu_a_s": row.median(|sample| sample.cpu_a.total_s()),
            "cpu_b_s": row.median(|sample| sample.cpu_b.total_s()),
            "samples": row.samples, "errors": row.errors,
        })
    }
}

fn span(samples: &[Sample]) -> String {
    let rates = || samples.iter().map(|sample| sample.throughput.mbps);
    format!("{:.0}-{:.0}", rates().fold(f64::MAX, f64::min), rates().fold(0.0, f64::max))
}

fn ratio(value: f64, base: Option<f64>) -> String {
    base.map(|base| format!("{:.2}", value / base)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::iperf::Throughput;
    use crate::measure::ping::Latency;
    use crate::process::CpuTime;

    fn sample(mbps: f64) -> Sample {
        let throughput = Throughput {
            mbps,
            retransmits: 0,
            lost_percent: 0.0,
            sender_cpu_s: 0.0,
            receiver_cpu_s: 0.0,
        };
        let latency = Latency { answers: 100, lost: 0, p50_ms: 1.0, p99_ms: 2.0, max_ms: 3.0 };
        let cpu = CpuTime { user_s: 0.5, system_s: 1.0 };
        let (stages_a, stages_b) = (Vec::new(), Vec::new());
        Sample { throughput, latency, cpu_a: cpu, cpu_b: cpu, stages_a, stages_b }
    }

    fn report() -> Report {
        let subjects = Subject::ALL.to_vec();
        let shapes = vec![Shape::Unshaped];
        let plan =
            Plan { subjects, shapes, seconds: 1, rounds: 3, direct: false, settings: Vec::new() };
        let mut report = Report::new(Host::read(), &plan);
        for (name, rates) in [
            ("none", [5000.0, 6000.0, 5500.0]),
            ("stoq-mio", [3300.0, 100.0, 3400.0]),
            ("gotatun", [900.0; 3]),
            ("quincy", [1100.0; 3]),
        ] {
            let subject = Subject::named(name).unwrap()[0];
            let cell = Cell { subject, shape: Shape::Unshaped };
            rates.iter().for_each(|&rate| report.add(cell, sample(rate), Value::Null));
        }
        report
    }

    #[test]
    fn figures_are_medians_and_ratios_are_to_the_best_peer() {
        let json = report().json();
        let rows = json["results"].as_array().unwrap();
        let stoq = rows.iter().find(|row| row["subject"] == "stoq-mio").unwrap();
        assert_eq!(stoq["mbps"], 3300.0);
        assert_eq!(stoq["of_best_peer"], 3.0);
        assert_eq!(stoq["of_none"], 0.6);
        assert_eq!(stoq["samples"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn the_table_leaves_out_what_was_not_measured() {
        let table = report().table();
        assert!(table.contains("stoq-mio"));
        assert!(!table.contains("stoq-uring"));
    }

    #[test]
    fn failures_are_counted_and_kept() {
        let mut report = report();
        let cell = Cell { subject: Subject::NoTunnel, shape: Shape::Unshaped };
        report.fail(cell, &Error::NotRoot { uid: 1 });
        assert_eq!(report.failures(), 1);
        assert!(report.json().to_string().contains("needs root"));
    }
}
