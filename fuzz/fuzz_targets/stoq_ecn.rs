//! Marking of packets whose flow is to slow down.
#![no_main]

#[path = "../bodies/stoq.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::ecn(data));
