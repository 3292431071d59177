#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]
//! x
pub mod clock;
pub mod files;
pub mod store;
