//! What `status` shows. The names of the fields are an interface for scripts: they stay.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Most heads in a status (some 40 kB): one of each of 16 logs, or 16 of one. Whoever asks every few seconds
/// sees the smaller trees too, before larger ones come.
pub const HEADS_MAX: usize = 16;

/// The state of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// The daemon's version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// The port that carries the packets.
    pub port: Port,
    /// One for each worker, by index.
    pub workers: Vec<Worker>,
    /// One for each peer.
    pub links: Vec<Link>,
    /// Dropped packets by reason, since the start; reasons that never occurred may be left out.
    pub drops: BTreeMap<String, u64>,
    /// Number of the pushed snapshot that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<u64>,
    /// Number of the mesh bundle that is in force: the height of the ledger that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<u64>,
    /// Sequence of the revocation set that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_sequence: Option<u64>,
    /// This node's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Signed heads of certificate logs that peers and the control plane have shown, in base64, at most
    /// [`HEADS_MAX`]: whether each goes on from the others is for the control plane to ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<String>,
    /// What the operator should mend, each with the command.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// This node's certificate, as far as a control plane needs it to renew in time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whom it names: `stoq://MESH/NODE`.
    pub node: String,
    /// What it is for: `node`, by its policy identifier.
    pub kind: String,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// Its start in seconds since the Unix epoch.
    pub not_before_s: u64,
    /// Its end in seconds since the Unix epoch.
    pub not_after_s: u64,
    /// SHA-256 of the node's two public keys, lower-case hexadecimal.
    pub keys: String,
    /// Which signatures are asked for: `hybrid` or `classical`.
    pub policy: String,
    /// Whether a proof that it is in its issuer's log came with it.
    pub logged: bool,
}

/// The selected port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// `xdp`, `uring` or `mio`.
    pub selected: String,
    /// How it works here, such as `gso+gro`.
    pub mode: String,
    /// The ports that were not taken, and why.
    pub passed_over: Vec<PassedOver>,
}

/// A port that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Its name.
    pub port: String,
    /// Why.
    pub reason: String,
}

/// One worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// The core that it is pinned to; none if the host refused.
    pub core: Option<usize>,
    /// Connections that it owns now.
    pub connections: u64,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The peer's name.
    pub peer: String,
    /// Its state.
    pub state: LinkState,
    /// The peer's address now, or the last one tried.
    pub endpoint: Option<SocketAddr>,
    /// The measured class of capacity.
    pub tier: Tier,
    /// The key exchange of the handshake; empty until there was one.
    pub key_exchange: String,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u64,
    /// Largest datagram payload now, in bytes.
    pub datagram_max: u64,
    /// Inner bytes sent.
    pub tx_bytes: u64,
    /// Inner bytes received.
    pub rx_bytes: u64,
    /// For how many seconds the peer's certificate has expired, where policy takes it all the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub expired_s: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// No connection yet; dialling or waiting to be dialled.
    Connecting,
    /// It carries packets.
    Up,
    /// One end said goodbye.
    Draining,
    /// It had a connection and lost it.
    Down,
}

/// The nominal class of capacity of a link.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Tier {
    /// Below 80 Mbit/s of UDP payload, or not measured yet.
    #[default]
    #[serde(rename = "floor")]
    Floor,
    /// From 80 Mbit/s.
    #[serde(rename = "100M")]
    M100,
    /// From 800 Mbit/s.
    #[serde(rename = "1G")]
    G1,
    /// From 2000 Mbit/s.
    #[serde(rename = "2.5G")]
    G2_5,
    /// From 8000 Mbit/s.
    #[serde(rename = "10G")]
    G10,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the interface document, field by field.
    const EXAMPLE: &str = r#"
    { "node": "edge-a", "version": "0.1.0", "uptime_s": 12,
      "port": { "selected": "uring", "mode": "gso+gro",
                "passed_over": [ { "port": "xdp", "reason": "..." } ] },
      "workers": [ { "core": 1, "connections": 1 } ],
      "links": [ { "peer": "edge-b", "state": "up", "endpoint": "[fd00:99::2]:9292", "tier": "1G",
                   "key_exchange": "X25519MLKEM768", "rtt_us": 310, "datagram_max": 1350,
                   "tx_bytes": 0, "rx_bytes": 0 } ],
      "drops": { "no_route": 0 } }"#;

    #[test]
    fn the_documented_example_is_read_and_written_unchanged() {
        let status: Status = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(status.links[0].state, LinkState::Up);
        let mut expected: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
        expected["warnings"] = serde_json::json!([]);
        assert_eq!(serde_json::to_value(&status).unwrap(), expected);
    }

    #[test]
    fn tiers_are_ordered_and_named_as_documented() {
        let all = [Tier::Floor, Tier::M100, Tier::G1, Tier::G2_5, Tier::G10];
        assert!(all.is_sorted());
        let names = serde_json::to_string(&all).unwrap();
        assert_eq!(names, r#"["floor","100M","1G","2.5G","10G"]"#);
    }
}
