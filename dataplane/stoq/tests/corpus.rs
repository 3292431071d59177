//! What fuzzing has found is run again with the ordinary tests: every input of `fuzz/corpus`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../fuzz/bodies/stoq.rs"]
mod bodies;

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(&corpus).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(!files.is_empty(), "no inputs in {}", corpus.display());
    for file in files {
        println!("{}", file.display());
        body(&std::fs::read(file).unwrap());
    }
}

#[test]
fn connection_ids() {
    replay("stoq_cid", bodies::cid);
}

#[test]
fn control_streams() {
    replay("stoq_control", bodies::control);
}

#[test]
fn datagrams() {
    replay("stoq_datagrams", bodies::datagrams);
}

#[test]
fn marked_packets() {
    replay("stoq_ecn", bodies::ecn);
}
