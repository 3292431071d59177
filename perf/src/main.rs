//! `stoq-perf`: the command line of the test bed and the benchmarks; `cargo xtask bench` calls it.
#![forbid(unsafe_code)]

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::io;
use stoq_perf::bed::Bed;

#[derive(Parser)]
#[command(name = "stoq-perf", about = "Test bed and benchmarks (needs root)")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a bed with a host behind each edge and keeps it until standard input ends.
    Bed,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Bed => keep_bed(),
    }
}

fn keep_bed() -> Result<()> {
    let bed = Bed::with_sites()?;
    let hosts = [Some(&bed.a.namespace), Some(&bed.b.namespace), Some(&bed.middle)];
    for host in hosts.into_iter().chain([bed.a.lan.as_ref(), bed.b.lan.as_ref()]).flatten() {
        println!("{}", host.name());
    }
    println!("folder {}; ends with standard input (ctrl-D)", bed.folder().display());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
