//! `cargo xtask speed`: whether the path of a packet got slower than the commit before left it.
//!
//! In one process and in turn, our stages and bare quiche carry the same packets; the share of one in
//! the other hardly depends on the machine, and is compared with the share that is checked in as
//! `perf/baseline.json`. The development build is measured, for the tests have built it: the optimised
//! one takes the CI longer than all its tests. Called by the CI.

use std::fs;

use anyhow::{Context, Result};

use crate::step::{self, Step};
use crate::workspace;

/// What is checked in, below the workspace's folder.
const BASELINE: &str = "perf/baseline.json";

/// What is too small to fail for, in percent: on two cores with seven times as much to do, the same build
/// differed from itself by two.
const THRESHOLD_PERCENT: &str = "10";

/// Lines of the comparison that are shown.
const SHOWN: usize = 6;

/// Measures, and compares with the baseline, or replaces it when `accept` is set.
///
/// # Errors
/// When something does not compile, or a stage got slower beyond chance and threshold.
pub fn run(accept: bool) -> Result<()> {
    let result = workspace::scratch("path.json")?;
    let mut measure = workspace::cargo();
    measure.args(["bench", "--workspace", "--profile", "dev", "--locked", "--bench", "path", "--"]);
    Step {
        log: "path",
        title: "the path of a packet beside bare quiche",
        advice: "mend the build",
    }
    .run(measure.arg("--json").arg(&result))?;
    let baseline = workspace::root().join(BASELINE);
    if accept {
        fs::copy(&result, &baseline)
            .with_context(|| format!("cannot write {}", baseline.display()))?;
        println!("    {BASELINE} is what was measured now");
        return Ok(());
    }
    Step { log: "build-perf", title: "build what compares", advice: "mend what the compiler says" }
        .run(workspace::cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let mut compare = std::process::Command::new(workspace::target().join("debug/stoq-perf"));
    compare.arg("compare").arg(&baseline).arg(&result);
    let log = Step {
        log: "speed",
        title: "compare with perf/baseline.json",
        advice: "find what made the stage slower; when it must be, say so in the commit and run \
                 `cargo xtask speed --accept`",
    }
    .run(compare.args(["--threshold-percent", THRESHOLD_PERCENT]))?;
    println!("{}", step::last_lines(&log, SHOWN));
    Ok(())
}
