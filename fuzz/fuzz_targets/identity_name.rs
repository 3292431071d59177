//! The name in a certificate.
#![no_main]

#[path = "../bodies/identity.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::name(data));
