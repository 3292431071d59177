//! `stoq-perf`: the command line of the test bed and the benchmarks; `cargo xtask bench` calls it.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use stoq_perf::bed::{Bed, Shape};
use stoq_perf::bench::{
    self, Results, Subject, compare, connections, continuity, document, port, relay, revoke, scale,
    tiers,
};
use stoq_perf::continuity::Event;
use stoq_perf::{flood, links, soak, workspace};

#[derive(Parser)]
#[command(name = "stoq-perf", about = "Test bed and benchmarks (needs root)")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Goodput, latency and CPU time through no tunnel, stoqd on each port, and other tunnels, on each
    /// class of wire.
    Tiers(TiersArgs),
    /// What a packet costs with one worker to one for each core.
    Scale(ScaleArgs),
    /// Whether the second result differs from the first by more than chance; fails on a regression.
    Compare(CompareArgs),
    /// Puts the last results into docs/performance.md.
    Report {
        /// The results; those of tiers, scale and continuity in target/bench by default, where there.
        files: Vec<PathBuf>,
    },
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
    /// What traffic notices of reloads, certificate swaps, upgrades and restarts; fails where it is more than promised.
    Continuity {
        /// Which ports: mio, uring, xdp; all by default.
        #[arg(long, value_delimiter = ',', default_value = "mio,uring,xdp")]
        port: Vec<String>,
        /// What is done: reload, certificate, upgrade, other-build, restart; all by default.
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "reload,certificate,upgrade,other-build,restart"
        )]
        events: Vec<Event>,
        /// How often, on each node in turn; other-build 4 times at most.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Mbit/s of the TCP stream: what a host of two cores carries beside two handshakes.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,
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
struct TiersArgs {
    /// Every rate, path, subject and load (hours), not only what the table of wanted figures needs.
    #[arg(long, conflicts_with_all = ["only", "shape", "path", "load", "direct"])]
    full: bool,
    /// What to measure: none, stoq (all ports), mio, uring, xdp, gotatun, quincy, quincy-noise,
    /// wireguard-go, nebula, openvpn.
    #[arg(long, value_delimiter = ',', value_parser = Subject::named)]
    only: Vec<Vec<Subject>>,
    /// Rates of the wire in Mbit/s, or none.
    #[arg(long, value_delimiter = ',')]
    shape: Vec<Shape>,
    /// What the wire does besides: clean, or rtt and ms, or loss and percent, as in rtt20-loss1.
    #[arg(long, value_delimiter = ',')]
    path: Vec<tiers::Path>,
    /// What is carried: idle, tcp, tcp8, udp.
    #[arg(long, value_delimiter = ',')]
    load: Vec<tiers::Load>,
    /// Seconds of each run, after a warm-up of one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Runs of each; the figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// One cable from edge to edge, without the bridge that shapes.
    #[arg(long, conflicts_with_all = ["shape", "path"])]
    direct: bool,
    /// A key of stoqd's configuration, such as transport.gso=false; may be repeated.
    #[arg(long, value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Where the result goes instead of target/bench/tiers.json; tables and plots go beside it.
    #[arg(long)]
    output: Option<PathBuf>,
}

impl TiersArgs {
    /// What is to be run: what is asked for by default, unless something was chosen.
    fn groups(&self) -> Vec<tiers::plan::Group> {
        if self.full {
            return tiers::plan::whole();
        }
        let Self { only, shape, path, load, direct, .. } = self;
        let nothing_chosen =
            only.is_empty() && shape.is_empty() && path.is_empty() && load.is_empty() && !direct;
        if nothing_chosen {
            return tiers::plan::asked();
        }
        let shapes = if *direct { &[Shape::Unshaped][..] } else { or(shape, &tiers::plan::SHAPES) };
        let paths = or(path, &[tiers::Path { rtt_ms: 0, loss_percent: 0 }]);
        let named: Vec<Subject> = only.iter().flatten().copied().collect();
        let loads = or(load, &[tiers::Load::Idle, tiers::Load::Tcp]);
        tiers::plan::chosen(shapes, paths, or(&named, &Subject::DEFAULT), loads)
    }
}

/// What was chosen, or the default.
fn or<'a, T>(chosen: &'a [T], default: &'a [T]) -> &'a [T] {
    if chosen.is_empty() { default } else { chosen }
}

#[derive(Args)]
struct ScaleArgs {
    /// Which ports: mio, uring, xdp; uring by default.
    #[arg(long, value_delimiter = ',', value_parser = Subject::named)]
    only: Vec<Vec<Subject>>,
    /// Seconds of each run, after a warm-up of one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Runs of each; the figures are medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

#[derive(Args)]
struct CompareArgs {
    /// The earlier result.
    before: PathBuf,
    /// The later one.
    after: PathBuf,
    /// What is too small to matter, however sure it is, in percent.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    threshold_percent: u32,
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
        Command::Tiers(args) => bench_tiers(args),
        Command::Scale(args) => bench_scale(args),
        Command::Compare(args) => compare_results(&args),
        Command::Report { files } => report(files),
        Command::Port(args) => bench_port(args),
        Command::PortEnd { spec } => Ok(port::end(&spec)?),
        Command::Flood(args) => bench_flood(args),
        Command::FloodEnd { spec } => Ok(flood::end(&spec)?),
        Command::Connections(args) => bench_connections(args),
        Command::LinksEnd { spec } => Ok(links::end(&spec)?),
        Command::Continuity { port, events, rounds, rate } => {
            say_failures(continuity::run(&continuity::Plan { ports: port, events, rounds, rate })?)
        }
        Command::Revoke { hosts, rounds } => Ok(revoke::run(&revoke::Plan { hosts, rounds })?),
        Command::Soak { port, minutes } => Ok(soak::run(&port, minutes)?),
        Command::Relay => Ok(relay::run()?),
        Command::Bed => keep_bed(),
    }
}

fn bench_tiers(args: TiersArgs) -> Result<()> {
    let groups = args.groups();
    let TiersArgs { seconds, rounds, direct, set, output, .. } = args;
    let output = output.unwrap_or_else(|| workspace::result("tiers.json"));
    let plan = tiers::Plan { groups, seconds, rounds, direct, settings: set, output };
    say_failures(tiers::run(&plan)?)
}

fn bench_scale(args: ScaleArgs) -> Result<()> {
    let ScaleArgs { only, seconds, rounds } = args;
    let named: Vec<Subject> = only.into_iter().flatten().collect();
    if named.iter().any(|subject| !matches!(subject, Subject::Stoq(_))) {
        bail!("expected ports of stoqd (mio, uring, xdp): nothing else has workers to count");
    }
    let ports = or(&named, &[Subject::Stoq("uring")]).to_vec();
    say_failures(scale::run(&scale::Plan { ports, seconds, rounds })?)
}

fn compare_results(args: &CompareArgs) -> Result<()> {
    let (before, after) = (Results::read(&args.before)?, Results::read(&args.after)?);
    let threshold = f64::from(args.threshold_percent) / 100.0;
    let comparison = compare::compare(&before, &after, threshold);
    for (which, results) in [("before", &before), ("after", &after)] {
        if !results.host.kernel.is_empty() {
            println!("{which}: {}\n", results.host.line());
        }
    }
    println!("{}", comparison.table());
    if comparison.changes.is_empty() {
        bail!("the two results have no figure in common: were they made by the same benchmark?");
    }
    if comparison.has_regression() {
        bail!("a regression of more than {} %, or a figure that is gone", args.threshold_percent);
    }
    Ok(())
}

fn report(files: Vec<PathBuf>) -> Result<()> {
    let usual = ["tiers.json", "scale.json", "continuity.json"].map(workspace::result);
    let there = || usual.into_iter().filter(|file| file.is_file()).collect();
    let files: Vec<PathBuf> = if files.is_empty() { there() } else { files };
    if files.is_empty() {
        bail!("nothing was measured yet: run `cargo xtask bench tiers` first");
    }
    Ok(document::fill(&workspace::root().join("docs/performance.md"), &files)?)
}

fn say_failures(failures: usize) -> Result<()> {
    match failures {
        0 => Ok(()),
        failures => bail!("{failures} of the runs failed; the reasons are above and in the JSON"),
    }
}

fn bench_port(args: PortArgs) -> Result<()> {
    let PortArgs { only, seconds, rounds, no_tunnel, output } = args;
    let transports = if only.is_empty() { port::Transport::ALL.to_vec() } else { only };
    let output = output.unwrap_or_else(|| workspace::target().join("bench/port.json"));
    let plan = port::Plan { transports, seconds, rounds, tunnel: !no_tunnel, output };
    say_failures(port::run(&plan)?)
}

fn bench_flood(args: FloodArgs) -> Result<()> {
    let FloodArgs { only, seconds, rounds } = args;
    let subjects = if only.is_empty() { bench::flood::DEFAULT.to_vec() } else { only };
    say_failures(bench::flood::run(&bench::flood::Plan { subjects, seconds, rounds })?)
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
