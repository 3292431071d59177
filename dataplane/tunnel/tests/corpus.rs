//! Replays what the fuzz targets have found, so that what was once broken stays mended.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../fuzz/bodies/tunnel.rs"]
mod bodies;

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap()).collect();
    assert!(!files.is_empty(), "the corpus in {} is empty", folder.display());
    for file in files {
        println!("{}", file.path().display());
        body(&std::fs::read(file.path()).unwrap());
    }
}

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
