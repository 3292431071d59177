//! Benchmarks that compare, in one run on one host, what can be compared only so. Each writes a
//! table to standard output and `target/bench/NAME.json`. `stoq-perf` and `cargo xtask bench` call
//! them.

pub mod connections;
pub mod flood;
mod host;
pub mod port;
pub mod relay;
mod report;
pub mod revoke;
mod subject;
pub mod tunnel;

pub use host::Host;
pub use subject::Subject;
