//! The tier benchmark's result for people: tables in Markdown, and plots.

use super::verdict::verdicts;
use super::{Ceiling, Load, Path};
use crate::bench::Subject;
use crate::bench::plot::{self, Bar, Panel, Tone};
use crate::bench::results::{Figure, Results, Row, table};

/// Columns of figures after goodput.
const COLUMNS: [&str; 5] =
    ["cpu_s_per_gb", "rtt_p50_ms", "rtt_p99_ms", "rtt_p999_ms", "lost_percent"];

/// What is plotted: the name in the file's, the figure, and the title.
const PLOTS: [(&str, &str, &str); 3] = [
    ("goodput", "goodput_mbps", "Goodput of one TCP stream, Mbit/s - more is better"),
    ("p99", "rtt_p99_ms", "99th percentile of ping under that load, ms - less is better"),
    ("cpu", "cpu_s_per_gb", "CPU seconds per gigabyte carried, both edges - less is better"),
];

/// A row's name, taken apart.
struct Name<'a> {
    shape: &'a str,
    path: &'a str,
    subject: &'a str,
    load: &'a str,
}

impl<'a> Name<'a> {
    fn of(row: &'a Row) -> Option<Self> {
        let parts: Vec<&str> = row.name.split('/').collect();
        let [shape, path, subject, load] = parts[..] else { return None };
        Some(Self { shape, path, subject, load })
    }
}

/// All of it: what it ran on, a table for each wire, and what is wanted beside what was measured.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut text = format!(
        "{}\n\nWire mode, both edges on this host; medians of {} runs of {} s. {}.\n",
        results.host.line(),
        results.rounds,
        results.seconds,
        Ceiling::BED.line()
    );
    for (shape, path) in wires(results) {
        text += &format!("\n{}\n\n{}", title(shape, path), table_of(results, shape, path));
    }
    let verdicts = verdicts(results);
    if !verdicts.is_empty() {
        text += &format!("\nWhat is wanted, and what was measured:\n\n{verdicts}");
    }
    if !results.notes.is_empty() {
        text += &format!("\nNotes:\n\n- {}\n", results.notes.join("\n- "));
    }
    text
}

fn title(shape: &str, path: &str) -> String {
    let rate = if shape == "none" { "unshaped".to_owned() } else { format!("{shape} Mbit/s") };
    format!("**{rate}, {path}**")
}

/// The wires that were measured, each once, in their order.
fn wires(results: &Results) -> Vec<(&str, &str)> {
    let mut all = Vec::new();
    for name in results.rows.iter().filter_map(Name::of) {
        if !all.contains(&(name.shape, name.path)) {
            all.push((name.shape, name.path));
        }
    }
    all
}

fn table_of(results: &Results, shape: &str, path: &str) -> String {
    let mut head = vec!["", "load", "Mbit/s", "min-max", "of none", "of best peer"];
    head.extend(COLUMNS.iter().filter_map(|name| Some(Figure::named(name)?.title)));
    head.push("failed");
    let of_wire = results.rows.iter().filter_map(|row| Some((row, Name::of(row)?)));
    let of_wire = of_wire.filter(|(_, name)| name.shape == shape && name.path == path);
    let rows: Vec<Vec<String>> = of_wire.map(|(row, name)| cells(results, row, &name)).collect();
    table(&head, &rows)
}

fn cells(results: &Results, row: &Row, name: &Name<'_>) -> Vec<String> {
    let of = |subject: &str| {
        let Name { shape, path, load, .. } = name;
        results.row(&format!("{shape}/{path}/{subject}/{load}"))?.median("goodput_mbps")
    };
    let goodput = row.median("goodput_mbps");
    let share = |base: Option<f64>| shown(goodput.zip(base).map(|(own, base)| own / base));
    let peers = Subject::ALL.into_iter().filter(|subject| matches!(subject, Subject::Peer(_)));
    let best_peer = peers.filter_map(|peer| of(&peer.to_string())).reduce(f64::max);
    let mut cells = vec![
        name.subject.to_owned(),
        name.load.to_owned(),
        goodput.map(|mbps| format!("{mbps:.1}")).unwrap_or_default(),
        span(row.runs("goodput_mbps")),
        share(of("none")),
        share(best_peer),
    ];
    cells.extend(COLUMNS.iter().map(|figure| shown(row.median(figure))));
    cells.push(row.errors.len().to_string());
    cells
}

fn shown(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.2}")).unwrap_or_default()
}

fn span(runs: &[f64]) -> String {
    let least = runs.iter().copied().reduce(f64::min);
    let most = runs.iter().copied().reduce(f64::max);
    least.zip(most).map(|(least, most)| format!("{least:.0}-{most:.0}")).unwrap_or_default()
}

/// The plots, each with the name that it is written under.
#[must_use]
pub fn plots(results: &Results) -> Vec<(&'static str, String)> {
    let plot = |(name, figure, title)| {
        let panels = panels(results, figure);
        (!panels.is_empty()).then(|| (name, plot::svg(title, &caption(results), &panels)))
    };
    PLOTS.into_iter().filter_map(plot).collect()
}

fn caption(results: &Results) -> String {
    let (host, rounds, seconds) = (&results.host, results.rounds, results.seconds);
    format!(
        "{}, {} cores, kernel {}; wire mode, medians of {rounds} runs of {seconds} s; lines: least and most",
        host.cpu, host.cores, host.kernel
    )
}

/// A panel for each clean wire.
fn panels(results: &Results, figure: &str) -> Vec<Panel> {
    let clean = Path::default().to_string();
    let wires = wires(results).into_iter().filter(|(_, path)| *path == clean);
    let panel = |(shape, _): (&str, &str)| Panel {
        title: if shape == "none" { "unshaped".to_owned() } else { format!("{shape} Mbit/s") },
        bars: bars(results, shape, &clean, figure),
    };
    wires.map(panel).filter(|panel| !panel.bars.is_empty()).collect()
}

fn bars(results: &Results, shape: &str, path: &str, figure: &str) -> Vec<Bar> {
    let named = results.rows.iter().filter_map(|row| Some((row, Name::of(row)?)));
    let of_wire = named.filter(|(_, name)| {
        name.shape == shape && name.path == path && name.load == Load::Tcp.name()
    });
    let bar = |(row, name): (&Row, Name<'_>)| {
        let tone = match name.subject {
            "none" => Tone::Reference,
            subject if subject.starts_with("stoq-") => Tone::Own,
            _ => Tone::Other,
        };
        let runs = row.runs(figure).iter().copied();
        Some(Bar {
            label: name.subject.to_owned(),
            value: row.median(figure)?,
            least: runs.clone().reduce(f64::min)?,
            most: runs.reduce(f64::max)?,
            tone,
        })
    };
    of_wire.filter_map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use serde_json::Value;

    fn results() -> Results {
        let mut results = Results::new("tiers", 3, 3);
        for (subject, rates) in [
            ("none", [5000.0, 6000.0, 5500.0]),
            ("stoq-mio", [3300.0, 100.0, 3400.0]),
            ("gotatun", [900.0; 3]),
            ("quincy", [1100.0; 3]),
        ] {
            let name = format!("none/clean/{subject}/tcp");
            for rate in rates {
                let figures = [("goodput_mbps", rate), ("rtt_p99_ms", 2.0)];
                results.add(&name, &figures, Value::Null);
            }
        }
        results.fail("none/clean/nebula/tcp", &Error::NotRoot { uid: 1 });
        results
    }

    #[test]
    fn ratios_are_of_medians_to_no_tunnel_and_the_best_peer() {
        let text = markdown(&results());
        let line = text.lines().find(|line| line.starts_with("| stoq-mio")).unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells[2..8], ["tcp", "3300.0", "100-3400", "0.60", "3.00", ""]);
        assert!(text.contains("**unshaped, clean**"));
    }

    #[test]
    fn what_failed_has_a_row_that_says_so() {
        let text = markdown(&results());
        let line = text.lines().find(|line| line.starts_with("| nebula")).unwrap();
        assert!(line.trim_end().ends_with("1 |"), "{line}");
    }

    #[test]
    fn there_is_a_plot_of_each_figure_that_was_measured() {
        let plots = plots(&results());
        let names: Vec<&str> = plots.iter().map(|plot| plot.0).collect();
        assert_eq!(names, ["goodput", "p99"], "no processor time was measured");
        assert!(plots[0].1.contains("stoq-mio") && !plots[0].1.contains("nebula"));
    }
}
