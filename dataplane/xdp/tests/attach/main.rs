//! The program on a real interface: a veth between two namespaces. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bed;
mod life;
mod privilege;
#[path = "../verdicts/socket.rs"]
mod socket;
mod traffic;
