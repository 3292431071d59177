//! The parts of stoqd. What each is for stands at its head; `main.rs` only reads the command line.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

pub mod broker;
pub mod config;
pub mod control;
pub mod daemon;
mod durable;
pub mod inherit;
pub mod logging;
mod manager;
pub mod mesh;
pub mod metrics;
pub mod netlink;
#[cfg(test)]
mod testing;
pub mod worker;
