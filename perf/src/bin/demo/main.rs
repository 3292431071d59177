//! `demo`: watch STOQ carry a file between two hosts; `cargo xtask demo` builds and starts it.
//!
//! With root it is two hosts in network namespaces ([`tunnel`]); without, two daemons on the loopback
//! ([`stream`]).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod copy;
mod live;
mod stream;
mod tunnel;

use anyhow::Result;
use clap::Parser;

/// Two hosts, a tunnel, a file through it, figures while it runs; everything is removed afterwards.
/// Without root: two daemons, and the file over a stream.
#[derive(Parser)]
#[command(name = "cargo xtask demo")]
struct Options {
    /// Size of the file in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    size_mib: u64,
    /// Seconds of each iperf3 run (with root)
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// How packets are moved: auto, uring or mio (without root always mio)
    #[arg(long, default_value = "auto")]
    port: String,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if nix::unistd::geteuid().is_root() { tunnel::run(&options) } else { stream::run(&options) }
}
