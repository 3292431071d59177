//! The commands and their arguments, as `--help` shows them. Wrong usage ends with exit code 2,
//! and a misspelt command is answered with the nearest one.

mod mesh;
mod resolver;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use stoq_control::{CapturePoint, CaptureRequest, DEFAULT_SOCKET};
use stoq_tuning::{DEFAULT_RECORD, stage_names};

pub use mesh::{Behind, Create, Host, Join, Mesh, Role, Route, Token};
pub use resolver::{Resolver, ResolverStage, TUNNEL};

/// Where hypermeshd keeps this node's certificate and keys.
pub const IDENTITY: &str = "/var/lib/hypermesh/identity.pem";

/// Where hypermeshd keeps the certificate of the mesh's root.
pub const ROOT_CERTIFICATE: &str = "/var/lib/hypermesh/root.crt";

/// Operates a node of the mesh: certificates, status, captures, and the health of the host.
#[derive(Debug, Parser)]
#[command(
    name = "stoqctl",
    version,
    after_help = "Exit codes: 0 done; 1 the daemon refused, with its reason; 2 wrong usage or \
                  configuration; 3 the daemon cannot be reached."
)]
pub struct Arguments {
    /// The daemon's control socket.
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// The control plane's socket.
    #[arg(long, global = true, value_name = "PATH", default_value = hypermesh_api::DEFAULT_SOCKET)]
    pub hypermesh_socket: PathBuf,

    /// Ask the hypermeshd of another host by its API, https://ADDRESS:PORT, as an operator.
    #[arg(long, value_name = "URL", requires_all = ["identity", "authority"], value_parser = api)]
    pub api: Option<String>,

    /// With --api: the operator's certificates and keys, as `stoqctl mesh enrol` writes them.
    #[arg(long, value_name = "FILE", requires = "api")]
    pub identity: Option<PathBuf>,

    /// With --api: the certificate of the mesh's root.
    #[arg(long, value_name = "FILE", requires = "api")]
    pub authority: Option<PathBuf>,

    /// Answer in JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub command: Command,
}

/// Reads `https://ADDRESS:PORT`; the address and port are what counts.
fn api(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    let has_port = |address: &&str| {
        address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains('/')
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    let advice =
        || format!("expected https://ADDRESS:PORT, such as https://[fd00::1]:9292, got {text:?}");
    address.filter(has_port).map(str::to_owned).ok_or_else(advice)
}

/// `stoqctl backup`
#[derive(Debug, Args)]
pub struct Backup {
    /// Must not exist yet. Keep it as safe as a key: it holds this node's.
    #[arg(required_unless_present = "into", conflicts_with = "into")]
    pub file: Option<PathBuf>,
    /// Write a new file into DIR (mode 0700) instead, named by the time, and remove the oldest ones there.
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// With --into: how many backups stay in DIR.
    #[arg(long, value_name = "COUNT", requires = "into", default_value_t = 24,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub keep: u16,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a mesh, let hosts join it, route the networks behind them, cut hosts off.
    #[command(subcommand)]
    Mesh(Mesh),
    /// Look at certificates.
    #[command(subcommand)]
    Cert(Cert),
    /// The log of every certificate that was issued.
    #[command(subcommand)]
    Log(Verify),
    /// The log of every change and who made it.
    #[command(subcommand)]
    Audit(Verify),
    /// Write what it takes to bring the control plane back elsewhere into FILE (mode 0600).
    Backup(Backup),
    /// Bring the control plane back from FILE, on a host that has no state yet.
    Restore {
        /// What `stoqctl backup` wrote.
        file: PathBuf,
        #[command(flatten)]
        host: Host,
    },
    /// Print the completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the manual pages into DIR.
    Man {
        /// It is made if it is not there.
        directory: PathBuf,
    },
    /// Make the mesh's root, and issue node certificates.
    #[command(subcommand)]
    Pki(Pki),
    /// Show the node, its links and what was dropped.
    Status,
    /// Read the configuration and the identity again; links that stay configured stay up.
    Reload,
    /// Say goodbye on every link, then end the daemon.
    Drain,
    /// Hand over to a new process of the stoqd that is installed now; no link and no packet is lost.
    Upgrade,
    /// Write packets as pcap (for tcpdump and Wireshark) until a limit is reached.
    Capture(Capture),
    /// Join standard input and output to a service of a peer, until both directions have ended.
    Stream {
        /// The peer's name.
        peer: String,
        /// The service's name, as in the peer's configuration.
        service: String,
    },
    /// Say what is wrong with this host, and the command that mends it. Ends with 2 if anything
    /// keeps traffic from flowing.
    Doctor {
        #[command(flatten)]
        config: Config,
    },
    /// Set the host so that packets reach the worker that owns them, and undo it.
    #[command(subcommand)]
    Tune(Tune),
    /// Have this host ask hypermeshd for the mesh's names, and undo it.
    #[command(subcommand)]
    Names(Resolver),
}

/// `stoqctl cert`
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Show whose a certificate is, how long it is valid, and whether both of its signatures verify.
    Show {
        /// PEM, up to 64 certificates. Without it, this host's.
        #[arg(default_value = IDENTITY)]
        file: PathBuf,
        /// The root to verify against.
        #[arg(long, value_name = "FILE", default_value = ROOT_CERTIFICATE)]
        authority: PathBuf,
    },
}

/// `stoqctl log` and `stoqctl audit`
#[derive(Debug, Subcommand)]
pub enum Verify {
    /// Check all of it from the outside, against the root.
    Verify {
        /// The root to verify against.
        #[arg(long, value_name = "FILE", default_value = ROOT_CERTIFICATE)]
        authority: PathBuf,
    },
}

/// The configuration that says what is asked of the host.
#[derive(Debug, Args)]
pub struct Config {
    /// The daemon's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/stoq/stoqd.toml")]
    pub config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Tune {
    /// Show what each stage finds, what it should be, and what that gains. Changes nothing.
    Check {
        #[command(flatten)]
        only: Only,
        #[command(flatten)]
        config: Config,
    },
    /// Record what is there, then set what each stage asks for. It holds until the next boot.
    Apply {
        #[command(flatten)]
        only: Only,
        #[command(flatten)]
        config: Config,
        #[command(flatten)]
        record: Record,
    },
    /// Restore what was there before the first apply.
    Undo {
        #[command(flatten)]
        only: Only,
        #[command(flatten)]
        record: Record,
    },
    /// Show which cores workers and the control plane have, and why. Changes nothing.
    Cores {
        #[command(flatten)]
        config: Config,
    },
}

/// The stages to run.
#[derive(Debug, Args)]
pub struct Only {
    /// This stage alone.
    #[arg(value_name = "STAGE", value_parser = PossibleValuesParser::new(stage_names()))]
    pub stage: Option<String>,
}

/// The file that remembers what was there.
#[derive(Debug, Args)]
pub struct Record {
    /// What was there before is kept in this file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_RECORD)]
    pub record: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Pki {
    /// Make a root in DIR (ca.crt, ca.key). Keep it off the edge hosts. Overwrites nothing.
    Init {
        /// Where the root is kept.
        directory: PathBuf,
        /// The mesh's name: 1 to 63 of a-z, 0-9 and '-'.
        #[arg(long)]
        mesh: String,
    },
    /// Issue NODE a certificate for 90 days: OUT/node.crt, OUT/node.key, OUT/ca.crt.
    Issue {
        /// Where the root is kept.
        directory: PathBuf,
        /// The node's name, as in its configuration: 1 to 63 of a-z, 0-9 and '-'.
        node: String,
        /// Where the three files go; those that are there are replaced.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Capture {
    /// The packets inside the tunnel, in clear text (the default).
    #[arg(long, conflicts_with = "wire")]
    tunnel: bool,
    /// The UDP packets on the wire, sealed.
    #[arg(long)]
    wire: bool,
    /// End after this many packets.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CaptureRequest::MAX_PACKETS)))]
    count: u32,
    /// End after this many seconds.
    #[arg(long, value_name = "S", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CaptureRequest::MAX_SECONDS)))]
    pub seconds: u32,
    /// Write to this file (mode 0600; must not exist yet) instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

impl Capture {
    /// What to ask the daemon for.
    pub fn request(&self) -> CaptureRequest {
        let point = if self.wire { CapturePoint::Wire } else { CapturePoint::Tunnel };
        CaptureRequest {
            point,
            packets: self.count,
            bytes: CaptureRequest::MAX_BYTES,
            seconds: self.seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_socket_may_stand_before_and_behind_the_command() {
        for line in [["--socket", "/s", "status"], ["status", "--socket", "/s"]] {
            let parsed = Arguments::try_parse_from(["stoqctl"].iter().chain(&line)).unwrap();
            assert_eq!(parsed.socket, PathBuf::from("/s"));
        }
    }

    #[test]
    fn another_host_is_named_by_a_url_with_a_port_and_asked_as_somebody() {
        for (url, address) in
            [("https://[fd00::1]:9292", "[fd00::1]:9292"), ("https://hq:9292/", "hq:9292")]
        {
            assert_eq!(api(url).as_deref(), Ok(address));
        }
        for refused in ["http://hq:9292", "hq:9292", "https://hq", "https://:1", "https://hq/x:1"] {
            assert!(api(refused).is_err(), "{refused}");
        }
        let alone = ["stoqctl", "--api", "https://hq:9292", "mesh", "members"];
        assert!(Arguments::try_parse_from(alone).is_err(), "as nobody");
    }

    #[test]
    fn the_point_and_the_limits_of_a_capture_are_those_asked_for() {
        let request = |line: &[&str]| {
            let line = ["stoqctl", "capture"].iter().chain(line);
            Arguments::try_parse_from(line).map(|parsed| match parsed.command {
                Command::Capture(capture) => capture.request(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(request(&[]).unwrap().point, CapturePoint::Tunnel);
        let wire = request(&["--wire", "--count", "7", "--seconds", "9"]).unwrap();
        assert_eq!((wire.point, wire.packets, wire.seconds), (CapturePoint::Wire, 7, 9));
        for refused in [&["--wire", "--tunnel"][..], &["--count", "0"], &["--seconds", "601"]] {
            assert!(request(refused).is_err(), "{refused:?}");
        }
    }
}
