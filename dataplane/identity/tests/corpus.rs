//! What fuzzing has found is run again with the ordinary tests: every input of `fuzz/corpus`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../fuzz/bodies/identity.rs"]
mod bodies;

#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn chains() {
    replay("identity_chain", bodies::chain);
}

#[test]
fn names() {
    replay("identity_name", bodies::name);
}
