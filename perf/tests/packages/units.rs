//! The units, as systemd judges them.

use std::process::Command;

use stoq_perf::workspace;

use crate::run;

/// Below 5.0 is "OK" (systemd-analyze(1)); the program takes tenths.
const EXPOSURE_MAX_TENTHS: u32 = 49;

#[test]
fn what_runs_all_the_time_is_exposed_ok_at_most() {
    for unit in ["stoqd.service", "hypermeshd.service", "stoq-backup.service"] {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager"]);
        analyze.arg(format!("--threshold={EXPOSURE_MAX_TENTHS}"));
        let printed = run(analyze.arg(workspace::root().join("packaging/units").join(unit)));
        eprintln!("{}", printed.lines().last().unwrap_or_default());
    }
}
