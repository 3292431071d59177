//! Fuzzes what `parsers::datagrams` says.
#![no_main]

#[allow(dead_code, reason = "each target uses one of the bodies")]
#[path = "../../dataplane/stoq/tests/parsers/mod.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| parsers::datagrams(data));
