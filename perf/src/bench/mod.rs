//! Benchmarks that compare, in one run on one host, what can be compared only so. Each writes a
//! table to standard output and `target/bench/NAME.json`. `stoq-perf` and `cargo xtask bench` call
//! them.

pub mod compare;
pub mod connections;
pub mod continuity;
pub mod document;
pub mod flood;
mod host;
mod plot;
pub mod port;
pub mod relay;
pub mod results;
pub mod revoke;
pub mod scale;
mod stream;
mod subject;
pub mod tiers;

pub use host::Host;
pub use results::Results;
pub use subject::Subject;
