//! The result of the port benchmark: medians over the rounds, as a table and as JSON.

use super::end::Figures;
use super::{Plan, SIZES, Transport};
use crate::bench::{Host, Subject, results, stream};
use crate::measure::median;
use crate::process::CpuTime;
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// What a row of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) transport: Transport,
    /// Bytes of each datagram.
    pub(super) len: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.transport, self.len)
    }
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) sent: Figures,
    pub(super) received: Figures,
}

impl Sample {
    fn sent_pps(&self) -> f64 {
        per_second(&self.sent)
    }

    fn received_pps(&self) -> f64 {
        per_second(&self.received)
    }

    fn loss(&self) -> f64 {
        1.0 - (self.received.packets as f64 / self.sent.packets.max(1) as f64).min(1.0)
    }

    /// All that a packet took that arrived, on both hosts.
    fn whole_ns(&self) -> f64 {
        let cpu = self.sent.cpu_ns + self.received.cpu_ns + self.received.napi_ns;
        cpu as f64 / self.received.packets.max(1) as f64
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, received) = (self.sent_pps() / 1e6, self.received_pps() / 1e6);
        write!(f, "sent {sent:.2}, received {received:.2} Mpps")
    }
}

fn per_second(figures: &Figures) -> f64 {
    figures.packets as f64 / figures.seconds.max(f64::EPSILON)
}

fn per_packet(ns: u64, packets: u64) -> f64 {
    ns as f64 / packets.max(1) as f64
}

/// One run of the tunnel.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TunnelSample {
    pub(super) sample: stream::Sample,
    /// Frames that the sending edge put on the wire.
    pub(super) frames: u64,
    pub(super) about: Value,
}

impl TunnelSample {
    fn per_frame_ns(&self, cpu: CpuTime) -> f64 {
        cpu.total_s() * 1e9 / self.frames.max(1) as f64
    }

    /// Median time of a packet in a stage of the worker on edge A (0) or B (1).
    fn stage_ns(&self, edge: usize, stage: &str) -> f64 {
        let stages = [&self.sample.stages_a, &self.sample.stages_b][edge];
        stages.iter().find(|time| time.stage == stage).map_or(0.0, |time| time.p50_ns as f64)
    }
}

impl fmt::Display for TunnelSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} Mbit/s", self.sample.throughput.mbps)
    }
}

/// All samples of a run.
#[derive(Debug)]
pub(super) struct Report {
    host: Host,
    plan: Plan,
    rows: Vec<(Cell, Vec<Sample>)>,
    tunnels: Vec<(Subject, Vec<TunnelSample>)>,
    errors: Vec<String>,
}

impl Report {
    pub(super) fn new(host: Host, plan: &Plan) -> Self {
        let cells = SIZES
            .into_iter()
            .flat_map(|len| plan.transports.iter().map(move |&transport| Cell { transport, len }));
        let rows = cells.map(|cell| (cell, Vec::new())).collect();
        Self { host, plan: plan.clone(), rows, tunnels: Vec::new(), errors: Vec::new() }
    }

    pub(super) fn add(&mut self, cell: Cell, sample: Sample) {
        if let Some((_, samples)) = self.rows.iter_mut().find(|row| row.0 == cell) {
            samples.push(sample);
        }
    }

    pub(super) fn add_tunnel(&mut self, subject: Subject, sample: TunnelSample) {
        match self.tunnels.iter_mut().find(|row| row.0 == subject) {
            Some((_, samples)) => samples.push(sample),
            None => self.tunnels.push((subject, vec![sample])),
        }
    }

    pub(super) fn fail(&mut self, what: &str, error: &Error) {
        self.errors.push(format!("{what}: {error}"));
    }

    pub(super) fn failures(&self) -> usize {
        self.errors.len()
    }

    /// Median of the received packets a second of the baseline at this size.
    fn baseline(&self, len: usize) -> Option<f64> {
        let row = self.rows.iter().find(|(cell, samples)| {
            cell.len == len && cell.transport == Transport::ALL[0] && !samples.is_empty()
        })?;
        Some(of(&row.1, Sample::received_pps))
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let host = self.host.line();
        let mut text = format!(
            "\none cable between two hosts on this one, wire mode, as fast as the sender can; \
             medians of {} runs of {} s\n{host}\n",
            self.plan.rounds, self.plan.seconds
        );
        for len in SIZES {
            text += &self.table_of(len);
        }
        text + &self.table_of_tunnels() + &self.table_of_stages()
    }

    fn table_of(&self, len: usize) -> String {
        let mut text = format!(
            "\n{len} bytes\n{:<12}{:<14}{:>10}{:>10}{:>8}{:>10}{:>11}{:>11}{:>10}{:>10}\n",
            "",
            "mode",
            "sent Mpps",
            "rcvd Mpps",
            "loss %",
            "of plain",
            "send ns",
            "receive ns",
            "NAPI ns",
            "whole ns"
        );
        for (cell, samples) in self.rows.iter().filter(|row| row.0.len == len) {
            let Some(last) = samples.last() else { continue };
            let received = of(samples, Sample::received_pps);
            let ratio = self.baseline(len).map(|base| format!("{:.2}", received / base));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<12}{:<14}{:>10.3}{:>10.3}{:>8.1}{:>10}{:>11.0}{:>11.0}{:>10.0}{:>10.0}",
                cell.transport.to_string(),
                last.received.mode,
                of(samples, Sample::sent_pps) / 1e6,
                received / 1e6,
                of(samples, Sample::loss) * 100.0,
                ratio.unwrap_or_default(),
                of(samples, |s| per_packet(s.sent.cpu_ns, s.sent.packets)),
                of(samples, |s| per_packet(s.received.cpu_ns, s.received.packets)),
                of(samples, |s| per_packet(s.received.napi_ns, s.received.packets)),
                of(samples, Sample::whole_ns),
            );
        }
        text
    }

    fn table_of_tunnels(&self) -> String {
        if self.tunnels.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "\nthe tunnel on that cable, one TCP stream\n{:<12}{:<14}{:>10}{:>14}{:>14}{:>10}\n",
            "", "mode", "Mbit/s", "CPU A ns/frm", "CPU B ns/frm", "p99 ms"
        );
        for (subject, samples) in &self.tunnels {
            let mode = samples.last().map(|last| last.about["port"]["mode"].clone());
            let _ = writeln!(
                text,
                "{:<12}{:<14}{:>10.0}{:>14.0}{:>14.0}{:>10.2}",
                subject.to_string(),
                mode.unwrap_or_default().as_str().unwrap_or_default(),
                of(samples, |s| s.sample.throughput.mbps),
                of(samples, |s| s.per_frame_ns(s.sample.cpu_a)),
                of(samples, |s| s.per_frame_ns(s.sample.cpu_b)),
                of(samples, |s| s.sample.latency.p99_ms),
            );
        }
        text
    }

    /// Medians of the rounds' medians, a row for each edge.
    fn table_of_stages(&self) -> String {
        let stages = |samples: &[TunnelSample]| {
            let last = samples.last().map(|last| last.sample.stages_a.clone());
            last.unwrap_or_default().into_iter().map(|time| time.stage).collect::<Vec<_>>()
        };
        let Some(names) = self.tunnels.first().map(|(_, samples)| stages(samples)) else {
            return String::new();
        };
        let mut text = "\ntime of a packet in its worker by stage, median ns\n".to_owned();
        let titles: String = names.iter().map(|name| format!("{name:>10}")).collect();
        let _ = write!(text, "{:<20}{titles}", "");
        for (subject, samples) in &self.tunnels {
            for (edge, side) in [("A", 0), ("B", 1)] {
                let at = |name: &String| of(samples, |s| s.stage_ns(side, name));
                let times: String =
                    names.iter().map(|name| format!("{:>10.0}", at(name))).collect();
                let row = format!("{subject}, edge {edge}");
                let _ = write!(text, "\n{row:<20}{times}");
            }
        }
        text + "\n"
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
        let measured = self.rows.iter().filter(|(_, samples)| !samples.is_empty());
        let results: Vec<Value> = measured.map(|row| self.row_json(row)).collect();
        let tunnels: Vec<Value> = self.tunnels.iter().map(tunnel_json).collect();
        json!({
            "benchmark": "port", "host": self.host, "wire_mode": true, "direct": true,
            "rounds": self.plan.rounds, "seconds": self.plan.seconds,
            "results": results, "tunnel": tunnels, "errors": self.errors,
        })
    }

    fn row_json(&self, (cell, samples): &(Cell, Vec<Sample>)) -> Value {
        let received = of(samples, Sample::received_pps);
        json!({
            "subject": cell.transport.to_string(), "bytes": cell.len,
            "mode": samples.last().map(|last| &last.received.mode),
            "sent_pps": of(samples, Sample::sent_pps),
            "received_pps": received,
            "loss": of(samples, Sample::loss),
            "of_plain": self.baseline(cell.len).map(|base| received / base),
            "send_cpu_ns": of(samples, |s| per_packet(s.sent.cpu_ns, s.sent.packets)),
            "receive_cpu_ns": of(samples, |s| per_packet(s.received.cpu_ns, s.received.packets)),
            "napi_cpu_ns": of(samples, |s| per_packet(s.received.napi_ns, s.received.packets)),
            "whole_cpu_ns": of(samples, Sample::whole_ns),
            "samples": samples,
        })
    }
}

fn tunnel_json((subject, samples): &(Subject, Vec<TunnelSample>)) -> Value {
    json!({
        "subject": subject.to_string(),
        "mbps": of(samples, |s| s.sample.throughput.mbps),
        "cpu_a_ns": of(samples, |s| s.per_frame_ns(s.sample.cpu_a)),
        "cpu_b_ns": of(samples, |s| s.per_frame_ns(s.sample.cpu_b)),
        "ping_p99_ms": of(samples, |s| s.sample.latency.p99_ms),
        "samples": samples,
    })
}

fn of<S>(samples: &[S], figure: impl Fn(&S) -> f64) -> f64 {
    median(&samples.iter().map(figure).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn figures(packets: u64, cpu_ns: u64) -> Figures {
        let drops = BTreeMap::new();
        Figures { mode: "plain".to_owned(), packets, seconds: 2.0, cpu_ns, napi_ns: 100, drops }
    }

    fn report() -> Report {
        let transports = Transport::ALL.to_vec();
        let output = PathBuf::new();
        let plan = Plan { transports, seconds: 2, rounds: 3, tunnel: false, output };
        let mut report = Report::new(Host::read(), &plan);
        for (word, packets) in [("plain", 1_000_u64), ("xdp", 3_000)] {
            let cell = Cell { transport: Transport::named(word).unwrap(), len: 1400 };
            for received in [packets, 1, packets + 10] {
                let (sent, received) = (figures(4_000, 8_000), figures(received, 3_000));
                report.add(cell, Sample { sent, received });
            }
        }
        report
    }

    #[test]
    fn figures_are_medians_and_ratios_are_to_the_baseline() {
        let json = report().json();
        let rows = json["results"].as_array().unwrap();
        let xdp = rows.iter().find(|row| row["subject"] == "xdp").unwrap();
        assert_eq!(xdp["received_pps"], 1_500.0);
        assert_eq!(xdp["of_plain"], 3.0);
        assert_eq!(xdp["loss"], 0.25);
        assert_eq!(xdp["send_cpu_ns"], 2.0);
        assert_eq!(rows.len(), 2, "what was not measured is left out");
    }

    #[test]
    fn the_table_has_a_row_for_each_that_was_measured() {
        let table = report().table();
        assert!(table.contains("3.00") && table.contains("plain"));
        assert!(!table.contains("uring"));
    }
}
