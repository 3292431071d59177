//! Replays what the fuzz targets have found, so that what was once broken stays mended. Included by the
//! tests of each crate that has fuzz targets.

use std::path::Path;

/// Gives every input of a target's corpus to its body.
pub fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(&corpus).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(!files.is_empty(), "no inputs in {}", corpus.display());
    for file in files {
        println!("{}", file.display());
        body(&std::fs::read(file).unwrap());
    }
}
