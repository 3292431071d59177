//! Replays what the fuzz targets have found, so that what was once broken stays mended.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../fuzz/bodies/tunnel.rs"]
mod bodies;

#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn device() {
    replay("tunnel_device", bodies::device);
}

#[test]
fn link() {
    replay("tunnel_link", bodies::link);
}

#[test]
fn prefix() {
    replay("tunnel_prefix", bodies::prefix);
}

#[test]
fn slices() {
    replay("tunnel_slices", bodies::slices);
}
