//! `cargo xtask`: set-up, tests, gates, packages, the demo and the benchmarks, each one command.
//!
//! It is what a newcomer, the CI and a developer run. It owns the order of the steps, the logs in
//! `target/xtask/` and the list of system packages; the work itself is done by cargo, by the
//! system's package manager and by the binaries of `perf/`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

mod alerts;
mod coverage;
mod ebpf;
mod gates;
mod links;
mod other;
mod package;
mod programs;
mod resolved;
mod setup;
mod speed;
mod step;
mod style;
mod supply;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every routine job of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Find the system packages that are missing; install them as root, or print the command
    Setup,
    /// Set up, build everything, run every test
    Test {
        /// Passed on to the test runner, for example a part of a test's name
        #[arg(trailing_var_arg = true)]
        filter: Vec<String>,
    },
    /// Format, rules on sources, links, dependencies, clippy, documentation, the XDP program, coverage
    Gates,
    /// Compile the XDP program anew, with a compiler that is fetched if need be
    Ebpf {
        /// Only compare with the object that is checked in
        #[arg(long)]
        check: bool,
    },
    /// Set up, build, and watch a tunnel carry a file between two hosts
    Demo {
        /// Passed on to the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Build what ships and make the .deb and the .rpm, checked; they go to target/package
    Package {
        /// For which architecture, as rustc calls it; this host's unless it is named
        #[arg(long, conflicts_with = "for_tests")]
        target: Option<String>,
        /// Build and pack again from a clone at another path: every byte must be the same
        #[arg(long, conflicts_with = "for_tests")]
        twice: bool,
        /// Pack what `cargo build` has made, as the two versions that the tests of packages install
        #[arg(long)]
        for_tests: bool,
    },
    /// Whether the path of a packet got slower than perf/baseline.json says
    Speed {
        /// Take what is measured now as the baseline
        #[arg(long)]
        accept: bool,
    },
    /// Set up, build, and measure; the result goes to target/bench/NAME.json
    Bench {
        /// Which benchmark: `tiers`, `scale`, `port`, `flood`, `connections`, `continuity` or `revoke`; or
        /// what deals with results: `compare` or `report`
        name: String,
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().job {
        Job::Setup => setup::run(setup::Scope::All),
        Job::Test { filter } => test::run(&filter),
        Job::Gates => gates::run(),
        Job::Ebpf { check } => ebpf::run(check),
        Job::Demo { options } => programs::demo(&options),
        Job::Package { target, twice, for_tests: false } => package::run(target.as_deref(), twice),
        Job::Package { for_tests: true, .. } => package::for_tests().map(|folder| {
            println!("    STOQ_PACKAGES={}", folder.display());
        }),
        Job::Speed { accept } => speed::run(accept),
        Job::Bench { name, options } => programs::bench(&name, &options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nfailed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
