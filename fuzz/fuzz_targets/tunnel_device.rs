//! What a TUN device may hand over.
#![no_main]

#[path = "../bodies/tunnel.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::device(data));
