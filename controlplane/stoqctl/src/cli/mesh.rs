//! The commands that make a mesh, grow it and look at it: their arguments, as `--help` shows them.
//! `crate::mesh` and `crate::records` carry them out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::{IpNet, Ipv4Net};

/// Where the root's key is kept until it is moved away.
pub const ROOT_DIRECTORY: &str = "/var/lib/stoq-root";

/// The longest life of a token: one that is found later than that is worth nothing.
const EXPIRY_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// `stoqctl mesh`
#[derive(Debug, Subcommand)]
pub enum Mesh {
    /// Make a mesh, with this host as its first node and its first issuer.
    Create(Create),
    /// Make a token that lets one host join as NODE. It is printed once, on standard output.
    Token(Token),
    /// Join this host to the mesh that a token is for.
    Join(Join),
    /// Show who is in the mesh.
    Members,
    /// Say which networks are behind a node.
    #[command(subcommand)]
    Route(Route),
    /// Make NODE a further issuer, so that renewal goes on without the first one.
    Promote {
        /// The node.
        node: String,
        /// Where the root's key is.
        #[arg(long, value_name = "DIR", default_value = ROOT_DIRECTORY)]
        root: PathBuf,
    },
    /// Cut NODE off, everywhere and for good: neither its name nor its keys ever come back.
    Revoke {
        /// The node.
        node: String,
    },
    /// Become an operator by a token, and write operator.pem and root.crt into DIR, for `--api`.
    Enrol {
        /// It is made if it is not there; files in it are not replaced.
        directory: PathBuf,
        /// Read the token from this file instead of standard input.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Replace the operator's certificate that `--identity` names by a new one, before it ends.
    Renew,
    /// Take this host out of the mesh.
    Leave,
}

/// What the configuration of this host's stoqd is written from.
#[derive(Debug, Args)]
pub struct Host {
    /// Where other nodes reach this host's stoqd: ADDRESS:PORT. May be given again.
    #[arg(long = "endpoint", value_name = "ADDR")]
    pub endpoints: Vec<SocketAddr>,
    /// The configuration of stoqd; it is written if there is none, and never changed.
    #[arg(long, value_name = "FILE", default_value = "/etc/stoq/stoqd.toml")]
    pub config: PathBuf,
}

/// `stoqctl mesh create`
#[derive(Debug, Args)]
pub struct Create {
    /// The mesh's name: 1 to 46 of a-z, 0-9 and '-'.
    pub name: String,
    /// This host's name in the mesh. Without it, the host's own.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Give every node an IPv4 address of this network too.
    #[arg(long, value_name = "PREFIX")]
    pub ipv4: Option<Ipv4Net>,
    /// Where the root's key goes. It must not hold one yet.
    #[arg(long, value_name = "DIR", default_value = ROOT_DIRECTORY)]
    pub root: PathBuf,
    #[command(flatten)]
    pub host: Host,
}

/// `stoqctl mesh token`
#[derive(Debug, Args)]
pub struct Token {
    /// The name that the token is for: 1 to 63 of a-z, 0-9 and '-'.
    pub node: String,
    /// What the holder becomes: a node, or somebody who operates the mesh from elsewhere.
    #[arg(long, value_enum, default_value_t)]
    pub role: Role,
    /// How long the token may be used: a number with s, m, h or d; at most 30d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub expires: Duration,
    /// Write the token to this file (mode 0600; must not exist yet) instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What a token makes of its holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A node of the mesh.
    #[default]
    Node,
    /// An operator who may look.
    Viewer,
    /// An operator who may also invite, and set routes.
    Operator,
    /// An operator who may do everything.
    Admin,
}

/// `stoqctl mesh join`
#[derive(Debug, Args)]
pub struct Join {
    /// Read the token from this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub host: Host,
}

/// `stoqctl mesh route`
#[derive(Debug, Subcommand)]
pub enum Route {
    /// PREFIX is behind NODE from now on: packets to it go there, and may come from there.
    Add(Behind),
    /// PREFIX is not behind NODE any more.
    Remove(Behind),
}

/// A network and the node that it is behind.
#[derive(Debug, Args)]
pub struct Behind {
    /// The node.
    pub node: String,
    /// The network: ADDRESS/LENGTH.
    pub prefix: IpNet,
}

/// Reads `90s`, `30m`, `24h` or `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let advice = || format!("expected a number with s, m, h or d, such as 24h, got {text:?}");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(advice)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(advice()),
    };
    let number: u64 = number.parse().map_err(|_| advice())?;
    let asked = number.checked_mul(seconds).map(Duration::from_secs);
    match asked {
        Some(asked) if !asked.is_zero() && asked <= EXPIRY_MAX => Ok(asked),
        _ => Err(format!("expected 1s to 30d, got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser;

    fn mesh(line: &[&str]) -> Result<Mesh, clap::Error> {
        let line = ["stoqctl", "mesh"].iter().chain(line);
        Arguments::try_parse_from(line).map(|parsed| match parsed.command {
            Command::Mesh(mesh) => mesh,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("24h", 86_400), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for refused in ["", "h", "24", "24 h", "0s", "31d", "-1h", "99999999999999999999d", "1w"] {
            assert!(duration(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_mesh_is_created_with_a_name_alone() {
        let Mesh::Create(create) = mesh(&["create", "lab"]).unwrap() else { panic!() };
        assert_eq!(create.name, "lab");
        assert_eq!(create.root, PathBuf::from("/var/lib/stoq-root"));
        assert_eq!(create.host.config, PathBuf::from("/etc/stoq/stoqd.toml"));
        assert!(create.ipv4.is_none() && create.host.endpoints.is_empty());
    }

    #[test]
    fn endpoints_and_networks_are_checked_before_anything_is_done() {
        let two = ["create", "lab", "--endpoint", "10.99.0.1:9292", "--endpoint", "[fd00::1]:9292"];
        let Mesh::Create(create) = mesh(&two).unwrap() else { panic!() };
        assert_eq!(create.host.endpoints.len(), 2);
        for refused in [
            &["create"][..],
            &["create", "lab", "--endpoint", "edge-a:9292"],
            &["create", "lab", "--ipv4", "fd00::/64"],
            &["route", "add", "edge-b", "10.2.0.0"],
            &["route", "add", "edge-b"],
            &["token", "edge-b", "--role", "root"],
            &["token", "edge-b", "--expires", "31d"],
        ] {
            assert!(mesh(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_token_is_never_an_argument() {
        assert!(mesh(&["join", "stoq-token"]).is_err());
        assert!(mesh(&["join", "--token", "stoq-token"]).is_err());
        let Mesh::Join(join) = mesh(&["join", "--token-file", "/t"]).unwrap() else { panic!() };
        assert_eq!(join.token_file, Some(PathBuf::from("/t")));
    }
}
