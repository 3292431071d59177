//! Packets that a peer may send through the tunnel.
#![no_main]

#[path = "../bodies/tunnel.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::link(data));
