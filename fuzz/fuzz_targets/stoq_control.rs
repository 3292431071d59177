//! The control stream, cut anyhow.
#![no_main]

#[path = "../bodies/stoq.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::control(data));
