//! A chain of certificates from a peer.
#![no_main]

#[path = "../bodies/identity.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::chain(data));
