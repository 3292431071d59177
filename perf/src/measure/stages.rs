//! Where a node's worker spends its time, as the node itself tells it: by stage, for a packet. Read from its
//! metrics by the benchmarks.

use crate::bed::Namespace;
use crate::node::METRICS;
use serde::Serialize;

/// The time of a packet in one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StageTime {
    /// The stage's name, as in the metrics' reference.
    pub stage: String,
    /// Median in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 packets take no longer, in nanoseconds.
    pub p99_ns: u64,
}

/// Asks the node in this namespace; nothing where none answers, for other tunnels have no such metrics.
#[must_use]
pub fn read(namespace: &Namespace) -> Vec<StageTime> {
    let page = namespace.run("curl", ["-sS", "--fail", &format!("http://{METRICS}/metrics")]);
    page.map(|page| parse(&page)).unwrap_or_default()
}

/// The stages of the first worker.
fn parse(page: &str) -> Vec<StageTime> {
    let mut stages: Vec<StageTime> = Vec::new();
    for line in page.lines() {
        let Some((quantile, stage, ns)) = figure(line) else { continue };
        let place = stages.iter().position(|known| known.stage == stage).unwrap_or_else(|| {
            stages.push(StageTime { stage: stage.to_owned(), ..StageTime::default() });
            stages.len() - 1
        });
        match quantile {
            "p50" => stages[place].p50_ns = ns,
            _ => stages[place].p99_ns = ns,
        }
    }
    stages
}

/// Quantile, stage and value of a line such as
/// `stoq_stage_p50_nanoseconds{worker="0",stage="open"} 510`.
fn figure(line: &str) -> Option<(&str, &str, u64)> {
    let rest = line.strip_prefix("stoq_stage_")?;
    let (quantile, rest) = rest.split_once("_nanoseconds{worker=\"0\",stage=\"")?;
    let (stage, value) = rest.split_once("\"} ")?;
    Some((quantile, stage, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_workers_stages_are_read() {
        let page = "# HELP x\nstoq_stage_p50_nanoseconds{worker=\"0\",stage=\"open\"} 510\n\
                    stoq_stage_p50_nanoseconds{worker=\"1\",stage=\"open\"} 1\n\
                    stoq_stage_p99_nanoseconds{worker=\"0\",stage=\"open\"} 900\n";
        let stage = "open".to_owned();
        assert_eq!(parse(page), [StageTime { stage, p50_ns: 510, p99_ns: 900 }]);
    }
}
