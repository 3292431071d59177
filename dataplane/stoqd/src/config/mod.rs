//! The configuration file: one TOML file, read at the start and at every reload.
//!
//! Owns the typed form ([`Config`]), its checks, the table of keys ([`KEYS`]) from which
//! `docs/configuration.md` is made, and the comparison of two versions. Called by the daemon, by
//! `stoqd --check` and by the broker, which reads the file itself so that it need not believe what
//! the rest of the daemon says.
//!
//! Reading goes in three steps, each with the line of what it refuses: the keys are compared with
//! the table, the values are read into their types, and the whole is checked for sense.

mod address;
mod check;
mod error;
mod keys;
mod locate;
mod sections;
mod xdp;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use address::{InterfaceAddress, Prefix, PrefixError};
pub use check::{check_peer, overlapping, valid_node_name};
pub use error::{ConfigError, Problem};
pub use keys::{KEYS, Key, reference};
pub use sections::{
    Allowed, Auto, Control, Identity, Limits, Log, LogFormat, LogLevel, Metrics, Node, Offload,
    Peer, PortChoice, Recovery, Routes, SenderChoice, Service, Tier, Transport, Tunnel,
};
pub use xdp::Xdp;

/// Largest configuration file in bytes (4 MiB): 10,000 peers with a few prefixes each.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// The whole file. Sections and keys are explained in [`KEYS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[identity]`
    pub identity: Identity,
    /// `[transport]`
    #[serde(default)]
    pub transport: Transport,
    /// `[xdp]`
    #[serde(default)]
    pub xdp: Xdp,
    /// `[tunnel]`; without it no device is made and only streams are carried.
    #[serde(default)]
    pub tunnel: Option<Tunnel>,
    /// `[control]`
    #[serde(default)]
    pub control: Control,
    /// `[metrics]`; without it nothing listens.
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// `[log]`
    #[serde(default)]
    pub log: Log,
    /// `[limits]`
    #[serde(default)]
    pub limits: Limits,
    /// `[tier]`
    #[serde(default)]
    pub tier: Tier,
    /// `[[peer]]`, any number of times.
    #[serde(default, rename = "peer")]
    pub peers: Vec<Peer>,
    /// `[[service]]`, any number of times.
    #[serde(default, rename = "service")]
    pub services: Vec<Service>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every problem found, with file and line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = File::open(path).map_err(|error| ConfigError::whole(path, unreadable(error)))?;
        Self::load_open(path, file)
    }

    /// Reads and checks a file that is open already: the broker opens it for a daemon whose user
    /// may not. `path` is only named in errors.
    ///
    /// # Errors
    /// Every problem found, with file and line.
    pub fn load_open(path: &Path, file: File) -> Result<Self, ConfigError> {
        let text = read_bounded(path, file).map_err(|problem| ConfigError::whole(path, problem))?;
        Self::parse(path, &text)
    }

    /// Reads and checks the text of a file; `path` is only named in errors.
    ///
    /// # Errors
    /// Every problem found, with file and line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let refuse = |problems| ConfigError { path: path.to_owned(), problems };
        let places = locate::Places::of(text).map_err(|problem| refuse(vec![problem]))?;
        let unknown = places.unknown_keys();
        if !unknown.is_empty() {
            return Err(refuse(unknown));
        }
        let config: Self =
            toml::from_str(text).map_err(|error| refuse(vec![places.typed(&error)]))?;
        let problems = check::check(&config, &places);
        if problems.is_empty() { Ok(config) } else { Err(refuse(problems)) }
    }

    /// Names the keys whose values differ and that take effect only after a restart.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Vec<&'static str> {
        KEYS.iter()
            .filter(|key| !key.reloadable && old.value(key.name) != new.value(key.name))
            .map(|key| key.name)
            .collect()
    }

    /// What is in force once a daemon that runs with this has read `new`: the keys that need a restart stay.
    #[must_use]
    pub fn reloaded(&self, new: Self) -> Self {
        let (running, tunnel) = (self.clone(), new.tunnel);
        let routes = tunnel.map_or(Routes::Auto, |tunnel| tunnel.routes);
        Self {
            node: running.node,
            identity: Identity { policy: running.identity.policy, ..new.identity },
            transport: running.transport,
            tunnel: running.tunnel.map(|tunnel| Tunnel { routes, ..tunnel }),
            control: Control { socket: running.control.socket, ..new.control },
            metrics: running.metrics,
            log: Log { format: running.log.format, ..new.log },
            limits: running.limits,
            xdp: new.xdp,
            tier: new.tier,
            peers: new.peers,
            services: new.services,
        }
    }

    /// The value of a key, such as `tunnel.mtu`; null if its section is absent.
    fn value(&self, name: &str) -> serde_json::Value {
        let whole = serde_json::to_value(self).unwrap_or_default();
        let pointer = format!("/{}", name.replace('.', "/"));
        whole.pointer(&pointer).cloned().unwrap_or_default()
    }
}

fn unreadable(error: io::Error) -> String {
    format!("expected a readable file, got: {error}; look at path and mode")
}

fn read_bounded(path: &Path, file: File) -> Result<String, String> {
    let meta = file.metadata().map_err(unreadable)?;
    if nix::unistd::geteuid().is_root() && (meta.mode() & 0o022 != 0 || meta.uid() != 0) {
        let (uid, mode) = (meta.uid(), meta.mode() & 0o777);
        return Err(format!(
            "expected a file that only root can write, got owner {uid} and mode {mode:04o}; \
             run `chown root {path} && chmod go-w {path}`",
            path = path.display()
        ));
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(format!("expected at most {MAX_FILE_BYTES} bytes, got more; remove peers"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
