#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]
//! x
pub mod caller;
pub mod chain;
pub mod clock;
pub mod files;
pub mod refused;
pub mod server;
pub mod store;
