//! hypermeshd: the control plane of a node of a STOQ mesh.
//!
//! ```text
//!   stoqctl ──unix──┐
//!  operators ──TLS──┤  routes ──► core ──► ledger, issuer, log, audit ──► store (redb)
//!    joiners ──TLS──┤    ▲          ▲
//!  peers ───stoqd───┘    └── app ───┘◄── push · follow · recover · renewal · heads ──► stoqd's control socket
//!                                          names ──► this host's programs, peers: DNS
//! ```
//!
//! It runs without privilege on one async thread; whatever signs or writes runs beside it, one job at
//! a time. What it acknowledged survives a power cut. stoqd may be absent at any time, and forwards
//! packets when this daemon is. The binary is a thin shell around this library; tests run it whole.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

pub mod app;
pub mod backup;
pub mod book;
pub mod bundling;
pub mod caller;
pub mod chain;
pub mod clock;
pub mod core;
pub mod cores;
pub mod daemon;
pub mod files;
pub mod follow;
pub mod heads;
pub mod identity;
pub mod issuer;
pub mod join;
pub mod metrics;
pub mod names;
pub mod pace;
pub mod peers;
pub mod pem;
pub mod push;
pub mod recover;
pub mod refusals;
pub mod refused;
pub mod renewal;
pub mod roles;
pub mod routes;
pub mod server;
pub mod stoqd;
pub mod store;
pub mod term;
pub mod tls;
