//! Connection IDs, where they stand in packets, and their stored keys.
#![no_main]

#[path = "../bodies/stoq.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::cid(data));
