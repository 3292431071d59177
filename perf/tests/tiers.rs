//! The tier benchmark in its shortest form: that it measures, judges and draws, not how much; and that
//! what it writes can be compared and has its exit status.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use stoq_perf::bench::Results;
use stoq_perf::workspace::Binaries;

fn perf(words: &[&str], files: &[&Path]) -> Output {
    let mut perf = Command::new(env!("CARGO_BIN_EXE_stoq-perf"));
    perf.args(words).args(files).output().unwrap()
}

fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn a_wire_is_measured_without_a_tunnel_and_with_ours() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED, network namespaces need root");
        return;
    }
    if Binaries::find().is_err() && !Binaries::are_named() {
        eprintln!("SKIPPED, stoqd is not built");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiers.json");
    let chosen = ["--shape", "100", "--only", "none,uring", "--seconds", "1", "--rounds", "1"];
    let words = [&["tiers"], &chosen[..], &["--output"]].concat();
    let output = perf(&words, &[&file]);
    assert!(output.status.success(), "{}", printed(&output));
    let results = Results::read(&file).unwrap();
    for row in ["100/clean/none/tcp", "100/clean/stoq-uring/tcp"] {
        let row = results.row(row).unwrap();
        let goodput = row.median("goodput_mbps").unwrap();
        assert!(goodput > 0.0 && goodput < 100.0, "{row:?}");
        assert_eq!(row.median("cpu_s_per_gb").is_some(), row.name.contains("stoq"), "{row:?}");
    }
    assert!(results.row("100/clean/none/idle").unwrap().median("rtt_p99_ms").is_some());
    assert!(printed(&output).contains("100: goodput, of the ceiling"), "{}", printed(&output));
    let svg = fs::read_to_string(folder.path().join("tiers-goodput.svg")).unwrap();
    assert!(svg.contains("stoq-uring"));
    let same = perf(&["compare"], &[&file, &file]);
    assert!(same.status.success(), "{}", printed(&same));
}

#[test]
fn a_regression_has_the_exit_status_of_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, runs: [f64; 3]| {
        let mut results = Results::new("tiers", 1, 3);
        for run in runs {
            results.add("x", &[("goodput_mbps", run)], serde_json::Value::Null);
        }
        results.write(&folder.path().join(name)).unwrap()
    };
    let (fast, slow) = (write("a.json", [100.0, 101.0, 99.0]), write("b.json", [80.0, 81.0, 79.0]));
    let worse = perf(&["compare"], &[&fast, &slow]);
    assert_eq!(worse.status.code(), Some(1));
    assert!(printed(&worse).contains("REGRESSION"), "{}", printed(&worse));
    assert!(perf(&["compare"], &[&slow, &fast]).status.success(), "an improvement passes");
}
