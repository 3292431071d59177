//! The configuration file of a node in the bed. The tests set single keys of it, by the names of the
//! configuration reference.

use super::{DEVICE, METRICS, Mesh};
use crate::bed::{Family, STOQ_PORT, Side, WAN};
use crate::links::leaf;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What a node's file says: keys of the configuration reference with their values in TOML.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    settings: BTreeMap<String, String>,
    endpoints: Vec<Family>,
    allowed_ips: Vec<String>,
    leaves: u32,
}

impl NodeConfig {
    /// A node on `port`, which dials its peer over both families, IPv6 first.
    #[must_use]
    pub fn new(port: &str) -> Self {
        let mut config = Self {
            settings: BTreeMap::new(),
            endpoints: Family::BOTH.to_vec(),
            allowed_ips: Vec::new(),
            leaves: 0,
        };
        config.set("transport.port", &quoted(port)).set("transport.interface", &quoted(WAN));
        config
    }

    /// Sets a key to a value, written as in TOML.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Dials the peer over these families only.
    pub fn over(&mut self, families: &[Family]) -> &mut Self {
        self.endpoints = families.to_vec();
        self
    }

    /// What the peer may send from, instead of its tunnel addresses and its site.
    pub fn allow(&mut self, prefixes: &[String]) -> &mut Self {
        self.allowed_ips = prefixes.to_vec();
        self
    }

    /// Has so many peers more, which dial this node: those of a [`crate::links::Crowd`].
    pub fn leaves(&mut self, count: u32) -> &mut Self {
        self.leaves = count;
        self
    }

    pub(super) fn render(&self, side: Side, mesh: &Mesh, home: &Path) -> String {
        let identity = mesh.identity(side);
        let at = |folder: &Path, file: &str| quoted(&folder.join(file).to_string_lossy());
        let addresses =
            format!("[\"{}/24\", \"{}/64\"]", side.tunnel(Family::V4), side.tunnel(Family::V6));
        let mut keys: BTreeMap<&str, String> = BTreeMap::from([
            ("node.name", quoted(side.node())),
            ("identity.certificate", at(&identity, "node.crt")),
            ("identity.key", at(&identity, "node.key")),
            ("identity.authority", at(&identity, "ca.crt")),
            ("transport.listen", format!("[\"[::]:{STOQ_PORT}\"]")),
            ("transport.state", at(home, "state")),
            ("tunnel.device", quoted(DEVICE)),
            ("tunnel.addresses", addresses),
            ("control.socket", at(home, "stoqd.sock")),
            ("metrics.listen", quoted(METRICS)),
        ]);
        if !self.settings.contains_key("transport.workers") {
            keys.extend(core_of(side).map(|core| ("transport.cores", format!("[{core}]"))));
        }
        keys.extend(self.settings.iter().map(|(key, value)| (key.as_str(), value.clone())));
        let mut text = String::new();
        for (key, value) in keys {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        }
        text.push_str(&self.render_peer(side.other()));
        for (name, network) in (0..self.leaves).map(leaf) {
            let _ = write!(text, "\n[[peer]]\nname = \"{name}\"\nallowed_ips = [\"{network}\"]\n");
        }
        text
    }

    fn render_peer(&self, peer: Side) -> String {
        let endpoints: Vec<String> =
            self.endpoints.iter().map(|f| quoted(&peer.endpoint(*f).to_string())).collect();
        let own = [
            format!("{}/32", peer.tunnel(Family::V4)),
            format!("{}/128", peer.tunnel(Family::V6)),
            peer.site(Family::V4),
            peer.site(Family::V6),
        ];
        let allowed = if self.allowed_ips.is_empty() { own.as_slice() } else { &self.allowed_ips };
        let allowed: Vec<String> = allowed.iter().map(|prefix| quoted(prefix)).collect();
        format!(
            "\n[[peer]]\nname = {}\nendpoints = [{}]\nallowed_ips = [{}]\n",
            quoted(peer.node()),
            endpoints.join(", "),
            allowed.join(", ")
        )
    }
}

/// The core of an edge's worker. Both edges share this machine: by itself each would take the last
/// core, which two hosts would never do.
#[must_use]
pub fn core_of(side: Side) -> Option<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let place = match side {
        Side::A => 0,
        Side::B => 1,
    };
    (cores > 1).then_some(place)
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Binaries;

    #[test]
    fn a_set_key_replaces_the_default_and_the_peer_is_the_other_edge() {
        let binaries = Binaries { stoqd: "stoqd".into(), stoqctl: "stoqctl".into() };
        let mesh = Mesh { folder: "/keys".into(), binaries };
        let mut config = NodeConfig::new("mio");
        config
            .set("tunnel.mtu", "1400")
            .set("metrics.listen", "\"127.0.0.1:1\"")
            .over(&[Family::V4]);
        let text = config.render(Side::A, &mesh, Path::new("/home"));
        assert!(text.contains("tunnel.mtu = 1400\n"));
        assert!(text.contains("metrics.listen = \"127.0.0.1:1\"\n"));
        assert!(text.contains("name = \"edge-b\"\nendpoints = [\"10.99.0.2:9292\"]\n"));
        assert!(text.contains("\"10.2.0.0/16\""));
    }
}
