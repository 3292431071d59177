//! Slices of super-packets that a peer may send.
#![no_main]

#[path = "../bodies/tunnel.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::slices(data));
