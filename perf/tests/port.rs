//! The port benchmark in its shortest form: that each port moves packets between its ends, not how many.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use serde_json::Value;
use std::fs;
use std::process::Command;

#[test]
fn every_port_moves_packets_and_xdp_does_past_the_kernel() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED, network namespaces need root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("port.json");
    let mut perf = Command::new(env!("CARGO_BIN_EXE_stoq-perf"));
    perf.args(["port", "--seconds", "1", "--rounds", "1", "--no-tunnel", "--output"]).arg(&file);
    let output = perf.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}{printed}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let rows = report["results"].as_array().unwrap();
    assert_eq!(rows.len(), 12, "six ways in two sizes: {printed}");
    for row in rows {
        assert!(row["received_pps"].as_f64() > Some(0.0), "nothing came by {row}");
        let bypasses = row["subject"].as_str().unwrap().starts_with("xdp");
        assert_eq!(row["mode"] == "native+copy", bypasses, "{row}");
    }
}
