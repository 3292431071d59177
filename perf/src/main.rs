//! `stoq-perf`: the command line of the test bed and the benchmarks; `cargo xtask bench` calls it.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use stoq_perf::bed::{Bed, Shape};
use stoq_perf::bench::{self, Subject, connections, port, relay, revoke, tunnel};
use stoq_perf::{flood, links, soak, workspace};

#[derive(Parser)]
#[command(name = "stoq-perf", about = "Test bed and benchmarks (needs root)")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One TCP stream and ping through no tunnel, stoqd on each port, gotatun and quincy.
    Tunnel(TunnelArgs),
    /// Packets per second and CPU time per packet of each port, and of the tunnel on it.
    Port(PortArgs),
    /// One end of `port`, which starts it in a namespace.
    #[command(hide = true)]
    PortEnd {
        /// What to do, as `port` says it.
        spec: String,
    },
    /// TCP through the tunnel at 1 Gbit/s while its port is flooded, and while a sink beside it is.
    Flood(FloodArgs),
    /// The sender of `flood`, which starts it in a namespace.
    #[command(hide = true)]
    FloodEnd {
        /// What to do, as `flood` says it.
        spec: String,
    },
    /// Many links on one stoqd: handshakes, memory, keepalives, and one link's speed among them.
    Connections(ConnectionsArgs),
    /// The nodes of `connections`, which starts them in a namespace.
    #[command(hide = true)]
    LinksEnd {
        /// What to do, as `connections` says it.
        spec: String,
    },
    /// How long a revoked host still has links.
    Revoke {
        /// Hosts that stay.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(2..=20))]
        hosts: u8,
        /// Hosts that join and are revoked, one after the other.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rounds: u32,
    },
    /// Mixed traffic for a long time: are memory and descriptors flat?
    Soak {
        /// The port: mio, uring or xdp.
        #[arg(long, default_value = "uring")]
        port: String,
        /// How long, in minutes; the shortest that shows anything is 3.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=10_000))]
        minutes: u32,
    },
    /// What the bed's delay relay itself can carry.
    Relay,
    /// Makes a bed with a host behind each edge and keeps it until standard input ends.
    Bed,
}

#[derive(Args)]
struct TunnelArgs {
    /// What to measure: none, stoq (all ports), mio, uring, gotatun, quincy (these are the
    /// default), quincy-noise.
    #[arg(long, value_delimiter = ',', value_parser = Subject::named)]
    only: Vec<Vec<Subject>>,
    /// Rates of the wire in Mbit/s, or none.
    #[arg(long, value_delimiter = ',', default_value = "none,1000,100")]
    shape: Vec<Shape>,
    /// Seconds of each run, after a warm-up of one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Runs of each; the figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// One cable from edge to edge, without the bridge that shapes.
    #[arg(long)]
    direct: bool,
    /// A key of stoqd's configuration, such as transport.gso=false; may be repeated.
    #[arg(long, value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

#[derive(Args)]
struct PortArgs {
    /// What to measure: plain, mio, uring, xdp, and those of them with `+napi`; all by default.
    #[arg(long, value_delimiter = ',', value_parser = port::Transport::named)]
    only: Vec<port::Transport>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Runs of each; the figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Leave the whole path of a packet (the tunnel on each port) out.
    #[arg(long)]
    no_tunnel: bool,
    /// Where the result goes instead of target/bench/port.json.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Args)]
struct FloodArgs {
    /// What is flooded: xdp, uring, mio, gotatun; all but mio by default.
    #[arg(long, value_delimiter = ',', value_parser = bench::flood::subject_named)]
    only: Vec<Subject>,
    /// Seconds of each run, after a warm-up of one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Runs of each; the figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

#[derive(Args)]
struct ConnectionsArgs {
    /// Links beside the one that carries traffic.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(links::NODES_MAX)))]
    links: u32,
    /// The port: mio, uring or xdp.
    #[arg(long, default_value = "uring")]
    port: String,
    /// Policies to measure: classical, hybrid; both by default.
    #[arg(long, value_delimiter = ',', default_value = "classical,hybrid", value_parser = is_hybrid)]
    policy: Vec<bool>,
    /// Seconds of each transfer, after a warm-up of one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Transfers in each direction, alone and among the links; the figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Where the result goes instead of target/bench/connections.json.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn is_hybrid(word: &str) -> Result<bool, String> {
    match word {
        "hybrid" => Ok(true),
        "classical" => Ok(false),
        other => Err(format!("expected classical or hybrid, got `{other}`")),
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, the value as in TOML")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stoq-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Tunnel(args) => bench_tunnel(args),
        Command::Port(args) => bench_port(args),
        Command::PortEnd { spec } => Ok(port::end(&spec)?),
        Command::Flood(args) => bench_flood(args),
        Command::FloodEnd { spec } => Ok(flood::end(&spec)?),
        Command::Connections(args) => bench_connections(args),
        Command::LinksEnd { spec } => Ok(links::end(&spec)?),
        Command::Revoke { hosts, rounds } => Ok(revoke::run(&revoke::Plan { hosts, rounds })?),
        Command::Soak { port, minutes } => Ok(soak::run(&port, minutes)?),
        Command::Relay => Ok(relay::run()?),
        Command::Bed => keep_bed(),
    }
}

fn bench_tunnel(args: TunnelArgs) -> Result<()> {
    let named: Vec<Subject> = args.only.into_iter().flatten().collect();
    let subjects = if named.is_empty() { Subject::DEFAULT.to_vec() } else { named };
    let TunnelArgs { shape, seconds, rounds, set, direct, .. } = args;
    let shapes = if direct { vec![Shape::Unshaped] } else { shape };
    let plan = tunnel::Plan { subjects, shapes, seconds, rounds, direct, settings: set };
    match tunnel::run(&plan)? {
        0 => Ok(()),
        failures => bail!("{failures} of the runs failed; the reasons are above and in the JSON"),
    }
}

fn bench_port(args: PortArgs) -> Result<()> {
    let PortArgs { only, seconds, rounds, no_tunnel, output } = args;
    let transports = if only.is_empty() { port::Transport::ALL.to_vec() } else { only };
    let output = output.unwrap_or_else(|| workspace::target().join("bench/port.json"));
    let plan = port::Plan { transports, seconds, rounds, tunnel: !no_tunnel, output };
    match port::run(&plan)? {
        0 => Ok(()),
        failures => bail!("{failures} of the runs failed; the reasons are above and in the JSON"),
    }
}

fn bench_flood(args: FloodArgs) -> Result<()> {
    let FloodArgs { only, seconds, rounds } = args;
    let subjects = if only.is_empty() { bench::flood::DEFAULT.to_vec() } else { only };
    match bench::flood::run(&bench::flood::Plan { subjects, seconds, rounds })? {
        0 => Ok(()),
        failures => bail!("{failures} of the runs failed; the reasons are above and in the JSON"),
    }
}

fn bench_connections(args: ConnectionsArgs) -> Result<()> {
    let ConnectionsArgs { links, port, policy, seconds, rounds, output } = args;
    let output = output.unwrap_or_else(|| workspace::target().join("bench/connections.json"));
    let plan = connections::Plan { links, port, hybrid: policy, seconds, rounds, output };
    Ok(connections::run(&plan)?)
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
