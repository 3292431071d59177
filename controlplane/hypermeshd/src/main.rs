//! hypermeshd: the control plane of a node. The command line, and nothing else.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests"))]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hypermeshd::daemon::{self, Settings};
use hypermeshd::{cores, files, metrics};
use tracing_subscriber::EnvFilter;

/// STOQ control plane daemon.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory of the state.
    #[arg(long, value_name = "DIR", default_value = files::DEFAULT_STATE)]
    state: PathBuf,
    /// Local socket, for stoqctl.
    #[arg(long, value_name = "PATH", default_value = hypermesh_api::DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Socket on which stoqd hands over streams of peers.
    #[arg(long, value_name = "PATH", default_value = files::DEFAULT_PEERS_SOCKET)]
    peers_socket: PathBuf,
    /// Control socket of stoqd.
    #[arg(long, value_name = "PATH", default_value = stoq_control::DEFAULT_SOCKET)]
    stoqd_socket: PathBuf,
    /// Address of the HTTPS API.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9292")]
    listen: SocketAddr,
    /// Address of the metrics.
    #[arg(long, value_name = "ADDRESS", default_value_t = metrics::DEFAULT_LISTEN)]
    metrics: SocketAddr,
    /// Loopback address at which this host asks for names, on port 53.
    #[arg(long, value_name = "ADDRESS", default_value_t = stoq_names::LOOPBACK.into())]
    names: IpAddr,
    /// Cores to stay on, such as 0-1,4. Without it those that the host's plan leaves to the control
    /// plane (`stoqctl tune cores`).
    #[arg(long, value_name = "LIST", value_parser = cores::parse)]
    cores: Option<cores::List>,
    /// Log as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if arguments.log_json {
        lines.json().flatten_event(true).init();
    } else {
        lines.with_ansi(false).init();
    }
    cores::stay_on(arguments.cores);
    let settings = Settings {
        state: arguments.state,
        socket: arguments.socket,
        peers_socket: arguments.peers_socket,
        stoqd_socket: arguments.stoqd_socket,
        listen: arguments.listen,
        metrics: arguments.metrics,
        names: arguments.names,
    };
    match daemon::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hypermeshd: {error:#}");
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
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/man/hypermeshd.8");
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).section("8").render(&mut page).unwrap();
        if std::env::var_os("STOQ_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read(&path).unwrap();
        assert!(written == page, "run the tests with STOQ_WRITE_DOCS=1 and commit the page");
    }
}
