//! Headers of application streams.
#![no_main]

#[path = "../bodies/stoq.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::stream(data));
