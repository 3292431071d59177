//! stoqd: carries STOQ between this host and its peers. The command line, and nothing else.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_manual_is_made_from_the_definitions() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/man/stoqd.8");
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).section("8").render(&mut page).unwrap();
        if std::env::var_os("STOQ_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read(&path).unwrap();
        assert!(written == page, "run the tests with STOQ_WRITE_DOCS=1 and commit the page");
    }
}
