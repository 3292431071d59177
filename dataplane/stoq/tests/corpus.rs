//! What fuzzing has found is run again with the ordinary tests: every input of `fuzz/corpus`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../fuzz/bodies/stoq.rs"]
mod bodies;

#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;

use replay::replay;

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

#[test]
fn stream_headers() {
    replay("stoq_stream", bodies::stream);
}
