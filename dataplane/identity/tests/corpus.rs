//! What fuzzing has found is run again with the ordinary tests: every input of `fuzz/corpus`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../fuzz/bodies/identity.rs"]
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
fn chains() {
    replay("identity_chain", bodies::chain);
}

#[test]
fn names() {
    replay("identity_name", bodies::name);
}
