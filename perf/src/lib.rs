//! The test bed, the tier benchmarks and the end-to-end tests of the appliance.
//!
//! - [`bed`]: two edge hosts in network namespaces with a bridge between them, in wire mode, with
//!   shaping, loss, delay and blackholes; it is gone when its process is, however that ends.
//! - [`process`]: programs run in it, with their logs and their CPU time.
//! - [`node`]: `stoqd` on an edge, with keys from `stoqctl pki`, driven as an operator would.
//! - [`clock`]: a wall clock that a test can move.
//! - [`mesh`]: hosts of a mesh, each with its own files, `hypermeshd` and `stoqd`.
//! - [`peers`]: other tunnels, measured beside ours in one run.
//! - [`measure`]: one TCP stream by iperf3, latency by ping.
//! - [`continuity`]: what traffic notices of what an operator does routinely.
//! - [`service`]: a service manager that keeps descriptors for daemons that hand over.
//! - [`bypass`]: a lane past the kernel without a daemon, for ends of a measurement that send and receive.
//! - [`flood`]: packets from made-up sources, as fast as one core sends.
//! - [`links`]: many nodes in one process, each linked to the same `stoqd`.
//! - [`mod@bench`]: `stoq-perf tiers`, `scale`, `port`, `flood`, `revoke`, `connections`, `continuity`, and [`soak`]: `stoq-perf soak`.
//!
//! Its users are `cargo xtask bench`, `cargo xtask demo` and the tests in `tests/`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

pub mod bed;
pub mod bench;
pub mod bypass;
pub mod clock;
pub mod continuity;
mod error;
pub mod flood;
pub mod links;
pub mod measure;
pub mod mesh;
pub mod node;
pub mod peers;
pub mod process;
pub mod service;
pub mod soak;
pub mod wait;
pub mod workspace;

pub use error::{Error, Result};
