//! stoqd: carries STOQ between this host and its peers. The command line, and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use stoqd::config::Config;

/// quiche allocates for every packet; this allocator gave the packet path about 5 %.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for wrong usage or configuration.
const USAGE: u8 = 2;

/// STOQ data plane daemon.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration, and exit.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(USAGE);
        }
    };
    if arguments.check {
        println!("{}: good", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    match stoqd::daemon::run(&arguments.config, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stoqd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
