//! What is measured: no tunnel, `stoqd` on one of its ports, or a peer.

use crate::Result;
use crate::bed::{Bed, Family, Side};
use crate::measure::ping;
use crate::node::{Deployment, LINK_UP, NodeConfig};
use crate::peers::{Peer, Running};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// How long the bare wire may take to pass the first packet.
const WIRE: Duration = Duration::from_secs(5);

/// One way from edge A to edge B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The bare wire.
    NoTunnel,
    /// `stoqd` on this port.
    Stoq(&'static str),
    /// Another tunnel.
    Peer(Peer),
}

impl Subject {
    /// Those that are measured by default, in the order of the table.
    pub const DEFAULT: [Self; 6] = [
        Self::NoTunnel,
        Self::Stoq("mio"),
        Self::Stoq("uring"),
        Self::Stoq("xdp"),
        Self::Peer(Peer::Gotatun),
        Self::Peer(Peer::Quincy),
    ];

    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NoTunnel,
        Self::Stoq("mio"),
        Self::Stoq("uring"),
        Self::Stoq("xdp"),
        Self::Peer(Peer::Gotatun),
        Self::Peer(Peer::Quincy),
        Self::Peer(Peer::QuincyNoise),
        Self::Peer(Peer::WireguardGo),
        Self::Peer(Peer::Nebula),
        Self::Peer(Peer::OpenVpn),
    ];

    /// Those that a word on the command line means; `stoq` means all its ports.
    ///
    /// # Errors
    /// The words that are known, when this one is not.
    pub fn named(word: &str) -> std::result::Result<Vec<Self>, String> {
        let matches = |subject: &Self| {
            let name = subject.to_string();
            name == word
                || name.strip_prefix("stoq-") == Some(word)
                || (word == "stoq" && name.starts_with("stoq-"))
        };
        let found: Vec<Self> = Self::ALL.into_iter().filter(matches).collect();
        if found.is_empty() {
            let known: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            return Err(format!("expected `stoq` or one of {}, got `{word}`", known.join(", ")));
        }
        Ok(found)
    }

    /// Whether `stoqd` takes these settings; other subjects have none.
    ///
    /// # Errors
    /// [`crate::Error::Command`] with what it said when it does not.
    pub fn check(self, bed: &Bed, settings: &[(String, String)]) -> Result<()> {
        let Self::Stoq(port) = self else { return Ok(()) };
        Deployment::new(bed)?.check(Side::A, &configured(port, settings))
    }

    /// Makes it carry packets, with these settings if it is `stoqd`. Also gives what it says about
    /// itself.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(self, bed: &Bed, settings: &[(String, String)]) -> Result<(Running, Value)> {
        match self {
            Self::NoTunnel => {
                let target = Side::B.wan(Family::V4);
                ping::wait_for_answer(&bed.a.namespace, target, WIRE)?;
                Ok((Running { target, processes: Vec::new() }, Value::Null))
            }
            Self::Stoq(port) => start_stoq(bed, port, settings),
            Self::Peer(peer) => Ok((peer.start(bed)?, json!({ "version": peer.version() }))),
        }
    }
}

/// As all tunnels here: IPv6 outside, IPv4 inside.
fn configured(port: &str, settings: &[(String, String)]) -> NodeConfig {
    let mut config = NodeConfig::new(port);
    config.over(&[Family::V6]);
    for (key, value) in settings {
        config.set(key, value);
    }
    config
}

fn start_stoq(bed: &Bed, port: &str, settings: &[(String, String)]) -> Result<(Running, Value)> {
    let deployment = Deployment::new(bed)?;
    let (a, b) = deployment.start_both(&configured(port, settings))?;
    let target = Side::B.tunnel(Family::V4);
    ping::wait_for_answer(&bed.a.namespace, target, LINK_UP)?;
    let status = a.status()?;
    let about = json!({
        "version": status["version"], "port": status["port"],
        "workers": status["workers"], "link": status["links"][0],
    });
    let processes = vec![(Side::A, a.process), (Side::B, b.process)];
    Ok((Running { target, processes }, about))
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTunnel => f.write_str("none"),
            Self::Stoq(port) => write!(f, "stoq-{port}"),
            Self::Peer(peer) => f.write_str(peer.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        assert_eq!(Subject::named("stoq").unwrap().len(), 3);
        assert_eq!(Subject::named("uring").unwrap(), [Subject::Stoq("uring")]);
        assert_eq!(Subject::named("none").unwrap(), [Subject::NoTunnel]);
        assert!(Subject::named("pigeon").unwrap_err().contains("nebula"));
    }
}
