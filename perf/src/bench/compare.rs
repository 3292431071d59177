//! `compare`: whether one result of a benchmark differs from another by more than chance.
//!
//! For each figure of each row that both have: the ratio of the medians, and an interval for it by the
//! bootstrap. Runs of both are drawn again with replacement, `RESAMPLES` times, from a fixed seed, so
//! that two files always give the same answer; the middle `CONFIDENCE` of the ratios is the interval.
//! With few runs the interval can be no wider than the runs themselves are apart: with three it is about
//! from the worst ratio to the best, and says nothing about runs of another day.

use super::results::{FIGURES, Figure, Results, table};
use crate::measure::median;
use std::fmt;

/// Times that runs are drawn again: enough that the ends of the interval stand still in their third
/// digit.
const RESAMPLES: usize = 10_000;

/// How much of the resampled ratios is inside the interval.
const CONFIDENCE: f64 = 0.95;

/// What the draws begin with.
const SEED: u64 = 0x0570_BE4C;

/// What a ratio says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Worse by more than the threshold, and one is not inside the interval.
    Regression,
    /// Better by more than the threshold, and one is not inside the interval.
    Improvement,
    /// Neither.
    NoDifference,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regression => "REGRESSION",
            Self::Improvement => "improvement",
            Self::NoDifference => "no difference",
        })
    }
}

/// One figure in both results.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The row.
    pub row: String,
    /// The figure.
    pub figure: &'static str,
    /// The median before.
    pub before: f64,
    /// The median after.
    pub after: f64,
    /// After over before.
    pub ratio: f64,
    /// Where the ratio is with a confidence of 95 %.
    pub interval: (f64, f64),
    /// What that says.
    pub verdict: Verdict,
}

/// A comparison of two results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// What both have.
    pub changes: Vec<Change>,
    /// Rows that only the earlier result has a figure for: what was lost is no improvement.
    pub gone: Vec<String>,
}

impl Comparison {
    /// Whether anything got worse, or is not there any more.
    #[must_use]
    pub fn has_regression(&self) -> bool {
        !self.gone.is_empty()
            || self.changes.iter().any(|change| change.verdict == Verdict::Regression)
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let cells = |change: &Change| {
            let (low, high) = change.interval;
            vec![
                change.row.clone(),
                change.figure.to_owned(),
                format!("{:.3}", change.before),
                format!("{:.3}", change.after),
                format!("{:.3}", change.ratio),
                format!("{low:.3}-{high:.3}"),
                change.verdict.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = self.changes.iter().map(cells).collect();
        let head = ["row", "figure", "before", "after", "ratio", "95 % interval", "verdict"];
        let gone: String = self.gone.iter().map(|row| format!("\nonly before: {row}")).collect();
        table(&head, &rows) + &gone
    }
}

/// Compares `after` with `before`. A difference of no more than `threshold` (0.05 is five in a
/// hundred) is none, however sure it is.
#[must_use]
pub fn compare(before: &Results, after: &Results, threshold: f64) -> Comparison {
    let mut comparison = Comparison::default();
    let mut random = fastrand::Rng::with_seed(SEED);
    for row in &before.rows {
        for figure in FIGURES.iter().filter(|figure| figure.is_compared) {
            let earlier = row.runs(figure.name);
            let later = after.row(&row.name).map_or(&[][..], |row| row.runs(figure.name));
            match (earlier.is_empty(), later.is_empty()) {
                (true, _) => {}
                (false, true) => comparison.gone.push(format!("{} {}", row.name, figure.name)),
                (false, false) => comparison.changes.push(change(
                    (&row.name, figure),
                    (earlier, later),
                    threshold,
                    &mut random,
                )),
            }
        }
    }
    comparison
}

fn change(
    (row, figure): (&str, &'static Figure),
    (earlier, later): (&[f64], &[f64]),
    threshold: f64,
    random: &mut fastrand::Rng,
) -> Change {
    let ratio = ratio_of_medians(earlier, later);
    let interval = interval(earlier, later, random);
    let row = row.to_owned();
    let verdict = judge(figure.more_is_better, ratio, interval, threshold);
    let (before, after) = (median(earlier), median(later));
    Change { row, figure: figure.name, before, after, ratio, interval, verdict }
}

fn judge(more_is_better: bool, ratio: f64, (low, high): (f64, f64), threshold: f64) -> Verdict {
    let rises = low > 1.0 && ratio > 1.0 + threshold;
    let falls = high < 1.0 && ratio < 1.0 - threshold;
    match (rises, falls, more_is_better) {
        (true, _, true) | (_, true, false) => Verdict::Improvement,
        (true, _, false) | (_, true, true) => Verdict::Regression,
        (false, false, _) => Verdict::NoDifference,
    }
}

/// After over before; equal zeros are no change, and a figure that rose from nothing rose without bound.
fn ratio_of_medians(earlier: &[f64], later: &[f64]) -> f64 {
    match (median(earlier), median(later)) {
        (before, after) if before > 0.0 => after / before,
        (_, after) if after > 0.0 => f64::INFINITY,
        _ => 1.0,
    }
}

/// Where the ratio of the medians is when the runs are drawn again.
fn interval(earlier: &[f64], later: &[f64], random: &mut fastrand::Rng) -> (f64, f64) {
    let mut draw = |runs: &[f64]| -> Vec<f64> {
        (0..runs.len()).map(|_| runs[random.usize(..runs.len())]).collect()
    };
    let mut ratios: Vec<f64> =
        (0..RESAMPLES).map(|_| ratio_of_medians(&draw(earlier), &draw(later))).collect();
    ratios.sort_by(f64::total_cmp);
    let outside = (1.0 - CONFIDENCE) / 2.0;
    let place = |share: f64| ((RESAMPLES - 1) as f64 * share).round() as usize;
    (ratios[place(outside)], ratios[place(1.0 - outside)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn results(rows: &[(&str, &str, &[f64])]) -> Results {
        let mut results = Results::new("tiers", 3, 3);
        for (row, figure, runs) in rows {
            for run in *runs {
                results.add(row, &[(figure, *run)], Value::Null);
            }
        }
        results
    }

    fn verdict(figure: &str, before: &[f64], after: &[f64]) -> Verdict {
        let (before, after) = (results(&[("x", figure, before)]), results(&[("x", figure, after)]));
        compare(&before, &after, 0.05).changes[0].verdict
    }

    #[test]
    fn a_clear_drop_is_a_regression_and_a_clear_rise_an_improvement() {
        let (fast, slow) = ([100.0, 101.0, 99.0, 100.5, 99.5], [80.0, 81.0, 79.0, 80.5, 79.5]);
        assert_eq!(verdict("goodput_mbps", &fast, &slow), Verdict::Regression);
        assert_eq!(verdict("goodput_mbps", &slow, &fast), Verdict::Improvement);
        assert_eq!(verdict("cpu_s_per_gb", &fast, &slow), Verdict::Improvement, "less is better");
        assert_eq!(verdict("cpu_s_per_gb", &slow, &fast), Verdict::Regression);
    }

    #[test]
    fn what_scatters_more_than_it_moved_is_no_difference() {
        let (before, after) = ([100.0, 60.0, 140.0, 95.0, 120.0], [90.0, 130.0, 55.0, 85.0, 110.0]);
        assert_eq!(verdict("goodput_mbps", &before, &after), Verdict::NoDifference);
    }

    #[test]
    fn what_is_sure_but_small_is_no_difference() {
        let (before, after) = ([100.0, 100.1, 99.9], [98.0, 98.1, 97.9]);
        assert_eq!(verdict("goodput_mbps", &before, &after), Verdict::NoDifference);
    }

    #[test]
    fn the_same_runs_give_the_same_interval_again() {
        let before = results(&[("x", "rtt_p99_ms", &[1.0, 3.0, 2.0])]);
        let after = results(&[("x", "rtt_p99_ms", &[2.0, 6.0, 4.0])]);
        let first = compare(&before, &after, 0.05);
        assert_eq!(first, compare(&before, &after, 0.05));
        let Change { ratio, interval: (low, high), .. } = first.changes[0];
        assert!(low < ratio && ratio < high, "{low} {ratio} {high}");
        assert!(low >= 2.0 / 3.0 && high <= 6.0, "no wider than the runs are apart");
    }

    /// The interval of 95 % must hold the truth in about 95 of 100 pairs of samples from one
    /// distribution; of ten runs each the percentile bootstrap of medians does it in no fewer than 90.
    #[test]
    fn chance_alone_is_seldom_called_a_difference() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut sample = || -> Vec<f64> { (0..10).map(|_| 100.0 + 20.0 * random.f64()).collect() };
        let mut outside = 0;
        for _ in 0..200 {
            let (before, after) = (sample(), sample());
            let mut draws = fastrand::Rng::with_seed(SEED);
            let (low, high) = interval(&before, &after, &mut draws);
            outside += usize::from(!(low..=high).contains(&1.0));
        }
        assert!(outside <= 20, "{outside} of 200 pairs");
    }

    #[test]
    fn a_figure_that_is_gone_is_no_improvement() {
        let before = results(&[("x", "goodput_mbps", &[1.0]), ("y", "goodput_mbps", &[1.0])]);
        let after = results(&[("x", "goodput_mbps", &[1.0])]);
        let comparison = compare(&before, &after, 0.05);
        assert!(comparison.has_regression());
        assert!(comparison.table().contains("only before: y goodput_mbps"));
        assert!(!compare(&after, &before, 0.05).has_regression(), "a new row is welcome");
    }

    #[test]
    fn nothing_before_has_no_ratio_that_passes() {
        assert_eq!(verdict("rtt_p50_ms", &[0.0; 3], &[1.0; 3]), Verdict::Regression);
        assert_eq!(verdict("rtt_p50_ms", &[0.0; 3], &[0.0; 3]), Verdict::NoDifference);
    }
}
