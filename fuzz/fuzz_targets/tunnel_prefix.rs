//! A prefix in a configuration or a push.
#![no_main]

#[path = "../bodies/tunnel.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::prefix(data));
