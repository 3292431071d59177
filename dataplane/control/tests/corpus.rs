//! Replays what the fuzz target has found, so that what was once broken stays mended.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../fuzz/bodies/control.rs"]
mod bodies;

#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;

#[test]
fn lines() {
    replay::replay("control_line", bodies::line);
}
