//! What a benchmark that compares subjects has measured: rows by name, each figure with one value for
//! each run. Written as JSON and read again by `compare`, `report` and the plots.
//!
//! A row is named by what it is about, from the general to the particular, with slashes between:
//! `1000/clean/stoq-xdp/tcp`. A figure has the same name everywhere and is defined in [`FIGURES`].

use super::Host;
use crate::measure::median;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name in the JSON.
    pub name: &'static str,
    /// What a person is told that it is, with its unit.
    pub title: &'static str,
    /// Whether more of it is better.
    pub more_is_better: bool,
    /// Whether two runs are told apart by it. The others swing by more than any change of the code.
    pub is_compared: bool,
}

/// Every figure there is.
pub const FIGURES: &[Figure] = &[
    Figure::new("goodput_mbps", "goodput, Mbit/s", true, true),
    Figure::new("cpu_s_per_gb", "CPU s/GB", false, true),
    Figure::new("rtt_p50_ms", "p50 ms", false, true),
    Figure::new("rtt_p99_ms", "p99 ms", false, true),
    Figure::new("rtt_p999_ms", "p99.9 ms", false, false),
    Figure::new("lost_percent", "lost %", false, false),
    Figure::new("cpu_ns_per_packet", "CPU ns/packet", false, true),
    Figure::new("handed_over_percent", "handed over %", false, false),
    Figure::new("of_bare", "time, of bare quiche", false, true),
];

impl Figure {
    const fn new(
        name: &'static str,
        title: &'static str,
        more_is_better: bool,
        is_compared: bool,
    ) -> Self {
        Self { name, title, more_is_better, is_compared }
    }

    /// The figure of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FIGURES.iter().find(|figure| figure.name == name)
    }
}

/// One thing that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// For each figure its value in each run, in the order of the runs.
    pub figures: BTreeMap<String, Vec<f64>>,
    /// What the subject said about itself in its last run.
    #[serde(default)]
    pub about: Value,
    /// Why runs failed.
    #[serde(default)]
    pub errors: Vec<String>,
}

impl Row {
    /// The runs of a figure; empty when it was not measured.
    #[must_use]
    pub fn runs(&self, figure: &str) -> &[f64] {
        self.figures.get(figure).map_or(&[], Vec::as_slice)
    }

    /// The median of a figure.
    #[must_use]
    pub fn median(&self, figure: &str) -> Option<f64> {
        Some(self.runs(figure)).filter(|runs| !runs.is_empty()).map(median)
    }
}

/// All of one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Which benchmark.
    pub benchmark: String,
    /// What it ran on.
    #[serde(default)]
    pub host: Host,
    /// Seconds of each run.
    #[serde(default)]
    pub seconds: u32,
    /// Runs of each row.
    pub rounds: u32,
    /// What a reader of the figures must know: what was left out and why, what else was set.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What was measured.
    pub rows: Vec<Row>,
}

impl Results {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(benchmark: &str, seconds: u32, rounds: u32) -> Self {
        let (host, notes, rows) = (Host::read(), Vec::new(), Vec::new());
        Self { benchmark: benchmark.to_owned(), host, seconds, rounds, notes, rows }
    }

    /// The row of this name, if there is one.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The row of this name, which is added if need be.
    pub fn row_mut(&mut self, name: &str) -> &mut Row {
        let place = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    /// Adds a run to a row.
    pub fn add(&mut self, name: &str, figures: &[(&str, f64)], about: Value) {
        let row = self.row_mut(name);
        for (figure, value) in figures {
            row.figures.entry((*figure).to_owned()).or_default().push(*value);
        }
        row.about = about;
    }

    /// Notes that a run failed.
    pub fn fail(&mut self, name: &str, error: &Error) {
        self.row_mut(name).errors.push(error.to_string());
    }

    /// How many runs failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.rows.iter().map(|row| row.errors.len()).sum()
    }

    /// Writes the JSON, with the medians, which are only for its readers.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<PathBuf> {
        let mut value = json!(self);
        for (row, shown) in self.rows.iter().zip(value["rows"].as_array_mut().into_iter().flatten())
        {
            let medians = row.figures.iter().map(|(name, runs)| (name, median(runs)));
            shown["medians"] = json!(medians.collect::<BTreeMap<_, _>>());
        }
        write(path, &format!("{value:#}\n"))
    }

    /// Reads what [`Results::write`] has written.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Output`] when it is something else.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(Error::io(format!("read {shown}")))?;
        serde_json::from_str(&text).map_err(|error| Error::Output {
            what: shown.to_string(),
            expected: "what a benchmark writes to target/bench".to_owned(),
            got: error.to_string(),
        })
    }
}

/// Writes a result to `path`, whose folder is made, and gives the path without detours.
///
/// # Errors
/// [`Error::Io`] when it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<PathBuf> {
    let failed = || Error::io(format!("write {}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed())?;
    }
    fs::write(path, text).map_err(failed())?;
    path.canonicalize().map_err(failed())
}

/// A table in Markdown, its columns as wide as their widest cell.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let names: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let ruler = widths.iter().enumerate().map(|(column, width)| {
        let dashes = "-".repeat(width - usize::from(column > 0));
        if column == 0 { dashes } else { dashes + ":" }
    });
    let body: String = rows.iter().map(|row| line(row)).collect();
    line(&names) + &line(&ruler.collect::<Vec<_>>()) + &body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results::new("tiers", 3, 3);
        for value in [3.0, 1.0, 2.0] {
            results.add("100/clean/none/tcp", &[("goodput_mbps", value)], Value::Null);
        }
        results.fail("100/clean/quincy/tcp", &Error::NotRoot { uid: 1 });
        results
    }

    #[test]
    fn what_is_written_is_read_and_has_medians() {
        let folder = tempfile::tempdir().unwrap();
        let results = results();
        let path = results.write(&folder.path().join("bench/x.json")).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
        let value: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(value["rows"][0]["medians"]["goodput_mbps"], 2.0);
        assert_eq!(results.failures(), 1);
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&folder.path().join("x.json"), "{\"rows\": 7}").unwrap();
        assert!(Results::read(&path).unwrap_err().to_string().contains("target/bench"));
    }

    #[test]
    fn a_row_without_the_figure_has_no_median() {
        let results = results();
        assert_eq!(results.row("100/clean/quincy/tcp").unwrap().median("goodput_mbps"), None);
        assert_eq!(results.row("100/clean/none/tcp").unwrap().median("goodput_mbps"), Some(2.0));
    }

    #[test]
    fn a_table_is_aligned() {
        let text = table(&["", "Mbit/s"], &[vec!["none".to_owned(), "94".to_owned()]]);
        assert_eq!(text, "|      | Mbit/s |\n| ---- | -----: |\n| none |     94 |\n");
    }
}
